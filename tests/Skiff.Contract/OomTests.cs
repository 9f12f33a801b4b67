using System.Globalization;
using Skiff.Testing;

namespace Skiff.Contract;

/// <summary>A process that the kernel kills for want of memory is one event, and it comes before the exit.</summary>
/// <remarks>On cgroup v1, or whatever this machine has; a station runs it on v2.</remarks>
public sealed class OomTests(Containerds containerds)
{
    private const int AtOnce = 4;

    // A slow machine says how many.
    private static readonly int _runs = Environment.GetEnvironmentVariable("SKIFF_OOM_RUNS") is { } runs ? int.Parse(runs, CultureInfo.InvariantCulture) : Repetitions.Of(13, all: 50);

    [Theory]
    [MemberData(nameof(Containerds.Versions), MemberType = typeof(Containerds))]
    public async Task init_is_killed_at_the_containers_limit(string version)
    {
        await ForEachAsync(version, async (containerd, id, i) =>
        {
            var result = await containerd.CtrAsync(
                "run", "--rm", "--null-io", "--memory-limit", $"{32 << 20}", "--runtime", Repository.Shim, PrivateContainerd.Image, id, i % 2 == 0 ? "/grow.wasm" : "/grow.native");
            Assert.Equal(137u, result.Status);
        }, "/tasks/create", "/tasks/start", "/tasks/oom", "/tasks/exit", "/tasks/delete");
    }

    [Theory]
    [MemberData(nameof(Containerds.Versions), MemberType = typeof(Containerds))]
    public async Task init_is_killed_at_its_pods_limit(string version)
    {
        await ForEachAsync(version, async (containerd, id, i) =>
        {
            var pod = new PodCgroup(id, 32 << 20);
            try
            {
                var result = await containerd.CtrAsync(
                    "run", "--rm", "--null-io", "--cgroup", pod.Path + "/container", "--runtime", Repository.Shim, PrivateContainerd.Image, id, i % 2 == 0 ? "/grow.wasm" : "/grow.native");
                Assert.Equal(137u, result.Status);
            }
            finally
            {
                await pod.RemoveAsync();
            }
        }, "/tasks/create", "/tasks/start", "/tasks/oom", "/tasks/exit", "/tasks/delete");
    }

    [Theory]
    [MemberData(nameof(Containerds.Versions), MemberType = typeof(Containerds))]
    public async Task a_child_is_killed_and_init_lives(string version)
    {
        var containerd = await containerds.GetAsync(version);
        using var events = await EventLog.StartAsync(containerd);
        await ForEachAsync(version, async (_, id, _) =>
        {
            var (run, output) = containerd.InBackground(
                "run", "--rm", "--memory-limit", $"{32 << 20}", "--runtime", Repository.Shim, PrivateContainerd.Image, id, "/grow.native", "child");
            Assert.True(
                await Until.HoldsAsync(
                    async () => (await File.ReadAllTextAsync(output)).Contains("ended by signal 9", StringComparison.Ordinal), RunningContainer.Patience),
                await File.ReadAllTextAsync(output));
            await events.ComesAsync(id, "/tasks/create", "/tasks/start", "/tasks/oom");
            _ = (await containerd.CtrAsync("task", "kill", "--signal", "SIGKILL", id)).Demand();
            Assert.Equal(137u, (await run.Exit.WaitAsync(RunningContainer.Patience)).ShellCode);
        }, "/tasks/create", "/tasks/start", "/tasks/oom", "/tasks/exit", "/tasks/delete");
    }

    [Theory]
    [MemberData(nameof(Containerds.Versions), MemberType = typeof(Containerds))]
    public async Task an_exec_is_killed_and_init_lives(string version)
    {
        var containerd = await containerds.GetAsync(version);
        using var events = await EventLog.StartAsync(containerd);
        await using var container = await RunningContainer.StartAsync(containerd, ["--memory-limit", $"{64 << 20}"], "/sleep.native");

        // It begins when its start has been told: a program may be killed before the OCI runtime that started it has come back.
        var (exec, _) = containerd.InBackground("task", "exec", "--exec-id", ProgramTests.Id(), container.Id, "/grow.native", "when", "/tmp/go");
        await events.ComesAsync(container.Id, "/tasks/create", "/tasks/start", "/tasks/exec-added", "/tasks/exec-started");
        await File.WriteAllTextAsync($"/proc/{(await container.StateAsync()).Pid}/root/tmp/go", "");
        Assert.Equal(137u, (await exec.Exit.WaitAsync(RunningContainer.Patience)).ShellCode);
        await events.ComesAsync(
            container.Id, "/tasks/create", "/tasks/start", "/tasks/exec-added", "/tasks/exec-started", "/tasks/oom", "/tasks/exit");
        Assert.Equal("RUNNING", (await container.StateAsync()).Status);
    }

    [Theory]
    [MemberData(nameof(Containerds.Versions), MemberType = typeof(Containerds))]
    public async Task a_container_beside_the_one_that_is_killed_has_no_event(string version)
    {
        var containerd = await containerds.GetAsync(version);
        using var events = await EventLog.StartAsync(containerd);
        var pod = new PodCgroup(ProgramTests.Id(), 48 << 20);
        try
        {
            string beside;
            await using (var container = await RunningContainer.StartAsync(containerd, ["--cgroup", pod.Path + "/beside"], "/sleep.native"))
            {
                beside = container.Id;
                var id = ProgramTests.Id();
                var result = await containerd.CtrAsync(
                    "run", "--rm", "--null-io", "--cgroup", pod.Path + "/grows", "--runtime", Repository.Shim, PrivateContainerd.Image, id, "/grow.native");
                Assert.Equal(137u, result.Status);
                await events.ComesAsync(id, "/tasks/create", "/tasks/start", "/tasks/oom", "/tasks/exit", "/tasks/delete");
            }

            await events.ComesAsync(beside, "/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete");
        }
        finally
        {
            await pod.RemoveAsync();
        }
    }

    private async Task ForEachAsync(string version, Func<PrivateContainerd, string, int, Task> run, params string[] topics)
    {
        var containerd = await containerds.GetAsync(version);
        using var events = await EventLog.StartAsync(containerd);
        await Parallel.ForEachAsync(Enumerable.Range(0, _runs), new ParallelOptions { MaxDegreeOfParallelism = AtOnce }, async (i, _) =>
        {
            var id = ProgramTests.Id();
            await run(containerd, id, i);
            await events.ComesAsync(id, topics);
        });
    }
}
