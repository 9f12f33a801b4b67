namespace Skiff.Ttrpc.Tests;

/// <summary>These count what the whole process holds, so nothing runs beside them.</summary>
[CollectionDefinition(nameof(RandomFrameTests), DisableParallelization = true)]
[Collection(nameof(RandomFrameTests))]
public sealed class RandomFrameTests
{
    private const int Frames = 10_000;

    [Fact]
    public async Task random_bytes_leave_a_server_that_answers_and_holds_nothing()
    {
        await using var server = new TestServer();
        var before = await HeldAsync(server);
        var random = new Random(20261124);
        for (var sent = 0; sent < Frames;)
        {
            using var peer = await server.ConnectAsync();
            for (var i = 0; i < 10; i++, sent++)
            {
                var bytes = new byte[random.Next(3, 100)];
                random.NextBytes(bytes);
                if (random.Next(2) == 0)
                {
                    bytes[0] = bytes[1] = bytes[2] = 0; // a length that ends within what is sent, so that more than the first header is read
                }

                await peer.SendAsync(bytes);
            }

            _ = await peer.FinishAsync();
        }

        await AssertHoldsNoMoreAsync(server, before);
    }

    [Fact]
    public async Task random_well_formed_frames_leave_a_server_that_answers_and_holds_nothing()
    {
        await using var server = new TestServer();
        var before = await HeldAsync(server);
        var random = new Random(4711);
        var answered = 0;
        for (var sent = 0; sent < Frames;)
        {
            using var peer = await server.ConnectAsync();
            uint stream = 1;
            for (var i = 0; i < 100; i++, sent++)
            {
                stream = random.Next(4) == 0 ? (uint)random.NextInt64(uint.MaxValue + 1L) >> random.Next(32) : stream + (uint)random.Next(3);
                await peer.SendAsync(stream, RandomType(random), RandomFlags(random), RandomData(random));
            }

            answered += await peer.FinishAsync();
        }

        Assert.True(answered > Frames, "most frames are answered");
        await AssertHoldsNoMoreAsync(server, before);
        Assert.Empty(server.Log.All);
    }

    [Fact]
    public async Task a_length_that_is_promised_allocates_nothing()
    {
        await using var server = new TestServer();
        var (allocated, peers) = (GC.GetTotalAllocatedBytes(precise: true), new List<Peer>());
        for (var i = 0; i < 100; i++)
        {
            peers.Add(await server.ConnectAsync());
            await peers[^1].SendAsync(Peer.Frame(1, Peer.Request, 0, [], length: i % 2 == 0 ? 4u << 20 : uint.MaxValue));
        }

        // Closed from here, so that all have been looked at when the last has ended.
        foreach (var peer in peers)
        {
            Assert.Equal(0, await peer.FinishAsync());
            peer.Dispose();
        }

        Assert.InRange(GC.GetTotalAllocatedBytes(precise: true) - allocated, 0, 16 << 20); // 50 buffers of 4 MiB would be 200 MiB
    }

    [Fact]
    public async Task skipping_a_frame_far_over_the_limit_allocates_next_to_nothing()
    {
        await using var server = new TestServer();
        using var peer = await server.ConnectAsync();
        var piece = new byte[1 << 20];
        var allocated = GC.GetTotalAllocatedBytes(precise: true);
        await peer.SendAsync(Peer.Frame(1, Peer.Request, 0, [], length: 256u << 20));
        for (var i = 0; i < 256; i++)
        {
            await peer.SendAsync(piece);
        }

        Assert.Equal((1u, TtrpcCode.ResourceExhausted), await peer.ReceiveCodeAsync());
        Assert.InRange(GC.GetTotalAllocatedBytes(precise: true) - allocated, 0, 16 << 20);
    }

    [Fact]
    public async Task a_thousand_idle_connections_are_small()
    {
        await using var server = new TestServer();
        var before = await HeldAsync(server);
        var peers = new List<Peer>();
        for (var i = 0; i < 1000; i++)
        {
            peers.Add(await server.ConnectAsync());
            await peers[^1].SendAsync(1, Peer.Request, 0, Peer.Call("Echo"));
            Assert.Equal((1u, TtrpcCode.Ok), await peers[^1].ReceiveCodeAsync());
        }

        var after = await HeldAsync(server);
        Assert.InRange(after.Memory - before.Memory, 0, 10 << 20); // both ends: ten KiB for a connection at most
        foreach (var peer in peers)
        {
            _ = await peer.FinishAsync();
            peer.Dispose();
        }

        await AssertHoldsNoMoreAsync(server, before);
    }

    private static byte RandomType(Random random) => random.Next(3) switch { 0 => (byte)random.Next(256), 1 => Peer.Data, _ => Peer.Request };

    private static byte RandomFlags(Random random) => random.Next(2) == 0 ? (byte)0 : (byte)random.Next(256);

    // Noise, a good call, or a good call with some bytes changed.
    private static byte[] RandomData(Random random)
    {
        var data = Peer.Call("Echo", new string('x', random.Next(50)), random.Next(3) == 0 ? random.NextInt64() : 0);
        switch (random.Next(3))
        {
            case 0:
                data = new byte[random.Next(10) == 0 ? random.Next(100_000) : random.Next(100)];
                random.NextBytes(data);
                break;
            case 1:
                for (var i = random.Next(1, 5); i > 0; i--)
                {
                    data[random.Next(data.Length)] = (byte)random.Next(256);
                }

                break;
        }

        return data;
    }

    private static async Task<(int Handles, long Memory)> HeldAsync(TestServer server)
    {
        using (var caller = await server.CallerAsync())
        {
            await caller.AssertAliveAsync();
        }

        // An end of a connection is only a moment behind the other's: wait until the count has been the same for some looks.
        var (handles, same) = (-1, 0);
        for (var end = TimeProvider.System.GetUtcNow() + TestServer.Patience; same < 5 && TimeProvider.System.GetUtcNow() < end;)
        {
            using (var caller = await server.CallerAsync())
            {
                await caller.AssertAliveAsync();
            }

            var now = Directory.GetFileSystemEntries("/proc/self/fd").Length;
            (handles, same) = (now, now == handles ? same + 1 : 0);
        }

        return (handles, GC.GetTotalMemory(forceFullCollection: true));
    }

    private static async Task AssertHoldsNoMoreAsync(TestServer server, (int Handles, long Memory) before)
    {
        var after = await HeldAsync(server);
        Assert.InRange(after.Handles, 0, before.Handles + 5);
        Assert.InRange(after.Memory - before.Memory, long.MinValue, 4 << 20);
    }
}
