using System.Net.Sockets;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Microsoft.Extensions.Time.Testing;
using Skiff.Ttrpc.Wire;

namespace Skiff.Ttrpc.Tests;

/// <summary>The client against a server that the test plays itself.</summary>
public sealed class ClientTests : IAsyncLifetime
{
    private readonly string _folder = Directory.CreateTempSubdirectory("skiff-ttrpc-").FullName;
    private readonly FakeTimeProvider _time = new();
    private Socket _listener = null!;
    private Caller _caller = null!;
    private Peer _server = null!;

    private string Address => Path.Combine(_folder, "s");

    public async ValueTask InitializeAsync()
    {
        _listener = TestServer.Listen(Address);
        _caller = new Caller(await TtrpcClient.ConnectAsync(Address, _time));
        _server = new Peer(await _listener.AcceptAsync());
    }

    public ValueTask DisposeAsync()
    {
        _caller.Dispose();
        _server.Dispose();
        _listener.Dispose();
        Directory.Delete(_folder, recursive: true);
        return ValueTask.CompletedTask;
    }

    [Fact]
    public async Task a_connection_that_ends_fails_all_its_calls_and_those_that_come_after()
    {
        var calls = Enumerable.Range(0, 50).Select(_ => _caller.CallAsync("Echo", timeout: TimeSpan.FromHours(1))).ToArray();
        for (var i = 0; i < calls.Length; i++)
        {
            _ = await _server.ReceiveAsync();
        }

        _server.Dispose();
        foreach (var result in await Task.WhenAll(calls))
        {
            Assert.Equal(new TtrpcError(TtrpcCode.Unavailable, "skiff.test.Calls/Echo: the connection has ended"), result.Error);
        }

        Assert.Equal(TtrpcCode.Unavailable, (await _caller.CallAsync("Echo")).Error?.Code);
        Assert.True(_caller.Client.IsClosed);
    }

    [Fact]
    public async Task a_server_that_dies_in_the_middle_of_an_answer_has_not_answered()
    {
        var call = _caller.CallAsync("Echo");
        _ = await _server.ReceiveAsync();
        await _server.SendAsync(Answer(1, "x")[..^1]);
        _server.Dispose();
        Assert.Equal(TtrpcCode.Unavailable, (await call).Error?.Code);
    }

    [Fact]
    public async Task disposing_fails_the_calls_in_flight()
    {
        var call = _caller.CallAsync("Echo");
        _ = await _server.ReceiveAsync();
        _caller.Dispose();
        Assert.Equal(TtrpcCode.Unavailable, (await call).Error?.Code);
    }

    [Fact]
    public async Task answers_find_their_calls_in_any_order_and_stream_numbers_are_odd_and_grow()
    {
        var calls = Enumerable.Range(0, 200).Select(i => Task.Run(() => _caller.CallAsync("Echo", $"{i}"))).ToArray();
        var requests = new List<(uint Stream, string Text)>();
        for (var i = 0; i < calls.Length; i++)
        {
            var (stream, type, data) = await _server.ReceiveAsync();
            Assert.Equal(Peer.Request, type);
            requests.Add((stream, StringValue.Parser.ParseFrom(Request.Parser.ParseFrom(data).Payload).Value));
        }

        Assert.Equal(Enumerable.Range(0, 200).Select(i => (uint)(2 * i) + 1), requests.Select(r => r.Stream));
        foreach (var (stream, text) in Enumerable.Reverse(requests))
        {
            await _server.SendAsync(Answer(stream, $"to {text}"));
        }

        Assert.Equal(Enumerable.Range(0, 200).Select(i => $"to {i}"), (await Task.WhenAll(calls)).Select(r => r.Value?.Value));
    }

    [Fact]
    public async Task a_cancelled_call_is_forgotten_and_its_late_answer_dropped()
    {
        using var cancel = new CancellationTokenSource();
        var call = _caller.CallAsync("Echo", cancellation: cancel.Token);
        _ = await _server.ReceiveAsync();
        await cancel.CancelAsync();
        _ = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => call);

