using Skiff.Linux.Processes;
using Skiff.Testing;

namespace Skiff.Contract.Pods;

/// <summary>The tests are alone in their world, whatever else the machine runs.</summary>
[Trait(Containerds.Runs, Containerds.Once)]
public sealed class NeighbourTests(Containerds containerds)
{
    // Tests that count what lies in the folders that all containerds of a machine share.
    private static readonly string[] _tests =
    [
        "Pods.PodTests.one_pod_is_one_shim_with_pause_wasm_and_native_side_by_side",
        "Pods.PodTests.containers_come_and_go_in_a_pod_that_lives",
        "LifecycleTests.when_the_shim_is_killed_containerd_notices_and_nothing_is_left",
    ];

    [Fact]
    public async Task tests_pass_beside_a_containerd_with_ten_pods_and_do_not_touch_them()
    {
        var containerd = await containerds.GetForPodsAsync(ContainerdVersion.Tested[0].Name);
        var pods = new (Pod Pod, string Container, int Process)[10];
        await Parallel.ForEachAsync(Enumerable.Range(0, pods.Length), new ParallelOptions { MaxDegreeOfParallelism = 4 }, async (i, _) =>
        {
            var pod = await Pod.RunAsync(containerd);
            var container = await pod.StartAsync(null, i % 2 == 0 ? "/sleep.wasm" : "/sleep.native");
            pods[i] = (pod, container, await pod.PidAsync(container));
        });

        var result = await Command.RunAsync(
            new SpawnRequest
            {
                Path = "/bin/bash",
                Arguments =
                [
                    "bash", Path.Combine(Repository.Root, "hack", "isolate"), "--", Environment.ProcessPath!, "-noColor",
                    .. _tests.SelectMany(t => (string[])["-method", "Skiff.Contract." + t]),
                ],
                Environment =
                [
                    $"SKIFF_CONTAINERDS={containerd.Version.Name}",
                    .. ((string[])["PATH", "HOME", "DOTNET_ROOT", "SKIFF_OUT", "SKIFF_ARTIFACTS", "SKIFF_SHARED", "SKIFF_WORLD"])
                        .Where(n => Environment.GetEnvironmentVariable(n) is not null).Select(n => $"{n}={Environment.GetEnvironmentVariable(n)}"),
                ],
                WorkingDirectory = Repository.Root,
                NewSession = true,
            },
            TimeSpan.FromMinutes(5));
        Assert.Matches($"Total: {_tests.Length}, Errors: 0, Failed: 0, Skipped: 0", result.OutputText);

        foreach (var (pod, container, process) in pods)
        {
            Assert.Equal(process, await pod.PidAsync(container));
            Assert.Equal("CONTAINER_RUNNING", (await pod.StatusAsync(container)).GetProperty("state").GetString());
        }

        await Parallel.ForEachAsync(pods, new ParallelOptions { MaxDegreeOfParallelism = 4 }, async (p, _) => await p.Pod.DisposeAsync());
    }
}
