using System.Text.Json;
using Skiff.Linux.Processes;
using Skiff.Testing;

namespace Skiff.Contract.Pods;

/// <summary>containerd is killed while pods run, begin or end: afterwards it finds all of them, and what is done then works.</summary>
public sealed class PodFaultTests(Containerds containerds)
{
    public static TheoryData<string> Versions => Containerds.Versions;

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task twenty_pods_outlive_containerd(string version)
    {
        var containerd = await containerds.GetForPodsAsync(version);
        var pods = new (Pod Pod, string Container)[20];
        await Parallel.ForEachAsync(Enumerable.Range(0, pods.Length), new ParallelOptions { MaxDegreeOfParallelism = 4 }, async (i, _) =>
        {
            var pod = await Pod.RunAsync(containerd);
            pods[i] = (pod, await pod.StartAsync(null, i % 2 == 0 ? "/sleep.wasm" : "/sleep.native"));
            await pod.SaysAsync(pods[i].Container, "ready");
        });
        var ended = await pods[0].Pod.PidAsync(pods[0].Container);
        await containerd.KillAsync();
        using (var process = PidFds.Open(ended))
        {
            Assert.True(PidFds.Signal(process!, Signals.Kill)); // while nobody looks
        }

        await containerd.StartAgainAsync();
        Assert.Equal(137, (await pods[0].Pod.EndAsync(pods[0].Container)).GetProperty("exitCode").GetInt32());
        await Parallel.ForEachAsync(pods.Skip(1), new ParallelOptions { MaxDegreeOfParallelism = 4 }, async (each, unused) =>
        {
            var (pod, container) = each;
            Assert.Equal("CONTAINER_RUNNING", (await pod.StatusAsync(container)).GetProperty("state").GetString());
            Assert.Contains("hello from", (await containerd.CrictlAsync("exec", "--sync", container, "/hello.native")).Output, StringComparison.Ordinal);
            Assert.Contains("ready", await pod.LogAsync(container), StringComparison.Ordinal);
            var stats = JsonDocument.Parse((await containerd.CrictlAsync("stats", "-o", "json", container)).Demand().Output).RootElement;
            Assert.NotEqual("0", stats.GetProperty("stats")[0].GetProperty("memory").GetProperty("workingSetBytes").GetProperty("value").GetString());
            _ = (await containerd.CrictlAsync("stop", "--timeout", "1", container)).Demand();
        });
        await Parallel.ForEachAsync(pods, async (p, _) => await p.Pod.DisposeAsync());
        await Containerds.NothingLeftAsync(containerd);
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task containerd_may_be_killed_at_any_moment_of_a_pods_life(string version)
    {
        var containerd = await containerds.GetForPodsAsync(version);
        var random = new Random(version[^1]);
        for (var point = 0; point < Repetitions.Of(5, all: 10); point++)
        {
            // A life takes about a second; the moment is the matter of the test.
            var life = LiveAsync(containerd, point % 2 == 0 ? "/hello.wasm" : "/hello.native");
            await Task.Delay(random.Next(1000));
            await containerd.KillAsync();
            await life;
            await containerd.StartAgainAsync();

            // The kubelet would do the same: stop and remove what it finds.
            foreach (var pod in (await containerd.CrictlAsync("pods", "--quiet")).Demand().Output.Split('\n', StringSplitOptions.RemoveEmptyEntries))
            {
                _ = (await containerd.CrictlAsync("stopp", pod)).Demand();
                _ = (await containerd.CrictlAsync("rmp", pod)).Demand();
            }

            await containerd.RemoveForgottenNetworksAsync();
            Assert.True(
                await Until.HoldsAsync(() => Task.FromResult(containerd.Leftovers().Count == 0), RunningContainer.Patience),
                $"point {point}: {string.Join('\n', containerd.Leftovers())}");
        }
    }

    /// <summary>A pod from its beginning to its end, as far as it comes.</summary>
    private static async Task LiveAsync(PrivateContainerd containerd, string program)
    {
        try
        {
            await using var pod = await Pod.RunAsync(containerd);
            var id = await pod.StartAsync(null, program);
            _ = await containerd.CrictlAsync("exec", "--sync", id, "/hello.native");
            _ = await containerd.CrictlAsync("stop", "--timeout", "1", id);
            _ = await containerd.CrictlAsync("rm", id);
        }
        catch (InvalidOperationException)
        {
            // containerd has been killed under it.
        }
    }
}
