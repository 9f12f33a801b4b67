using Skiff.Linux.Processes;
using Skiff.Testing;

namespace Skiff.Contract;

/// <summary>Starting, ending and cleaning up.</summary>
public sealed class LifecycleTests(Containerds containerds)
{
    public static TheoryData<string> Versions => Containerds.Versions;

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task a_busy_loop_ends_when_it_is_told_to(string version)
    {
        var containerd = await containerds.GetAsync(version);
        foreach (var (signal, expected) in (List<(string, uint)>)[("SIGTERM", 143), ("SIGINT", 130), ("SIGKILL", 137)])
        {
            var id = ProgramTests.Id();
            var (run, output) = await StartedAsync(containerd, id, "/spin.wasm", "spinning");
            (await containerd.CtrAsync("task", "kill", "--signal", signal, id)).Demand();
            Assert.Equal(expected, (await run.Exit.WaitAsync(RunningContainer.Patience)).ShellCode);
            Assert.Equal("spinning\n", PrivateContainerd.WithoutWarnings(await File.ReadAllTextAsync(output)));
        }
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task kill_all_ends_a_native_program_too(string version)
    {
        var containerd = await containerds.GetAsync(version);
        var id = ProgramTests.Id();
        var (run, _) = await StartedAsync(containerd, id, "/sleep.native", "ready");
        (await containerd.CtrAsync("task", "kill", "--all", "--signal", "SIGKILL", id)).Demand();
        Assert.Equal(137u, (await run.Exit.WaitAsync(RunningContainer.Patience)).ShellCode);
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task events_come_in_order_and_once_also_for_a_program_that_dies_at_once(string version)
    {
        var containerd = await containerds.GetAsync(version);
        using var events = await EventLog.StartAsync(containerd);
        List<string> ids = [];
        for (var i = 0; i < 10; i++)
        {
            ids.Add(ProgramTests.Id());
            _ = await containerd.RunAsync(ids[^1], "/exit.native", "7");
        }

        foreach (var id in ids)
        {
            await events.ComesAsync(id, "/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete");
        }
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task when_the_shim_is_killed_containerd_notices_and_nothing_is_left(string version)
    {
        var containerd = await containerds.GetAsync(version);
        var id = ProgramTests.Id();

        // Without streams: their FIFOs are ctr's, and it leaves them when the task is gone before it asks (with any shim).
        _ = (await containerd.CtrAsync("run", "--detach", "--null-io", "--runtime", Repository.Shim, PrivateContainerd.Image, id, "/sleep.wasm")).Demand();
        var shim = await containerd.ShimAsync();
        using var handle = PidFds.Open(shim);
        Assert.True(PidFds.Signal(handle!, Signals.Kill));
        Assert.True(await Until.HoldsAsync(
            async () => !(await containerd.TasksAsync()).ContainsKey(id) && containerd.Leftovers().Count == 0, RunningContainer.Patience),
            string.Join('\n', containerd.Leftovers()));
        _ = (await containerd.CtrAsync("container", "rm", id)).Demand();
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task many_containers_eight_at_a_time_leave_nothing(string version)
    {
        var containerd = await containerds.GetAsync(version);
        var kinds = new[] { "/hello.wasm", "/hello.native" };
        await Parallel.ForEachAsync(Enumerable.Range(0, Repetitions.Of(80, all: 200)), new ParallelOptions { MaxDegreeOfParallelism = 8 }, async (i, _) =>
        {
            var result = await containerd.RunAsync(ProgramTests.Id(), kinds[i % 2]);
            Assert.Equal((0u, ""), (result.Status, result.Error));
        });
        Assert.True(await Until.HoldsAsync(() => Task.FromResult(containerd.Leftovers().Count == 0), RunningContainer.Patience), string.Join('\n', containerd.Leftovers()));
    }

    private static async Task<(ChildProcess Run, string Output)> StartedAsync(PrivateContainerd containerd, string id, string program, string sign)
    {
        var (run, output) = containerd.InBackground("run", "--rm", "--runtime", Repository.Shim, PrivateContainerd.Image, id, program);
        Assert.True(await Until.HoldsAsync(async () => (await File.ReadAllTextAsync(output)).Contains(sign, StringComparison.Ordinal), RunningContainer.Patience),
            await File.ReadAllTextAsync(output) + containerd.Log);
        return (run, output);
    }
}
