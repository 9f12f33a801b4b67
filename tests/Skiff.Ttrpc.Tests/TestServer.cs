using System.Net.Sockets;
using System.Runtime.InteropServices;
using Google.Protobuf.WellKnownTypes;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Time.Testing;

namespace Skiff.Ttrpc.Tests;

/// <summary>A handler on texts.</summary>
internal delegate Task<TtrpcResult<StringValue>> TextHandler(string text, TtrpcContext context, CancellationToken cancellation);

/// <summary>A server in a folder of its own, with the method Echo and those of the test.</summary>
internal sealed partial class TestServer : IAsyncDisposable
{
    public const string Service = "skiff.test.Calls";
    public const string OtherName = "skiff.test.SameCalls";

    private readonly string _folder = Directory.CreateTempSubdirectory("skiff-ttrpc-").FullName;

    public TestServer(uint? peerUser = null, params (string Method, TextHandler Handler)[] methods)
    {
        Path = System.IO.Path.Combine(_folder, "s");
        Server = new TtrpcServer(Listen(Path), peerUser ?? EffectiveUser(), Log, Time);
        var service = new TtrpcService().Add("Raw", (payload, _, _) => Task.FromResult<TtrpcResult<Google.Protobuf.ByteString>>(payload));
        foreach (var (method, handler) in methods.Append(("Echo", (text, _, _) => Text(text))))
        {
            _ = service.Add<StringValue, StringValue>(method, StringValue.Parser, (request, context, cancellation) => handler(request.Value, context, cancellation));
        }

        Server.Register(Service, service);
        Server.Register(OtherName, service);
        Server.Start();
    }

    /// <summary>Longer than anything takes here, unless it hangs.</summary>
    public static TimeSpan Patience { get; } = TimeSpan.FromSeconds(60);

    public string Path { get; }

    public TtrpcServer Server { get; }

    public Entries Log { get; } = new();

    public FakeTimeProvider Time { get; } = new();

    public static TestServer With(string method, TextHandler handler) => new(methods: (method, handler));

    public static Task<TtrpcResult<StringValue>> Text(string text) => Task.FromResult<TtrpcResult<StringValue>>(new StringValue { Value = text });

    public static Socket Listen(string path)
    {
        var listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        listener.Bind(new UnixDomainSocketEndPoint(path));
        listener.Listen(128);
        return listener;
    }

    [LibraryImport("libc", EntryPoint = "geteuid")]
    public static partial uint EffectiveUser();

    public async Task<Peer> ConnectAsync() => await Peer.ConnectAsync(Path);

    public async Task<Caller> CallerAsync() => new(await TtrpcClient.ConnectAsync(Path, Time));

    public async ValueTask DisposeAsync()
    {
        await Server.DisposeAsync();
        Directory.Delete(_folder, recursive: true);
    }

    /// <summary>What the server logged.</summary>
    internal sealed class Entries : ILogger
    {
        private readonly Lock _lock = new();
        private readonly List<string> _all = [];
        private readonly Signal _any = new();

        public IReadOnlyList<string> All
        {
            get
            {
                lock (_lock)
                {
                    return [.. _all];
                }
            }
        }

        /// <summary>The first entry, as soon as there is one.</summary>
        public async Task<string> FirstAsync()
        {
            await _any.WaitAsync(TestContext.Current.CancellationToken);
            return All[0];
        }

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            lock (_lock)
            {
                _all.Add($"{logLevel} {formatter(state, exception)} {exception?.Message}".TrimEnd());
            }

            _any.Set();
        }
    }
}

/// <summary>A client for methods on texts.</summary>
internal sealed class Caller(TtrpcClient client) : IDisposable
{
    public TtrpcClient Client => client;

    public Task<TtrpcResult<StringValue>> CallAsync(
        string method, string text = "", TimeSpan? timeout = null, string service = TestServer.Service, CancellationToken cancellation = default) =>
        client.CallAsync(service, method, new StringValue { Value = text }, StringValue.Parser, timeout, cancellation).WaitAsync(TestServer.Patience, CancellationToken.None);

    public async Task AssertAliveAsync() => Assert.Equal("alive", (await CallAsync("Echo", "alive")).Value?.Value);

    public void Dispose() => client.Dispose();
}

/// <summary>Something that one side does and the other waits for.</summary>
internal sealed class Signal
{
    private readonly TaskCompletionSource _set = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public void Set() => _set.TrySetResult();

    public Task WaitAsync(CancellationToken cancellation = default) => _set.Task.WaitAsync(TestServer.Patience, cancellation);
}
