using System.Buffers.Binary;
using System.Net.Sockets;
using System.Text;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Microsoft.Extensions.Logging.Abstractions;
using Skiff.Ttrpc.Wire;

namespace Skiff.Ttrpc.Tests;

public sealed class ServerTests : IAsyncLifetime
{
    private const string Service = "skiff.test.Echo";
    private static readonly TimeSpan _patience = TimeSpan.FromSeconds(30);

    private readonly string _folder = Directory.CreateTempSubdirectory("skiff-ttrpc-").FullName;
    private readonly TaskCompletionSource _held = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _cancelled = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private TtrpcServer _server = null!;

    private string Address => Path.Combine(_folder, "s");

    public ValueTask InitializeAsync()
    {
        _server = Serve(Address, 0);
        return ValueTask.CompletedTask;
    }

    public async ValueTask DisposeAsync()
    {
        await _server.DisposeAsync();
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public async Task five_hundred_calls_at_once_get_their_own_answers()
    {
        using var client = await TtrpcClient.ConnectAsync(Address);
        var calls = Enumerable.Range(0, 500).Select(i => EchoAsync(client, $"call {i}")).ToList();
        for (var i = 0; i < calls.Count; i++)
        {
            Assert.Equal($"call {i}", (await calls[i].WaitAsync(_patience)).Value!.Value);
        }
    }

    [Fact]
    public async Task a_call_that_waits_holds_up_no_other()
    {
        using var client = await TtrpcClient.ConnectAsync(Address);
        var waiting = client.CallAsync(Service, "Hold", new StringValue(), StringValue.Parser);
        Assert.Equal("x", (await EchoAsync(client, "x").WaitAsync(_patience)).Value!.Value);
        Assert.False(waiting.IsCompleted);
        _held.SetResult();
        Assert.Equal("held", (await waiting.WaitAsync(_patience)).Value!.Value);
    }

    [Fact]
    public async Task a_deadline_is_answered_and_reaches_the_handler()
    {
        using var client = await TtrpcClient.ConnectAsync(Address);
        var result = await client.CallAsync(Service, "Hold", new StringValue(), StringValue.Parser, TimeSpan.FromMilliseconds(30)).WaitAsync(_patience);
        Assert.Equal(TtrpcCode.DeadlineExceeded, result.Error!.Code);
        await _cancelled.Task.WaitAsync(_patience);
    }

    [Fact]
    public async Task a_connection_that_ends_cancels_its_calls()
    {
        var client = await TtrpcClient.ConnectAsync(Address);
        var waiting = client.CallAsync(Service, "Hold", new StringValue(), StringValue.Parser);
        client.Dispose();
        Assert.Equal(TtrpcCode.Unavailable, (await waiting.WaitAsync(_patience)).Error!.Code);
        await _cancelled.Task.WaitAsync(_patience);
    }

    [Theory]
    [InlineData("no.such.Service", "Echo", TtrpcCode.Unimplemented, "service no.such.Service is not served here")]
    [InlineData(Service, "Nothing", TtrpcCode.Unimplemented, "has no method Nothing")]
    [InlineData(Service, "Throw", TtrpcCode.Unknown, "thrown on purpose")]
    [InlineData(Service, "Fail", TtrpcCode.NotFound, "not found on purpose")]
    [InlineData(Service, "Large", TtrpcCode.ResourceExhausted, "the limit is 4194304")]
    public async Task a_failure_has_its_code_and_reason_and_the_connection_lives(string service, string method, TtrpcCode code, string reason)
    {
        using var client = await TtrpcClient.ConnectAsync(Address);
        var result = await client.CallAsync(service, method, new StringValue(), StringValue.Parser).WaitAsync(_patience);
        Assert.Equal(code, result.Error!.Code);
        Assert.Contains(reason, result.Error.Message, StringComparison.Ordinal);
        Assert.Equal("x", (await EchoAsync(client, "x").WaitAsync(_patience)).Value!.Value);
    }

    [Fact]
    public async Task a_request_over_the_limit_is_not_sent()
    {
        using var client = await TtrpcClient.ConnectAsync(Address);
        Assert.Equal(TtrpcCode.ResourceExhausted, (await EchoAsync(client, new string('x', 5 << 20))).Error!.Code);
    }

    [Fact]
    public async Task metadata_arrives_with_repeated_keys()
    {
        var request = new Request { Service = Service, Method = "Metadata" };
        request.Metadata.Add(new KeyValue { Key = "a", Value = "1" });
        request.Metadata.Add(new KeyValue { Key = "a", Value = "2" });
        using var socket = Connect();
        Send(socket, 1, 1, 0, request.ToByteArray());
        Assert.Equal("a=1;a=2", StringValue.Parser.ParseFrom(Receive(socket).Response.Payload).Value);
    }

    [Fact]
    public void an_oversized_frame_is_refused_and_the_connection_lives()
    {
        using var socket = Connect();
        Send(socket, 1, 1, 0, new byte[(4 << 20) + 1]);
        Assert.Equal((1u, (int)TtrpcCode.ResourceExhausted), Status(Receive(socket)));
        Send(socket, 3, 1, 0, Echo("x"));
        Assert.Equal((3u, 0), Status(Receive(socket)));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void a_streaming_call_is_unimplemented_and_its_data_is_passed_over(byte flags)
    {
        using var socket = Connect();
        Send(socket, 1, 1, flags, Echo("x"));
        Assert.Equal((1u, (int)TtrpcCode.Unimplemented), Status(Receive(socket)));
        Send(socket, 1, 3, 0, new byte[100]);
        Send(socket, 3, 1, 0, Echo("x"));
        Assert.Equal((3u, 0), Status(Receive(socket)));
    }

    [Theory]
    [InlineData(2u)]
    [InlineData(3u)]
    [InlineData(0u)]
    public void a_stream_number_that_is_even_or_used_is_refused(uint stream)
    {
        using var socket = Connect();
        Send(socket, 3, 1, 0, Echo("x"));
        Assert.Equal((3u, 0), Status(Receive(socket)));
        Send(socket, stream, 1, 0, Echo("x"));
        Assert.Equal((stream, (int)TtrpcCode.InvalidArgument), Status(Receive(socket)));
    }

    [Fact]
    public void a_frame_of_unknown_type_is_passed_over()
    {
        using var socket = Connect();
        Send(socket, 1, 77, 255, new byte[1000]);
        Send(socket, 1, 1, 0, Echo("x"));
        Assert.Equal((1u, 0), Status(Receive(socket)));
    }

    [Fact]
    public void a_request_that_is_no_protobuf_is_refused()
    {
        using var socket = Connect();
        Send(socket, 1, 1, 0, Encoding.ASCII.GetBytes("\u007f\u007f\u007f\u007f"));
        Assert.Equal((1u, (int)TtrpcCode.InvalidArgument), Status(Receive(socket)));
        Send(socket, 3, 1, 0, new Request { Service = Service, Method = "Echo", Payload = ByteString.CopyFrom(0x0a, 0xff) }.ToByteArray());
        Assert.Equal((3u, (int)TtrpcCode.InvalidArgument), Status(Receive(socket)));
    }

    [Fact]
    public async Task a_header_that_promises_what_never_comes_costs_nothing()
    {
        var before = GC.GetTotalAllocatedBytes(precise: true);
        for (var i = 0; i < 100; i++)
        {
            using var socket = Connect();
            var header = new byte[10];
            BinaryPrimitives.WriteUInt32BigEndian(header, 4 << 20);
            header[7] = 1;
            header[8] = 1;
            _ = socket.Send(header);
        }

        using var client = await TtrpcClient.ConnectAsync(Address);
        Assert.Equal("x", (await EchoAsync(client, "x").WaitAsync(_patience)).Value!.Value);
        Assert.True(GC.GetTotalAllocatedBytes(precise: true) - before < 50 << 20);
    }

    [Fact]
    public async Task ten_thousand_random_frames_leave_the_server_up()
    {
        var random = new Random(20261124);
        var socket = Connect();
        for (var i = 0; i < 10_000; i++)
        {
            var data = new byte[random.Next(200)];
            random.NextBytes(data);
            if (i % 3 == 0)
            {
                data = Echo(Convert.ToBase64String(data));
                data[random.Next(data.Length)] ^= (byte)random.Next(256);
            }

            try
            {
                if (i % 50 == 49)
                {
                    _ = socket.Send(data); // no header at all: what follows is out of step
                    throw new SocketException();
                }

                Send(socket, (uint)random.Next(), (byte)random.Next(5), (byte)random.Next(256), data);
                DrainNow(socket);
            }
            catch (SocketException)
            {
                socket.Dispose();
                socket = Connect();
            }
        }

        socket.Dispose();
        using var client = await TtrpcClient.ConnectAsync(Address);
        Assert.Equal("alive", (await EchoAsync(client, "alive").WaitAsync(_patience)).Value!.Value);
    }

    [Fact]
    public void a_peer_of_another_user_is_turned_away()
    {
        var path = Path.Combine(_folder, "other");
        var other = Serve(path, 4711);
        using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        socket.Connect(new UnixDomainSocketEndPoint(path));
        socket.ReceiveTimeout = (int)_patience.TotalMilliseconds;
        Assert.Equal(0, socket.Receive(new byte[1]));
        Assert.NotNull(other);
    }

    [Fact]
    public async Task a_stop_lets_calls_in_flight_be_answered()
    {
        using var client = await TtrpcClient.ConnectAsync(Address);
        var waiting = client.CallAsync(Service, "Hold", new StringValue(), StringValue.Parser);
        _ = await EchoAsync(client, "x").WaitAsync(_patience); // so the first has arrived
        var stopped = _server.StopAsync(CancellationToken.None);
        Assert.False(stopped.IsCompleted);
        _held.SetResult();
        Assert.Equal("held", (await waiting.WaitAsync(_patience)).Value!.Value);
        await stopped.WaitAsync(_patience);
        _ = await Assert.ThrowsAnyAsync<SocketException>(() => TtrpcClient.ConnectAsync(Address));
    }

    private static Task<TtrpcResult<StringValue>> EchoAsync(TtrpcClient client, string text) =>
        client.CallAsync(Service, "Echo", new StringValue { Value = text }, StringValue.Parser);

    private static byte[] Echo(string text) =>
        new Request { Service = Service, Method = "Echo", Payload = new StringValue { Value = text }.ToByteString() }.ToByteArray();

    private static void Send(Socket socket, uint stream, byte type, byte flags, byte[] data)
    {
        var frame = new byte[10 + data.Length];
        new FrameHeader((uint)data.Length, stream, (FrameType)type, flags).Write(frame);
        data.CopyTo(frame, 10);
        for (var done = 0; done < frame.Length;)
        {
            done += socket.Send(frame.AsSpan(done));
        }
    }

    private static (uint Stream, int Code) Status((FrameHeader Header, Response Response) answer) => (answer.Header.Stream, answer.Response.Status?.Code ?? 0);

    private static (FrameHeader Header, Response Response) Receive(Socket socket)
    {
        var header = FrameHeader.Read(Exactly(socket, FrameHeader.Size));
        Assert.Equal(FrameType.Response, header.Type);
        return (header, Response.Parser.ParseFrom(Exactly(socket, (int)header.Length)));
    }

    private static byte[] Exactly(Socket socket, int count)
    {
        var all = new byte[count];
        for (var done = 0; done < count;)
        {
            var got = socket.Receive(all.AsSpan(done));
            Assert.NotEqual(0, got);
            done += got;
        }

        return all;
    }

    private static void DrainNow(Socket socket)
    {
        var buffer = new byte[4096];
        while (socket.Available > 0)
        {
            _ = socket.Receive(buffer);
        }
    }

    private TtrpcServer Serve(string path, uint user)
    {
        var listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        listener.Bind(new UnixDomainSocketEndPoint(path));
        listener.Listen(64);
        var server = new TtrpcServer(listener, user, NullLogger.Instance);
        server.Register(Service, new TtrpcService()
            .Add("Echo", StringValue.Parser, (StringValue request, TtrpcContext _, CancellationToken _) => Task.FromResult<TtrpcResult<StringValue>>(request))
            .Add("Hold", StringValue.Parser, async (StringValue _, TtrpcContext _, CancellationToken cancellation) =>
            {
                try
                {
                    await _held.Task.WaitAsync(cancellation);
                    return (TtrpcResult<StringValue>)new StringValue { Value = "held" };
                }
                catch (OperationCanceledException)
                {
                    _cancelled.SetResult();
                    throw;
                }
            })
            .Add("Throw", StringValue.Parser, (StringValue _, TtrpcContext _, CancellationToken _) =>
                Task.FromException<TtrpcResult<StringValue>>(new InvalidOperationException("thrown on purpose")))
            .Add("Fail", StringValue.Parser, (StringValue _, TtrpcContext _, CancellationToken _) =>
                Task.FromResult<TtrpcResult<StringValue>>(new TtrpcError(TtrpcCode.NotFound, "not found on purpose")))
            .Add("Large", StringValue.Parser, (StringValue _, TtrpcContext _, CancellationToken _) =>
                Task.FromResult<TtrpcResult<StringValue>>(new StringValue { Value = new string('x', 5 << 20) }))
            .Add("Metadata", StringValue.Parser, (StringValue _, TtrpcContext context, CancellationToken _) =>
                Task.FromResult<TtrpcResult<StringValue>>(new StringValue { Value = string.Join(';', context.Metadata.Select(m => $"{m.Key}={m.Value}")) })));
        server.Start();
        return server;
    }

    private Socket Connect()
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified) { ReceiveTimeout = (int)_patience.TotalMilliseconds };
        socket.Connect(new UnixDomainSocketEndPoint(Address));
        return socket;
    }
}
