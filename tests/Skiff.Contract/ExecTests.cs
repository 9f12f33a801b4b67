using Skiff.Testing;

namespace Skiff.Contract;

/// <summary>More processes in a running container.</summary>
public sealed class ExecTests(Containerds containerds)
{
    private static readonly string[] _kinds = [".wasm", ".component.wasm", ".native"];

    public static TheoryData<string> Versions => Containerds.Versions;

    public static TheoryData<string, string> Inits => [.. ContainerdVersion.All.SelectMany(v => new[] { (v.Name, ".wasm"), (v.Name, ".native") })];

    [Theory]
    [MemberData(nameof(Inits))]
    public async Task each_kind_of_program_runs_in_each_kind_of_container(string version, string init)
    {
        var containerd = await containerds.GetAsync(version);
        await using var container = await RunningContainer.StartAsync(containerd, [], "/sleep" + init);
        foreach (var kind in _kinds)
        {
            var hello = await container.ExecAsync("/hello" + kind, "a", "b");
            Assert.Equal((0u, $"hello from {(kind == ".native" ? "native" : "wasm")}, 3 arguments\n"), (hello.Status, hello.Text));
            Assert.Equal(kind == ".component.wasm" ? 1u : 42u, (await container.ExecAsync("/exit" + kind, "42")).Status);
            Assert.Equal("some input", (await container.ExecAsync("some input"u8.ToArray(), "/cat" + kind)).Text);
        }
    }

    [Theory]
    [MemberData(nameof(Inits))]
    public async Task an_exec_has_the_containers_environment_and_mounts_and_its_own_folder_user_and_input(string version, string kind)
    {
        var containerd = await containerds.GetAsync(version);
        var folder = Directory.CreateDirectory(Path.Combine(containerd.Folder, "mounts-" + ProgramTests.Id())).FullName;
        _ = Directory.CreateDirectory(folder + "/ro");
        _ = Directory.CreateDirectory(folder + "/rw");
        await File.WriteAllTextAsync(folder + "/ro/data.txt", "data");
        await using var container = await RunningContainer.StartAsync(
            containerd,
            ["--env", "SKIFF_CHECK=a=b c", "--mount", $"type=bind,src={folder}/ro,dst=/data,options=rbind:ro",
                "--mount", $"type=bind,src={folder}/rw,dst=/rw,options=rbind:rw"],
            "/sleep" + kind);
        var check = await container.ExecAsync("from stdin"u8.ToArray(), "--cwd=/work", "/check" + kind, "one", "two words", "");
        Assert.Equal((0u, "checked\n"), (check.Status, check.Error));
        Assert.DoesNotContain("FAIL", check.Output, StringComparison.Ordinal);
        Assert.Equal("1000 1000 /work 1\n", (await container.ExecAsync("--cwd=/work", "--user", "1000:1000", "/identity.native")).Text);
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task execs_in_a_row_and_at_once_keep_their_own_status_and_leave_nothing(string version)
    {
        var containerd = await containerds.GetAsync(version);
        await using var container = await RunningContainer.StartAsync(containerd, [], "/sleep.wasm");
        for (var i = 0; i < 50; i++)
        {
            Assert.Equal((uint)i, (await container.ExecAsync("/exit" + (i % 2 == 0 ? ".native" : ".wasm"), $"{i}")).Status);
        }

        await Parallel.ForEachAsync(Enumerable.Range(0, 24), new ParallelOptions { MaxDegreeOfParallelism = 8 }, async (i, _) =>
            Assert.Equal((uint)i, (await container.ExecAsync("/exit" + (i % 2 == 0 ? ".native" : ".wasm"), $"{i}")).Status));
        Assert.Empty(Directory.GetFiles(containerd.Bundle(container.Id), "exec-*"));
        Assert.Empty(Directory.GetFiles(containerd.Bundle(container.Id), "runtime-log*"));
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task an_exec_ends_before_its_container_and_events_say_so_in_order(string version)
    {
        var containerd = await containerds.GetAsync(version);
        using var events = new EventLog(containerd);
        string id;
        await using (var container = await RunningContainer.StartAsync(containerd, [], "/sleep.native"))
        {
            id = container.Id;
            Assert.Equal(7u, (await container.ExecAsync("/exit.native", "7")).Status);
            var (exec, said) = containerd.InBackground("task", "exec", "--exec-id", "last", id, "/sleep.wasm");
            Assert.True(await Until.HoldsAsync(async () => (await File.ReadAllTextAsync(said)).Contains("ready", StringComparison.Ordinal), RunningContainer.Patience));
            Assert.Contains("last", (await containerd.CtrAsync("task", "ps", id)).Output, StringComparison.Ordinal);
            _ = (await containerd.CtrAsync("task", "kill", "--signal", "SIGKILL", id)).Demand();
            Assert.Equal(137u, (await exec.Exit.WaitAsync(RunningContainer.Patience)).ShellCode);
        }

        await events.ComesAsync(
            id, "/tasks/create", "/tasks/start", "/tasks/exec-added", "/tasks/exec-started", "/tasks/exit", "/tasks/exec-added", "/tasks/exec-started",
            "/tasks/exit", "/tasks/exit", "/tasks/delete");
        var exits = (await events.LinesAsync(id)).Where(l => l.Contains("/tasks/exit ", StringComparison.Ordinal)).ToList();
        Assert.Contains("\"id\":\"last\"", exits[1], StringComparison.Ordinal);
        Assert.Contains($"\"id\":\"{id}\"", exits[2], StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task an_exec_can_be_killed_and_its_container_lives(string version)
    {
        var containerd = await containerds.GetAsync(version);
        await using var container = await RunningContainer.StartAsync(containerd, [], "/sleep.wasm");
        foreach (var (signal, kind, status) in (List<(string, string, uint)>)[("SIGTERM", ".wasm", 143), ("SIGKILL", ".wasm", 137), ("SIGTERM", ".native", 143)])
        {
            var name = ProgramTests.Id();
            var (exec, said) = containerd.InBackground("task", "exec", "--exec-id", name, container.Id, "/spin" + kind);
            Assert.True(await Until.HoldsAsync(async () => (await File.ReadAllTextAsync(said)).Contains("spinning", StringComparison.Ordinal), RunningContainer.Patience));
            _ = (await containerd.CtrAsync("task", "kill", "--exec-id", name, "--signal", signal, container.Id)).Demand();
            Assert.Equal(status, (await exec.Exit.WaitAsync(RunningContainer.Patience)).ShellCode);
        }

        Assert.Equal("RUNNING", (await container.StateAsync()).Status);
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task an_exec_that_cannot_be_says_why(string version)
    {
        var containerd = await containerds.GetAsync(version);
        await using var container = await RunningContainer.StartAsync(containerd, ["--read-only"], "/sleep.native");
        Assert.Contains("/missing: no such file", (await container.ExecAsync("/missing")).Text, StringComparison.Ordinal);
        Assert.Contains("the program /empty is empty", (await container.ExecAsync("/empty")).Text, StringComparison.Ordinal);
        Assert.Contains("give the image an empty folder /.skiff", (await container.ExecAsync("/hello.wasm")).Text, StringComparison.Ordinal);
        Assert.Equal("hello from native, 1 arguments\n", (await container.ExecAsync("/hello.native")).Text);
    }
}
