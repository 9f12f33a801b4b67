namespace Skiff.Ttrpc.Tests;

public sealed class FrameTests
{
    // Written out by hand from PROTOCOL.md and request.proto, so that a mistake shared by both of our ends shows.
    [Fact]
    public async Task a_call_looks_on_the_wire_as_the_protocol_says()
    {
        await using var server = new TestServer();
        using var peer = await server.ConnectAsync();
        await peer.SendAsync(
        [
            0, 0, 0, 30, 0, 0, 0, 7, 1, 0, // 30 bytes, stream 7, request
            0x0a, 16, .. "skiff.test.Calls"u8, 0x12, 4, .. "Echo"u8, 0x1a, 4, 0x0a, 2, .. "hi"u8,
        ]);
        Assert.Equal([0, 0, 0, 8, 0, 0, 0, 7, 2, 0, 0x0a, 0, 0x12, 4, 0x0a, 2, .. "hi"u8], await peer.ExactlyAsync(18));
    }

    [Fact]
    public async Task a_frame_may_arrive_byte_by_byte()
    {
        await using var server = new TestServer();
        using var peer = await server.ConnectAsync();
        foreach (var part in Peer.Frame(1, Peer.Request, 0, Peer.Call("Echo")))
        {
            await peer.SendAsync([part]);
        }

        Assert.Equal((1u, TtrpcCode.Ok), await peer.ReceiveCodeAsync());
    }

