using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Logging;

namespace Skiff.Kubernetes.Tests;

/// <summary>An HTTP server on a loopback port that the system chooses; a test says what it answers.</summary>
internal sealed class ScriptedServer : IAsyncDisposable
{
    private readonly WebApplication _app;

    private ScriptedServer(WebApplication app) => _app = app;

    public required Func<HttpContext, Task> Answer { get; set; }

    public Uri Address => new(_app.Urls.Single());

    public static async Task<ScriptedServer> StartAsync(Func<HttpContext, Task> answer)
    {
        var builder = WebApplication.CreateSlimBuilder();
        _ = builder.Logging.ClearProviders();
        var app = builder.Build();
        app.Urls.Add("http://127.0.0.1:0");
        var server = new ScriptedServer(app) { Answer = answer };
        app.Run(context => server.Answer(context));
        await app.StartAsync();
        return server;
    }

    public KubeClient Client(TimeProvider? time = null) =>
        new(new SocketsHttpHandler(), Address, null, null, "skiff-test/1.0", time ?? TimeProvider.System);

    public async ValueTask DisposeAsync()
    {
        using var now = new CancellationTokenSource();
        await now.CancelAsync();
        await _app.StopAsync(now.Token);
        await _app.DisposeAsync();
    }
}

internal static class Answers
{
    /// <summary>Cuts the connection in the middle of what it is doing.</summary>
    public static void Cut(this HttpContext context) => context.Abort();

    public static bool IsWatch(this HttpContext context) => context.Request.Query.ContainsKey("watch");

    public static async Task JsonAsync(this HttpContext context, int status, string json)
    {
        context.Response.StatusCode = status;
        context.Response.ContentType = "application/json";
        await context.Response.WriteAsync(json);
    }

    public static Task ListAsync(this HttpContext context, int version, params string[] items) =>
        context.JsonAsync(200, $$"""{"kind":"ThingList","metadata":{"resourceVersion":"{{version}}"},"items":[{{string.Join(',', items)}}]}""");

    public static async Task SendAsync(this HttpContext context, string text)
    {
        await context.Response.WriteAsync(text);
        await context.Response.Body.FlushAsync();
    }

    /// <summary>Sends the head of a response, so that the client's request has begun well.</summary>
    public static Task BeginAsync(this HttpContext context)
    {
        context.Features.Get<IHttpResponseBodyFeature>()!.DisableBuffering();
        return context.Response.StartAsync();
    }

    public static string Item(string name, int version, int size = 0) =>
        $$"""{"apiVersion":"skiff.test/v1","kind":"Thing","metadata":{"name":"{{name}}","uid":"u-{{name}}","resourceVersion":"{{version}}","managedFields":[{"manager":"x"}]},"spec":{"size":{{size}},"unknown":{"a":[1]} } }""";

    public static string Event(string type, string item) => $$"""{"type":"{{type}}","object":{{item}}}""" + "\n";

    public static string Bookmark(int version) => Event("BOOKMARK", $$"""{"kind":"Thing","apiVersion":"skiff.test/v1","metadata":{"resourceVersion":"{{version}}"} }""");

    public static string ErrorEvent(int code, string reason) =>
        Event("ERROR", $$"""{"kind":"Status","apiVersion":"v1","status":"Failure","message":"said so","reason":"{{reason}}","code":{{code}}}""");

    /// <summary>Waits until the client is gone.</summary>
    public static async Task HangAsync(this HttpContext context)
    {
        var gone = new TaskCompletionSource();
        await using (context.RequestAborted.Register(gone.SetResult))
        {
            await gone.Task;
        }
    }
}
