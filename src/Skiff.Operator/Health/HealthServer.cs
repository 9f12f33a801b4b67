using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace Skiff.Operator.Health;

/// <summary>What the endpoints tell.</summary>
internal interface IHealthState
{
    /// <summary>What hangs; null while nothing does. An API server that cannot be reached is no reason: a restart would not help.</summary>
    public string? Hanging { get; }

    /// <summary>Why it is not ready; null when it is.</summary>
    public string? NotReady { get; }

    /// <summary>The figures, in Prometheus' text form.</summary>
    public string Metrics();
}

/// <summary>
/// <c>/healthz</c>: whether the process should go on (the body says what hangs). <c>/readyz</c>: whether it knows the present state.
/// <c>/metrics</c>: a few figures in Prometheus' text form. Plain HTTP, on all addresses.
/// </summary>
internal static class HealthServer
{
    /// <summary>Serves until cancelled.</summary>
    /// <param name="port">Where; 0 lets the system choose.</param>
    /// <param name="state">What is told.</param>
    /// <param name="loggers">Hear of what goes wrong.</param>
    /// <param name="listening">Hears of the port.</param>
    /// <param name="cancellation">Ends it.</param>
    /// <exception cref="IOException">The port is taken; the message says what to do.</exception>
    internal static async Task RunAsync(int port, IHealthState state, ILoggerFactory loggers, Action<int>? listening, CancellationToken cancellation)
    {
        // The empty builder brings neither configuration files, nor environment variables, nor anything that reflects.
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        _ = builder.WebHost.UseKestrelCore().ConfigureKestrel(o =>
        {
            o.AddServerHeader = false;
            o.ListenAnyIP(port);
            o.Limits.MaxConcurrentConnections = 50;
            o.Limits.MaxRequestBodySize = 0;
        });
        _ = builder.Services.AddSingleton(loggers);
        await using var app = builder.Build();
        app.Run(context => AnswerAsync(context, state));
        try
        {
            await app.StartAsync(cancellation).ConfigureAwait(false);
        }
        catch (IOException e)
        {
            throw new IOException($"port {port} cannot be used for /healthz, choose another --health-port: {e.Message}", e);
        }

        listening?.Invoke(new Uri(app.Urls.First()).Port);
        try
        {
            await Task.Delay(Timeout.Infinite, cancellation).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            // Until then a probe still gets its answer.
        }

        await app.StopAsync(CancellationToken.None).ConfigureAwait(false);
    }

    private static Task AnswerAsync(HttpContext context, IHealthState state)
    {
        var (code, text) = (context.Request.Method, context.Request.Path.Value) switch
        {
            ("GET" or "HEAD", "/healthz") => state.Hanging is { } hanging ? (503, hanging + "\n") : (200, "ok\n"),
            ("GET" or "HEAD", "/readyz") => state.NotReady is { } reason ? (503, reason + "\n") : (200, "ok\n"),
            ("GET" or "HEAD", "/metrics") => (200, state.Metrics()),
            _ => (404, "there are /healthz, /readyz and /metrics\n"),
        };
        context.Response.StatusCode = code;
        context.Response.ContentType = "text/plain; version=0.0.4; charset=utf-8";
        return context.Response.WriteAsync(text);
    }
}
