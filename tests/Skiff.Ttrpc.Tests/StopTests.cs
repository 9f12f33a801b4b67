using System.Net.Sockets;

namespace Skiff.Ttrpc.Tests;

public sealed class StopTests
{
    [Fact]
    public async Task a_stop_answers_the_calls_in_flight_refuses_new_ones_and_closes()
    {
        var (started, release) = (new Signal(), new Signal());
        await using var server = TestServer.With("Hold", async (_, _, cancellation) =>
        {
            started.Set();
            await release.WaitAsync(cancellation);
            return await TestServer.Text("held");
        });
        using var peer = await server.ConnectAsync();
        await peer.SendAsync(1, Peer.Request, 0, Peer.Call("Hold"));
        await started.WaitAsync(TestContext.Current.CancellationToken);

        // An idle connection is closed at once, which also tells that the stop has come to the connections.
        using var idle = await server.ConnectAsync();
        await idle.SendAsync(1, Peer.Request, 0, Peer.Call("Echo"));
        Assert.Equal((1u, TtrpcCode.Ok), await idle.ReceiveCodeAsync());
        var stop = server.Server.StopAsync(TestContext.Current.CancellationToken);
        Assert.Equal(0, await idle.ReadToEndAsync());
        _ = await Assert.ThrowsAnyAsync<SocketException>(server.ConnectAsync);
        Assert.False(stop.IsCompleted);

        // The first connection may be told after the idle one; until then a call still gets through.
        var code = TtrpcCode.Ok;
        var end = TimeProvider.System.GetUtcNow() + TestServer.Patience;
        for (uint stream = 3; code == TtrpcCode.Ok && TimeProvider.System.GetUtcNow() < end; stream += 2)
        {
            await peer.SendAsync(stream, Peer.Request, 0, Peer.Call("Echo"));
            (var answered, code) = await peer.ReceiveCodeAsync();
            Assert.Equal(stream, answered);
        }

        Assert.Equal(TtrpcCode.Unavailable, code);
        Assert.False(stop.IsCompleted);

        release.Set();
        Assert.Equal((1u, TtrpcCode.Ok), await peer.ReceiveCodeAsync());
        Assert.Equal(0, await peer.ReadToEndAsync());
        await stop.WaitAsync(TestServer.Patience, TestContext.Current.CancellationToken);
    }

    [Fact]
    public async Task a_stop_without_patience_cancels_the_handlers_and_ends_their_calls()
    {
        var (started, cancelled) = (new Signal(), new Signal());
        await using var server = TestServer.With("Hold", async (_, _, cancellation) =>
        {
            using var registration = cancellation.Register(cancelled.Set);
            started.Set();
            await new Signal().WaitAsync(CancellationToken.None); // notices nothing
            return await TestServer.Text("");
        });
        using var caller = await server.CallerAsync();
        var call = caller.CallAsync("Hold", cancellation: TestContext.Current.CancellationToken);
        await started.WaitAsync(TestContext.Current.CancellationToken);
        await server.Server.StopAsync(new CancellationToken(canceled: true)).WaitAsync(TestServer.Patience, TestContext.Current.CancellationToken);
        await cancelled.WaitAsync(TestContext.Current.CancellationToken);
        Assert.Equal(TtrpcCode.Unavailable, (await call).Error?.Code);
    }

    [Fact]
    public async Task a_peer_that_reads_no_answers_holds_up_a_stop_only_as_long_as_it_has_patience()
    {
        await using var server = TestServer.With("Large", (_, _, _) => TestServer.Text(new string('x', 3 << 20)));
        using var peer = await server.ConnectAsync();
        for (uint i = 0; i < 8; i++)
        {
            await peer.SendAsync((i * 2) + 1, Peer.Request, 0, Peer.Call("Large"));
        }

        _ = await peer.ExactlyAsync(10); // the first answer has begun, and the socket cannot hold it
        using var patience = new CancellationTokenSource();
        var stop = server.Server.StopAsync(patience.Token);
        Assert.False(stop.IsCompleted);
        await patience.CancelAsync();
        await stop.WaitAsync(TestServer.Patience, TestContext.Current.CancellationToken);
    }

    [Fact]
    public async Task a_peer_that_reads_no_refusals_is_disconnected_by_a_stop()
    {
        await using var server = new TestServer();
        using var peer = await server.ConnectAsync();
        var refused = Peer.Frame(2, Peer.Request, 0, []);

        // Nobody reads, so in the end the server waits in the middle of a refusal.
        var sending = Task.Run(
            async () =>
            {
                while (true)
                {
                    await peer.SendAsync(refused);
                }
            },
            CancellationToken.None);
        _ = await peer.ExactlyAsync(10);
        await server.Server.StopAsync(TestContext.Current.CancellationToken).WaitAsync(TestServer.Patience, TestContext.Current.CancellationToken);
        _ = await Assert.ThrowsAnyAsync<SocketException>(() => sending);
    }

    [Fact]
    public async Task a_connection_that_ends_cancels_its_handlers_and_no_others()
    {
        var cancelled = new Signal();
        var (started, release) = (new Dictionary<string, Signal> { ["a"] = new(), ["b"] = new() }, new Signal());
        await using var server = TestServer.With("Hold", async (text, _, cancellation) =>
        {
            started[text].Set();
            try
            {
                await release.WaitAsync(cancellation);
            }
            catch (OperationCanceledException) when (text == "a")
            {
                cancelled.Set();
            }

            return await TestServer.Text(text);
        });
        using var a = await server.CallerAsync();
        using var b = await server.CallerAsync();
        var (callA, callB) = (a.CallAsync("Hold", "a"), b.CallAsync("Hold", "b"));
        await started["a"].WaitAsync(TestContext.Current.CancellationToken);
        await started["b"].WaitAsync(TestContext.Current.CancellationToken);
        a.Dispose();
        await cancelled.WaitAsync(TestContext.Current.CancellationToken);
        Assert.Equal(TtrpcCode.Unavailable, (await callA).Error?.Code);
        release.Set();
        Assert.Equal("b", (await callB).Value?.Value);
    }

    [Fact]
    public async Task a_handler_that_throws_when_it_is_cancelled_is_logged()
    {
        var started = new Signal();
        await using var server = TestServer.With("Hold", async (_, _, cancellation) =>
        {
            using var registration = cancellation.Register(() => throw new InvalidOperationException("cannot be cancelled"));
            started.Set();
            await new Signal().WaitAsync(CancellationToken.None);
            return await TestServer.Text("");
        });
        using var peer = await server.ConnectAsync();
        await peer.SendAsync(1, Peer.Request, 0, Peer.Call("Hold"));
        await started.WaitAsync(TestContext.Current.CancellationToken);
        _ = await peer.FinishAsync();
        Assert.Contains("cannot be cancelled", await server.Log.FirstAsync(), StringComparison.Ordinal);
        using var other = await server.CallerAsync();
        await other.AssertAliveAsync();
    }

    [Fact]
    public async Task stopping_again_and_disposing_again_do_nothing()
    {
        await using var server = new TestServer();
        await server.Server.StopAsync(TestContext.Current.CancellationToken);
        await server.Server.StopAsync(TestContext.Current.CancellationToken);
        await server.Server.DisposeAsync();
        await server.Server.DisposeAsync();
    }

    [Fact]
    public async Task a_server_that_never_started_can_be_stopped()
    {
        var folder = Directory.CreateTempSubdirectory("skiff-ttrpc-");
        try
        {
            var server = new TtrpcServer(TestServer.Listen(Path.Combine(folder.FullName, "s")), 0, new TestServer.Entries());
            await server.DisposeAsync();
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }
}
