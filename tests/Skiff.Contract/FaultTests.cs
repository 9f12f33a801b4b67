using System.Text.RegularExpressions;
using Skiff.Linux.Processes;
using Skiff.Testing;

namespace Skiff.Contract;

/// <summary>What is around the shim breaks: errors are clear, come in time, and nothing is left.</summary>
public sealed class FaultTests(Containerds containerds)
{
    [Theory]
    [MemberData(nameof(Containerds.Versions), MemberType = typeof(Containerds))]
    public async Task an_oci_runtime_that_hangs_costs_only_the_time_it_is_given(string version)
    {
        var containerd = await containerds.GetAsync(version);
        var wrapper = Path.Combine(containerd.Folder, "hanging-" + ProgramTests.Id());
        await File.WriteAllTextAsync(wrapper, $"#!/bin/sh\ncase \" $* \" in *\" create \"*) sleep 1000; : {containerd.Namespace};; *) exec runc \"$@\";; esac\n");
        File.SetUnixFileMode(wrapper, (UnixFileMode)0x1ED);
        var settings = wrapper + ".toml";
        await File.WriteAllTextAsync(settings, $"BinaryName = \"{wrapper}\"\n");
        var id = ProgramTests.Id();
        var start = TimeProvider.System.GetTimestamp();
        var result = await containerd.CtrAsync(
            "--timeout", "2s", "run", "--null-io", "--runtime", Repository.Shim, "--runtime-config-path", settings, PrivateContainerd.Image, id, "/hello.wasm");
        Assert.NotEqual(0u, result.Status);
        Assert.False(result.TimedOut);
        Assert.True(TimeProvider.System.GetElapsedTime(start) < TimeSpan.FromSeconds(60), "it took too long");
        await Containerds.NothingLeftAsync(containerd);
        _ = await containerd.CtrAsync("container", "rm", id);
    }

    [Theory]
    [MemberData(nameof(Containerds.Versions), MemberType = typeof(Containerds))]
    public async Task when_the_shim_of_a_pod_is_killed_all_its_containers_go(string version)
    {
        var containerd = await containerds.GetAsync(version);
        var pod = ProgramTests.Id();
        List<RunningContainer> containers = [];
        foreach (var kind in (string[])[".native", ".wasm", ".native"])
        {
            containers.Add(await RunningContainer.StartAsync(containerd, ["--annotation", "io.containerd.runc.v2.group=" + pod], "/sleep" + kind));
        }

        using (var shim = PidFds.Open(await containerd.ShimAsync()))
        {
            Assert.True(PidFds.Signal(shim!, Signals.Kill));
        }

        await Containerds.NothingLeftAsync(containerd);
        foreach (var container in containers)
        {
            Assert.Equal("", (await container.StateAsync()).Status);
            await container.DisposeAsync();
        }
    }

    [Theory]
    [MemberData(nameof(Containerds.Versions), MemberType = typeof(Containerds))]
    public async Task containerd_may_be_killed_at_any_moment(string version)
    {
        var containerd = await containerds.GetAsync(version);
        var random = new Random(version[^1]);

        // The first two cost most: a shim to which nobody came leaves by itself after 20 seconds.
        Moment[] moments = [.. Enum.GetValues<Moment>(), Moment.Running, Moment.Exec, Moment.Exit, Moment.Delete];
        for (var point = 0; point < moments.Length; point++)
        {
            var moment = moments[point];
            var id = ProgramTests.Id();
            var ctr = await BeginAsync(containerd, moment, id, point % 4 < 2 ? ".native" : ".wasm");
            await Task.Delay(random.Next(60)); // the moment is the matter of the test
            await containerd.KillAsync();
            _ = await ctr.Exit.WaitAsync(RunningContainer.Patience);
            await containerd.StartAgainAsync();

            var found = (await containerd.CtrAsync("task", "ls")).Output;
            Assert.True(moment is not (Moment.Running or Moment.Exec) || Regex.IsMatch(found, $"{id} +[0-9]+ +RUNNING"), $"point {point}, {moment}: {found}");

            // Whatever of the container containerd knows of can be removed; what it does not know of goes by itself.
            _ = await containerd.CtrAsync("task", "kill", "--signal", "SIGKILL", id);
            Assert.True(
                await Until.HoldsAsync(
                    async () =>
                    {
                        _ = await containerd.CtrAsync("task", "rm", "--force", id);
                        return containerd.Leftovers().Count == 0;
                    },
                    RunningContainer.Patience),
                $"point {point}, {moment}: {string.Join('\n', containerd.Leftovers())}");
            _ = await containerd.CtrAsync("container", "rm", id);
        }
    }

    /// <summary>Brings a container to a moment of its life, or into it.</summary>
    private static async Task<ChildProcess> BeginAsync(PrivateContainerd containerd, Moment moment, string id, string kind)
    {
        string[] words = ["run", "--detach", "--null-io", "--runtime", Repository.Shim, PrivateContainerd.Image, id, "/sleep" + kind];
        if (moment is Moment.ShimStart or Moment.Create)
        {
            var (run, _) = containerd.InBackground(words);
            var sign = moment == Moment.ShimStart ? containerd.Bundle(id) : Path.Combine(containerd.Bundle(id), "address");
            Assert.True(await Until.HoldsAsync(() => Task.FromResult(Path.Exists(sign)), RunningContainer.Patience));
            return run;
        }

        _ = (await containerd.CtrAsync(words)).Demand();
        string[] kill = ["task", "kill", "--signal", "SIGKILL", id];
        if (moment == Moment.Delete)
        {
            _ = (await containerd.CtrAsync(kill)).Demand();
            Assert.True(await Until.HoldsAsync(async () => (await containerd.TaskAsync(id)).Status == "STOPPED", RunningContainer.Patience));
        }

        return containerd.InBackground(moment switch
        {
            Moment.Exec => ["task", "exec", "--exec-id", "exec", "--fifo-dir", Path.Combine(containerd.Folder, "fifos-" + id), id, "/hello" + kind],
            Moment.Exit => kill,
            Moment.Delete => ["task", "rm", id],
            _ => ["task", "ls"],
        }).Process;
    }

    private enum Moment
    {
        ShimStart,
        Create,
        Running,
        Exec,
        Exit,
        Delete,
    }
}
