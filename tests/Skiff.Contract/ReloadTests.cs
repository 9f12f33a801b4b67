using Skiff.Testing;

namespace Skiff.Contract;

/// <summary>containerd crashes and comes back; containers go on.</summary>
public sealed class ReloadTests(Containerds containerds)
{
    [Theory]
    [MemberData(nameof(Containerds.Versions), MemberType = typeof(Containerds))]
    public async Task a_containerd_that_comes_back_finds_all_and_how_those_ended_that_ended_meanwhile(string version)
    {
        var containerd = await containerds.GetAsync(version);
        var folder = Directory.CreateDirectory(Path.Combine(containerd.Folder, "reload-" + ProgramTests.Id())).FullName;
        string[] mount = ["--mount", $"type=bind,src={folder},dst=/rw,options=rbind:rw"];
        List<RunningContainer> running = [];
        for (var i = 0; i < (version is "1.6" or "2.4" ? 18 : 4); i++)
        {
            running.Add(await RunningContainer.StartAsync(containerd, [], "/sleep" + (i % 2 == 0 ? ".wasm" : ".native")));
        }

        var ending = new[]
        {
            await RunningContainer.StartAsync(containerd, mount, "/await.wasm", "/rw/go", "42"),
            await RunningContainer.StartAsync(containerd, mount, "/await.native", "/rw/go", "43"),
        };
        List<int> pids = [];
        foreach (var container in running)
        {
            pids.Add((await container.StateAsync()).Pid);
        }

        var inits = new List<int> { (await ending[0].StateAsync()).Pid, (await ending[1].StateAsync()).Pid };
        await containerd.KillAsync();
        await File.WriteAllTextAsync(folder + "/go", "");
        Assert.True(await Until.HoldsAsync(() => Task.FromResult(inits.TrueForAll(p => !Directory.Exists($"/proc/{p}"))), RunningContainer.Patience));
        await containerd.StartAgainAsync();

        for (var i = 0; i < running.Count; i++)
        {
            Assert.Equal((pids[i], "RUNNING"), await running[i].StateAsync());
        }

        foreach (var (container, pid) in running[..4].Zip(pids))
        {
            Assert.Equal("hello from wasm, 1 arguments\n", (await container.ExecAsync("/hello.wasm")).Text);
            Assert.Contains($"{pid}", (await containerd.CtrAsync("task", "ps", container.Id)).Output, StringComparison.Ordinal);
            Assert.Contains("\"pids\"", (await containerd.CtrAsync("task", "metrics", "--format", "json", container.Id)).Demand().Output, StringComparison.Ordinal);
        }

        for (var i = 0; i < ending.Length; i++)
        {
            Assert.Equal("STOPPED", (await ending[i].StateAsync()).Status);
            Assert.Contains($"exit with non-zero exit code {42 + i}", (await containerd.CtrAsync("task", "rm", ending[i].Id)).Text, StringComparison.Ordinal);
        }

        foreach (var container in running.Concat(ending))
        {
            await container.DisposeAsync();
        }
    }
}
