using System.Collections.Concurrent;
using System.Text.Json.Nodes;
using Skiff.Containerd.Containers;
using Skiff.Testing;

namespace Skiff.Contract.Pods;

/// <summary>What a guest runs into is an event of containerd's, for whoever asks for it.</summary>
public sealed class GuestReportTests(Containerds containerds)
{
    private const ulong Allowed = 16 << 20;

    [Theory]
    [MemberData(nameof(Containerds.Versions), MemberType = typeof(Containerds))]
    public async Task a_trap_and_refused_memory_are_told_once_and_before_the_exit_an_execs_too(string version)
    {
        var containerd = await containerds.GetForPodsAsync(version);
        using var watch = new ContainerWatch("/", containerd.Socket);
        using var stop = new CancellationTokenSource();
        ConcurrentQueue<ContainerEvent> events = [];
        var following = watch.FollowAsync(events.Enqueue, stop.Token);
        await using (var pod = await Pod.RunAsync(containerd, new JsonObject { ["annotations"] = new JsonObject { ["skiff.dev/max-memory"] = $"{Allowed}" } }))
        {
            var refused = await pod.StartAsync(null, "/grow.wasm");
            var trapped = await pod.StartAsync(null, "/trap.component.wasm", "div0");
            var living = await pod.StartAsync(null, "/sleep.wasm");
            _ = await containerd.CrictlAsync("exec", "--sync", living, "/trap.wasm", "unreachable");
            foreach (var id in (string[])[refused, trapped])
            {
                _ = await pod.EndAsync(id);
                Assert.True(await Until.HoldsAsync(() => Task.FromResult(Of(id).OfType<ContainerExit>().Any()), RunningContainer.Patience), string.Join('\n', events));
            }

            Assert.True(await Until.HoldsAsync(() => Task.FromResult(Of(living).Count > 0), RunningContainer.Patience), string.Join('\n', events));
            var memory = Assert.IsType<GuestMemoryRefused>(Of(refused)[0]);
            Assert.False(memory.IsExec);
            Assert.Equal(Allowed, memory.Limit);
            Assert.True(memory.Used <= Allowed && memory.Used + memory.Asked > Allowed, $"{memory}");
            Assert.Equal([typeof(GuestMemoryRefused), typeof(ContainerExit)], Of(refused).Select(e => e.GetType()));

            Assert.Equal(new GuestTrapped(trapped, IsExec: false, 7, "wasm trap: integer divide by zero"), Of(trapped)[0]);
            Assert.Equal(134u, Assert.IsType<ContainerExit>(Of(trapped)[1]).ExitStatus);
            Assert.Equal(2, Of(trapped).Count);
            Assert.Equal([new GuestTrapped(living, IsExec: true, 9, "wasm trap: wasm `unreachable` instruction executed")], Of(living));
        }

        await stop.CancelAsync();
        _ = await Assert.ThrowsAsync<OperationCanceledException>(() => following);

        List<ContainerEvent> Of(string id) => [.. events.Where(e => e.ContainerId == id)];
    }
}