        var next = _caller.CallAsync("Echo");
        await _server.SendAsync(Answer(1, "late"));
        await _server.SendAsync(Answer(3, "in time"));
        Assert.Equal("in time", (await next).Value?.Value);
    }

    [Fact]
    public async Task a_cancelled_token_sends_nothing()
    {
        _ = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => _caller.CallAsync("Echo", cancellation: new CancellationToken(canceled: true)));
        _caller.Dispose();
        Assert.Equal(0, await _server.ReadToEndAsync());
    }

    [Fact]
    public async Task a_server_that_has_stopped_reading_holds_up_no_caller_beyond_its_patience()
    {
        var large = new string('x', 3 << 20); // more than the socket holds
        using var cancel = new CancellationTokenSource();
        var stuck = _caller.CallAsync("Echo", large, cancellation: cancel.Token);
        var behind = _caller.CallAsync("Echo", cancellation: cancel.Token);
        var impatient = _caller.CallAsync("Echo", timeout: TimeSpan.FromSeconds(1));
        await cancel.CancelAsync();
        _time.Advance(TimeSpan.FromSeconds(1));
        _ = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => stuck);
        _ = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => behind);
        Assert.Equal(TtrpcCode.DeadlineExceeded, (await impatient).Error?.Code);

        // When it reads again, the first frame comes whole and nothing of those given up meanwhile.
        var next = _caller.CallAsync("Echo", "next");
        Assert.Equal(1u, (await _server.ReceiveAsync()).Stream);
        var (stream, _, _) = await _server.ReceiveAsync();
        Assert.Equal(3u, stream);
        await _server.SendAsync(Answer(stream, "next"));
        Assert.Equal("next", (await next).Value?.Value);
    }

    [Fact]
    public async Task a_server_that_dies_without_having_read_fails_the_calls_that_wait_to_be_sent()
    {
        var calls = Enumerable.Range(0, 3).Select(_ => _caller.CallAsync("Echo", new string('x', 3 << 20))).ToArray();
        _server.Dispose();
        Assert.All(await Task.WhenAll(calls), result => Assert.Equal(TtrpcCode.Unavailable, result.Error?.Code));
    }

    [Fact]
    public async Task a_timeout_is_told_to_the_server_and_kept_without_it()
    {
        var call = _caller.CallAsync("Echo", timeout: TimeSpan.FromMilliseconds(1500));
        Assert.Equal(1_500_000_000, Request.Parser.ParseFrom((await _server.ReceiveAsync()).Data).TimeoutNano);
        _time.Advance(TimeSpan.FromMilliseconds(1499));
        Assert.False(call.IsCompleted);
        _time.Advance(TimeSpan.FromMilliseconds(1));
        Assert.Equal(TtrpcCode.DeadlineExceeded, (await call).Error?.Code);
    }

    [Fact]
    public async Task no_time_is_over_at_once_and_endless_time_is_no_timeout()
    {
        Assert.Equal(TtrpcCode.DeadlineExceeded, (await _caller.CallAsync("Echo", timeout: TimeSpan.Zero)).Error?.Code);
        Assert.Equal(TtrpcCode.DeadlineExceeded, (await _caller.CallAsync("Echo", timeout: TimeSpan.MinValue)).Error?.Code);
        foreach (var endless in new[] { Timeout.InfiniteTimeSpan, TimeSpan.MaxValue })
        {
            var call = _caller.CallAsync("Echo", timeout: endless);
            var (stream, _, data) = await _server.ReceiveAsync();
            Assert.Equal(0, Request.Parser.ParseFrom(data).TimeoutNano);
            await _server.SendAsync(Answer(stream, "x"));
            Assert.Equal("x", (await call).Value?.Value);
        }
    }

    [Fact]
    public async Task metadata_is_sent_in_lower_case_and_in_order()
    {
        _ = _caller.Client.CallAsync("s", "m", ByteString.Empty, metadata: [new("B", "1"), new("a", "2"), new("b", "3")]);
        var request = Request.Parser.ParseFrom((await _server.ReceiveAsync()).Data);
        Assert.Equal([("b", "1"), ("a", "2"), ("b", "3")], request.Metadata.Select(m => (m.Key, m.Value)));
    }

    [Fact]
    public async Task a_request_over_the_limit_fails_by_itself_and_is_not_sent()
    {
        Assert.Equal(TtrpcCode.ResourceExhausted, (await _caller.CallAsync("Echo", new string('x', 4 << 20))).Error?.Code);
        var next = _caller.CallAsync("Echo");
        Assert.Equal(1u, (await _server.ReceiveAsync()).Stream);
        await _server.SendAsync(Answer(1, "x"));
        Assert.Equal("x", (await next).Value?.Value);
    }

    [Fact]
    public async Task an_answer_over_the_limit_fails_its_call_and_no_other() =>
        await AssertFailsAloneAsync(stream => Peer.Frame(stream, Peer.Response, 0, new byte[(4 << 20) + 1]), TtrpcCode.ResourceExhausted);

    [Theory]
    [InlineData(Peer.Data)]
    [InlineData(Peer.Request)]
    [InlineData(77)]
    public async Task a_frame_that_is_no_response_fails_its_call_and_no_other(byte type) =>
        await AssertFailsAloneAsync(stream => Peer.Frame(stream, type, 0, [1, 2, 3]), TtrpcCode.Internal);

    [Fact]
    public async Task an_envelope_that_cannot_be_decoded_fails_its_call_and_no_other() =>
        await AssertFailsAloneAsync(stream => Peer.Frame(stream, Peer.Response, 0, [0xff, 0xff]), TtrpcCode.Internal);

    [Fact]
    public async Task an_answer_that_cannot_be_decoded_fails_its_call_and_no_other() =>
        await AssertFailsAloneAsync(
            stream => Peer.Frame(stream, Peer.Response, 0, new Response { Payload = ByteString.CopyFrom(0x0a, 0xff) }.ToByteArray()), TtrpcCode.Internal);

    [Fact]
    public async Task an_answer_without_a_status_is_a_good_one()
    {
        var call = _caller.CallAsync("Echo");
        _ = await _server.ReceiveAsync();
        await _server.SendAsync(1, Peer.Response, 0, []); // a Go server leaves out the status of a good answer, and the payload of an empty one
        Assert.Equal("", (await call).Value?.Value);
    }

    [Fact]
    public async Task frames_that_nobody_waits_for_are_passed_over()
    {
        var call = _caller.CallAsync("Echo");
        _ = await _server.ReceiveAsync();
        await _server.SendAsync(99, Peer.Response, 0, new byte[1000]);
        await _server.SendAsync(0, Peer.Data, 255, new byte[(4 << 20) + 1]);
        await _server.SendAsync(Answer(1, "x"));
        await _server.SendAsync(Answer(1, "again"));
        Assert.Equal("x", (await call).Value?.Value);
    }

    [Fact]
    public async Task connecting_where_nobody_listens_throws()
    {
        _ = await Assert.ThrowsAnyAsync<SocketException>(() => TtrpcClient.ConnectAsync(Path.Combine(_folder, "none")));
        _ = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => TtrpcClient.ConnectAsync(Address, new CancellationToken(canceled: true)));
    }

    private static byte[] Answer(uint stream, string text) => Peer.Frame(
        stream, Peer.Response, 0, new Response { Status = new Status(), Payload = new StringValue { Value = text }.ToByteString() }.ToByteArray());

    private async Task AssertFailsAloneAsync(Func<uint, byte[]> bad, TtrpcCode code)
    {
        var (failing, other) = (_caller.CallAsync("Echo"), _caller.CallAsync("Echo"));
        _ = await _server.ReceiveAsync();
        _ = await _server.ReceiveAsync();
        await _server.SendAsync(bad(1));
        await _server.SendAsync(Answer(3, "x"));
        Assert.Equal(code, (await failing).Error?.Code);
        Assert.Equal("x", (await other).Value?.Value);
    }
}
