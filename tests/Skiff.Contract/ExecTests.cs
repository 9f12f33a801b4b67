using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Microsoft.Win32.SafeHandles;
using Skiff.Containerd.Task;
using Skiff.Containerd.Types;
using Skiff.Linux.Files;
using Skiff.Linux.Processes;
using Skiff.Testing;
using Skiff.Ttrpc;

namespace Skiff.Contract;

/// <summary>More processes in a running container.</summary>
public sealed class ExecTests(Containerds containerds)
{
    private static readonly string[] _kinds = [".wasm", ".component.wasm", ".native"];

    public static TheoryData<string> Versions => Containerds.Versions;

    public static TheoryData<string, string> Inits => [.. ContainerdVersion.Tested.SelectMany(v => new[] { (v.Name, ".wasm"), (v.Name, ".native") })];

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
        using var events = await EventLog.StartAsync(containerd);
        string id;
        await using (var container = await RunningContainer.StartAsync(containerd, [], "/sleep.native"))
        {
            id = container.Id;
            Assert.Equal(7u, (await container.ExecAsync("/exit.native", "7")).Status);
            var (exec, said) = containerd.InBackground("task", "exec", "--exec-id", "last", id, "/sleep.wasm");
            await SaysAsync(said, "ready");

            // A program may run before the OCI runtime that started it has come back; only then the shim knows which process it is.
            await events.ComesAsync(
                id, "/tasks/create", "/tasks/start", "/tasks/exec-added", "/tasks/exec-started", "/tasks/exit", "/tasks/exec-added", "/tasks/exec-started");
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
            await SaysAsync(said, "spinning");
            _ = (await containerd.CtrAsync("task", "kill", "--exec-id", name, "--signal", signal, container.Id)).Demand();
            Assert.Equal(status, (await exec.Exit.WaitAsync(RunningContainer.Patience)).ShellCode);
        }

        Assert.Equal("RUNNING", (await container.StateAsync()).Status);
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task what_is_asked_of_a_program_that_is_still_being_started_waits_for_its_start(string version)
    {
        var containerd = await containerds.GetAsync(version);
        await using var container = RunningContainer.Of(containerd, ProgramTests.Id());
        using var runtime = await LateRuntime.MakeAsync(containerd);
        var said = Path.Combine(containerd.Folder, "said-" + ProgramTests.Id());
        await File.WriteAllTextAsync(said, "");
        _ = containerd.InBackground(
            "run", "--detach", "--log-uri", "file://" + said, "--runtime", Repository.Shim, "--runtime-config-path", runtime.Settings,
            PrivateContainerd.Image, container.Id, "/sleep.native");
        await SaysAsync(said, "ready");

        // Asked of the shim itself: what is answered later on the same connection shows that a request is there and waits.
        using var shim = await container.ConnectToShimAsync();
        var spec = new Any { TypeUrl = "types.containerd.io/opencontainers/runtime-spec/1/Process", Value = ByteString.CopyFromUtf8("""{"args":["/spin.native"],"cwd":"/"}""") };
        Assert.Null((await CallAsync(shim, "Exec", new ExecProcessRequest { Id = container.Id, ExecId = "e", Stdout = "file://" + said, Spec = spec }, Empty.Parser)).Error);
        Assert.Equal(
            $"cannot kill exec e of container {container.Id}: it is created",
            (await CallAsync(shim, "Kill", new KillRequest { Id = container.Id, ExecId = "e", Signal = Signals.Terminate }, Empty.Parser)).Error?.Message);
        var start = CallAsync(shim, "Start", new StartRequest { Id = container.Id, ExecId = "e" }, StartResponse.Parser);
        Assert.Equal(Status.Created, (await CallAsync(shim, "State", new StateRequest { Id = container.Id }, StateResponse.Parser)).Value!.Status);
        Assert.False(start.IsCompleted);
        runtime.ReturnFromStart();

        await SaysAsync(said, "spinning");
        var kill = CallAsync(shim, "Kill", new KillRequest { Id = container.Id, ExecId = "e", Signal = Signals.Terminate }, Empty.Parser);
        Assert.Equal(Status.Created, (await CallAsync(shim, "State", new StateRequest { Id = container.Id, ExecId = "e" }, StateResponse.Parser)).Value!.Status);
        Assert.False(start.IsCompleted || kill.IsCompleted);
        runtime.ReturnFromExec();
        Assert.Null((await start).Error);
        Assert.Null((await kill).Error);
        Assert.Equal(143u, (await CallAsync(shim, "Wait", new WaitRequest { Id = container.Id, ExecId = "e" }, WaitResponse.Parser)).Value?.ExitStatus);
        Assert.Null((await CallAsync(shim, "Delete", new DeleteRequest { Id = container.Id, ExecId = "e" }, DeleteResponse.Parser)).Error);
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

    private static async Task SaysAsync(string output, string words) => Assert.True(
        await Until.HoldsAsync(async () => (await File.ReadAllTextAsync(output)).Contains(words, StringComparison.Ordinal), RunningContainer.Patience),
        await File.ReadAllTextAsync(output));

    private static Task<TtrpcResult<T>> CallAsync<T>(TtrpcClient shim, string method, IMessage request, MessageParser<T> parser)
        where T : class, IMessage<T> => shim.CallAsync("containerd.task.v2.Task", method, request, parser, RunningContainer.Patience);

    /// <summary>runc, which returns from <c>start</c> and <c>exec</c> not before it is told to, however long the program has run by then.</summary>
    private sealed class LateRuntime : IDisposable
    {
        private readonly string _path;
        private readonly SafeFileHandle _start;
        private readonly SafeFileHandle _exec;

        private LateRuntime(string path)
        {
            _path = path;
            _start = Hold(path + ".start");
            _exec = Hold(path + ".exec");
        }

        public string Settings => _path + ".toml";

        public static async Task<LateRuntime> MakeAsync(PrivateContainerd containerd)
        {
            var path = Path.Combine(containerd.Folder, "late-" + ProgramTests.Id());
            var late = new LateRuntime(path);
            await File.WriteAllTextAsync(path, $"""
                #!/bin/sh
                runc "$@"
                status=$?
                case " $* " in *" start "*) read -r end < {path}.start;; *" exec "*) read -r end < {path}.exec;; esac
                exit $status

                """);
            File.SetUnixFileMode(path, (UnixFileMode)0x1ED);
            await File.WriteAllTextAsync(late.Settings, $"BinaryName = \"{path}\"\n");
            return late;
        }

        public void ReturnFromStart() => Release(_path + ".start", _start);

        public void ReturnFromExec() => Release(_path + ".exec", _exec);

        public void Dispose()
        {
            ReturnFromStart();
            ReturnFromExec();
        }

        // A FIFO that somebody could write to: its reader waits.
        private static SafeFileHandle Hold(string path)
        {
            Fifo.Create(path, 0x180);
            return File.OpenHandle(path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
        }

        // Who reads comes to the end. Who comes only now, because a program runs before the runtime is done with it, finds no FIFO to wait for.
        private static void Release(string path, SafeFileHandle held)
        {
            File.Delete(path);
            held.Dispose();
        }
    }
}