    [Fact]
    public async Task frames_may_arrive_glued_together()
    {
        await using var server = new TestServer();
        using var peer = await server.ConnectAsync();
        await peer.SendAsync([.. Enumerable.Range(0, 100).SelectMany(i => Peer.Frame((uint)(2 * i) + 1, Peer.Request, 0, Peer.Call("Echo")))]);
        var answered = new HashSet<uint>();
        for (var i = 0; i < 100; i++)
        {
            var (stream, code) = await peer.ReceiveCodeAsync();
            Assert.Equal(TtrpcCode.Ok, code);
            Assert.True(answered.Add(stream));
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(9)]
    [InlineData(10)]
    [InlineData(30)]
    public async Task a_connection_that_ends_within_a_frame_is_closed_quietly(int sent)
    {
        await using var server = new TestServer();
        using var peer = await server.ConnectAsync();
        await peer.SendAsync(Peer.Frame(1, Peer.Request, 0, Peer.Call("Echo"))[..sent]);
        Assert.Equal(0, await peer.FinishAsync());
        Assert.Empty(server.Log.All);
    }

    [Theory]
    [InlineData(2u, Peer.Request)]
    [InlineData(2u, Peer.Response)]
    [InlineData(2u, Peer.Data)]
    [InlineData(0u, Peer.Request)]
    [InlineData(0u, 99)]
    [InlineData(1u, Peer.Request)] // below the last
    [InlineData(3u, Peer.Request)] // used
    [InlineData(5u, Peer.Data)] // odd, but never opened
    public async Task a_frame_on_a_stream_that_no_caller_can_have_is_refused(uint stream, byte type)
    {
        await using var server = new TestServer();
        using var peer = await server.ConnectAsync();
        await peer.SendAsync(3, Peer.Request, 0, Peer.Call("Echo"));
        Assert.Equal((3u, TtrpcCode.Ok), await peer.ReceiveCodeAsync());

        await peer.SendAsync(stream, type, 0, Peer.Call("Echo"));
        Assert.Equal((stream, TtrpcCode.InvalidArgument), await peer.ReceiveCodeAsync());
        await peer.SendAsync(5, Peer.Request, 0, Peer.Call("Echo"));
        Assert.Equal((5u, TtrpcCode.Ok), await peer.ReceiveCodeAsync());
    }

    [Theory]
    [InlineData(Peer.Response)]
    [InlineData(0)]
    [InlineData(4)]
    [InlineData(255)]
    public async Task a_frame_that_no_caller_sends_is_passed_over(byte type)
    {
        await using var server = new TestServer();
        using var peer = await server.ConnectAsync();
        await peer.SendAsync(1, type, 255, new byte[100_000]);
        await peer.SendAsync(1, Peer.Request, 0, Peer.Call("Echo"));
        Assert.Equal((1u, TtrpcCode.Ok), await peer.ReceiveCodeAsync());
    }

    [Fact]
    public async Task the_highest_stream_number_is_one_like_others()
    {
        await using var server = new TestServer();
        using var peer = await server.ConnectAsync();
        await peer.SendAsync(uint.MaxValue, Peer.Request, 0, Peer.Call("Echo"));
        Assert.Equal((uint.MaxValue, TtrpcCode.Ok), await peer.ReceiveCodeAsync());
        await peer.SendAsync(uint.MaxValue - 2, Peer.Request, 0, Peer.Call("Echo"));
        Assert.Equal((uint.MaxValue - 2, TtrpcCode.InvalidArgument), await peer.ReceiveCodeAsync());
    }

    [Fact]
    public async Task data_on_a_unary_call_is_passed_over_and_the_call_is_answered_once()
    {
        var release = new Signal();
        await using var server = TestServer.With("Hold", async (_, _, cancellation) =>
        {
            await release.WaitAsync(cancellation);
            return await TestServer.Text("");
        });
        using var peer = await server.ConnectAsync();
        await peer.SendAsync(1, Peer.Request, 0, Peer.Call("Hold"));
        await peer.SendAsync(1, Peer.Data, 1, new byte[10]);
        await peer.SendAsync(3, Peer.Request, 0, Peer.Call("Echo"));
        Assert.Equal((3u, TtrpcCode.Ok), await peer.ReceiveCodeAsync());
        release.Set();
        Assert.Equal((1u, TtrpcCode.Ok), await peer.ReceiveCodeAsync());
        Assert.Equal(0, await peer.FinishAsync());
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public async Task a_streaming_call_is_refused_by_name_and_its_data_passed_over(byte flags)
    {
        await using var server = new TestServer();
        using var peer = await server.ConnectAsync();
        await peer.SendAsync(1, Peer.Request, flags, Peer.Call("Echo"));
        var (stream, response) = await peer.ReceiveResponseAsync();
        Assert.Equal((1u, (int)TtrpcCode.Unimplemented), (stream, response.Status.Code));
        Assert.Contains("skiff.test.Calls/Echo", response.Status.Message, StringComparison.Ordinal);
        await peer.SendAsync(1, Peer.Data, 0, new byte[1000]);
        await peer.SendAsync(1, Peer.Data, 1 | 4, []);
        await peer.SendAsync(3, Peer.Request, 0, Peer.Call("Echo"));
        Assert.Equal((3u, TtrpcCode.Ok), await peer.ReceiveCodeAsync());
    }

    [Fact]
    public async Task a_frame_of_exactly_the_limit_is_read_and_one_byte_more_is_refused()
    {
        await using var server = new TestServer();
        using var peer = await server.ConnectAsync();
        await peer.SendAsync(1, Peer.Request, 0, new byte[4 << 20]); // no protobuf
        Assert.Equal((1u, TtrpcCode.InvalidArgument), await peer.ReceiveCodeAsync());
        await peer.SendAsync(3, Peer.Request, 0, new byte[(4 << 20) + 1]);
        Assert.Equal((3u, TtrpcCode.ResourceExhausted), await peer.ReceiveCodeAsync());
        await peer.SendAsync(3, Peer.Request, 0, Peer.Call("Echo")); // the refused frame opened no stream
        Assert.Equal((3u, TtrpcCode.Ok), await peer.ReceiveCodeAsync());
    }

    [Fact]
    public async Task a_refusal_fits_into_a_frame_however_long_the_name_it_quotes()
    {
        await using var server = new TestServer();
        using var peer = await server.ConnectAsync();
        await peer.SendAsync(1, Peer.Request, 0, Peer.Call("Echo", service: new string('s', (4 << 20) - 100)));
        var (stream, response) = await peer.ReceiveResponseAsync();
        Assert.Equal((1u, (int)TtrpcCode.Unimplemented), (stream, response.Status.Code));
        Assert.InRange(response.CalculateSize(), 1000, 100_000);
    }

    [Fact]
    public async Task a_request_without_data_names_no_service()
    {
        await using var server = new TestServer();
        using var peer = await server.ConnectAsync();
        await peer.SendAsync(1, Peer.Request, 0, []);
        Assert.Equal((1u, TtrpcCode.Unimplemented), await peer.ReceiveCodeAsync());
    }

    [Fact]
    public async Task a_call_beyond_the_thousand_and_twenty_four_in_flight_is_refused_and_one_after_them_is_not()
    {
        var release = new Signal();
        await using var server = TestServer.With("Hold", async (_, _, cancellation) =>
        {
            await release.WaitAsync(cancellation);
            return await TestServer.Text("");
        });
        using var peer = await server.ConnectAsync();
        uint stream = 1;
        for (var i = 0; i < ServerConnection.MaxInFlight; i++, stream += 2)
        {
            await peer.SendAsync(stream, Peer.Request, 0, Peer.Call("Hold"));
        }

        await peer.SendAsync(stream, Peer.Request, 0, Peer.Call("Echo"));
        Assert.Equal((stream, TtrpcCode.ResourceExhausted), await peer.ReceiveCodeAsync());
        using var other = await server.CallerAsync();
        await other.AssertAliveAsync(); // the limit is the connection's

        release.Set();
        for (var i = 0; i < ServerConnection.MaxInFlight; i++)
        {
            Assert.Equal(TtrpcCode.Ok, (await peer.ReceiveCodeAsync()).Code);
        }

        await AssertAcceptsCallsAgainAsync(peer, stream);
    }

    [Fact]
    public async Task a_handler_that_runs_on_after_its_deadline_keeps_its_place()
    {
        var release = new Signal();
        await using var server = TestServer.With("Ignore", async (_, _, _) =>
        {
            await release.WaitAsync(CancellationToken.None);
            return await TestServer.Text("");
        });
        using var peer = await server.ConnectAsync();
        uint stream = 1;
        for (var i = 0; i < ServerConnection.MaxInFlight; i++, stream += 2)
        {
            await peer.SendAsync(stream, Peer.Request, 0, Peer.Call("Ignore", timeoutNano: 1_000_000));
        }

        // Frames are handled in order, so that after this refusal all deadlines are set.
        await peer.SendAsync(stream, Peer.Request, 0, Peer.Call("Echo"));
        Assert.Equal((stream, TtrpcCode.ResourceExhausted), await peer.ReceiveCodeAsync());
        server.Time.Advance(TimeSpan.FromMilliseconds(1));
        for (var i = 0; i < ServerConnection.MaxInFlight; i++)
        {
            Assert.Equal(TtrpcCode.DeadlineExceeded, (await peer.ReceiveCodeAsync()).Code);
        }

        stream += 2;
        await peer.SendAsync(stream, Peer.Request, 0, Peer.Call("Echo"));
        Assert.Equal((stream, TtrpcCode.ResourceExhausted), await peer.ReceiveCodeAsync());
        release.Set();
        await AssertAcceptsCallsAgainAsync(peer, stream);
    }

    // A place is free only when its handler has ended, a moment after the answer.
    private static async Task AssertAcceptsCallsAgainAsync(Peer peer, uint stream)
    {
        var end = TimeProvider.System.GetUtcNow() + TestServer.Patience;
        TtrpcCode code;
        do
        {
            stream += 2;
            await peer.SendAsync(stream, Peer.Request, 0, Peer.Call("Echo"));
            (var answered, code) = await peer.ReceiveCodeAsync();
            Assert.Equal(stream, answered);
        }
        while (code == TtrpcCode.ResourceExhausted && TimeProvider.System.GetUtcNow() < end);
        Assert.Equal(TtrpcCode.Ok, code);
    }
}
