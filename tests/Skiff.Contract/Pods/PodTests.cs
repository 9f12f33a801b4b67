using System.Text.Json.Nodes;
using Skiff.Testing;

namespace Skiff.Contract.Pods;

/// <summary>Pods through CRI, as the kubelet drives it.</summary>
public sealed class PodTests(Containerds containerds)
{
    private static readonly string[] _kinds = [".wasm", ".component.wasm", ".native"];

    public static TheoryData<string> Versions => Containerds.Versions;

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task one_pod_is_one_shim_with_pause_wasm_and_native_side_by_side(string version)
    {
        var containerd = await containerds.GetForPodsAsync(version);
        await using (var pod = await Pod.RunAsync(containerd))
        {
            var shim = await containerd.ShimAsync();
            var pause = await pod.SandboxPidAsync();
            foreach (var kind in _kinds)
            {
                var id = await pod.StartAsync(null, "/sleep" + kind);
                await pod.SaysAsync(id, "ready");
                Assert.Equal(shim, await containerd.ShimAsync());
                var pid = await pod.PidAsync(id);
                foreach (var shared in (string[])["net", "ipc", "uts"])
                {
                    Assert.Equal(Pod.NamespaceOf(pause, shared), Pod.NamespaceOf(pid, shared));
                }

                Assert.NotEqual(Pod.NamespaceOf(pause, "pid"), Pod.NamespaceOf(pid, "pid"));
                Assert.NotEqual(Pod.NamespaceOf(pause, "mnt"), Pod.NamespaceOf(pid, "mnt"));
            }

            await using var other = await Pod.RunAsync(containerd);
            Assert.Equal(2, containerd.Shims().Count);
        }

        await Containerds.NothingLeftAsync(containerd);
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task containers_come_and_go_in_a_pod_that_lives(string version)
    {
        var containerd = await containerds.GetForPodsAsync(version);
        await using var pod = await Pod.RunAsync(containerd);
        var shim = await containerd.ShimAsync();
        foreach (var (kind, status) in (List<(string, int)>)[(".wasm", 42), (".native", 42), (".wasm", 0), (".component.wasm", 1)])
        {
            var id = await pod.StartAsync(null, "/exit" + kind, $"{status}");
            Assert.Equal(status, (await pod.EndAsync(id)).GetProperty("exitCode").GetInt32());
            _ = (await containerd.CrictlAsync("rm", id)).Demand();
            Assert.Equal(shim, await containerd.ShimAsync());
        }

        var sleeper = await pod.StartAsync(null, "/sleep.wasm");
        _ = (await containerd.CrictlAsync("stop", "--timeout", "60", sleeper)).Demand();
        Assert.Equal(143, (await pod.StatusAsync(sleeper)).GetProperty("exitCode").GetInt32());
        Assert.Equal(shim, await containerd.ShimAsync());
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task a_shared_pid_namespace_is_shared_and_init_takes_its_children_along(string version)
    {
        var containerd = await containerds.GetForPodsAsync(version);
        var shared = new JsonObject { ["linux"] = new JsonObject { ["security_context"] = new JsonObject { ["namespace_options"] = new JsonObject { ["pid"] = 0 } } } };
        await using var pod = await Pod.RunAsync(containerd, (JsonObject)shared.DeepClone());
        var pause = await pod.SandboxPidAsync();
        var wasm = await pod.StartAsync((JsonObject)shared.DeepClone(), "/sleep.wasm");
        Assert.Equal(Pod.NamespaceOf(pause, "pid"), Pod.NamespaceOf(await pod.PidAsync(wasm), "pid"));
        var (status, log) = await pod.RunToEndAsync(shared, "/orphan.native");
        Assert.Equal((0, "left\n"), (status.GetProperty("exitCode").GetInt32(), log));

        // The pause process, the Wasm container, and nobody whom the orphan's container left behind.
        var name = Pod.NamespaceOf(pause, "pid");
        Assert.True(await Until.HoldsAsync(() => Task.FromResult(ProcessesIn(name).Count() == 2), RunningContainer.Patience));
        Assert.Equal("CONTAINER_RUNNING", (await pod.StatusAsync(wasm)).GetProperty("state").GetString());
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task exec_attach_port_forward_and_logs_work(string version)
    {
        var containerd = await containerds.GetForPodsAsync(version);
        await using var pod = await Pod.RunAsync(containerd);
        var wasm = await pod.StartAsync(null, "/sleep.wasm");
        foreach (var kind in _kinds)
        {
            foreach (var how in (string[][])[["exec", "--sync"], ["exec", "--transport", "spdy"]])
            {
                var hello = await containerd.CrictlAsync([.. how, wasm, "/hello" + kind, "a b"]);
                Assert.Equal((0u, $"hello from {(kind == ".native" ? "native" : "wasm")}, 2 arguments"), (hello.Status, hello.Text.TrimEnd('\n'))); // crictl adds some
            }

            var status = await containerd.CrictlAsync("exec", "--sync", wasm, "/exit" + kind, "1");
            Assert.True(status.Error.Contains("exited with 1", StringComparison.Ordinal), status.Error);
        }

        var cat = await pod.StartAsync(new JsonObject { ["stdin"] = true, ["stdin_once"] = true }, "/cat.wasm");
        var attached = await containerd.CrictlAsync("typed in"u8.ToArray(), "attach", "--transport", "spdy", "--stdin", cat);
        Assert.Equal((0u, "typed in"), (attached.Status, attached.Output));
        Assert.Equal(0, (await pod.EndAsync(cat)).GetProperty("exitCode").GetInt32());

        var server = await pod.StartAsync(null, "/listen.native", "8080");
        await pod.SaysAsync(server, "listening");
        Assert.Equal("hello from port 8080\n", await containerd.ForwardedAsync(pod.Id, 8080));
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task many_pods_eight_at_a_time_leave_nothing(string version)
    {
        var containerd = await containerds.GetForPodsAsync(version);
        await Parallel.ForEachAsync(Enumerable.Range(0, Repetitions.Of(24, all: 50)), new ParallelOptions { MaxDegreeOfParallelism = 8 }, async (i, _) =>
        {
            await using var pod = await Pod.RunAsync(containerd);
            var (status, log) = await pod.RunToEndAsync(null, "/hello" + (i % 2 == 0 ? ".wasm" : ".native"));
            Assert.Equal((0, $"hello from {(i % 2 == 0 ? "wasm" : "native")}, 1 arguments\n"), (status.GetProperty("exitCode").GetInt32(), log));
        });
        await Containerds.NothingLeftAsync(containerd);
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task what_cannot_run_says_why_and_the_pod_lives(string version)
    {
        var containerd = await containerds.GetForPodsAsync(version);
        await using var pod = await Pod.RunAsync(containerd);
        foreach (var (program, reason) in (List<(string, string)>)[
            ("/text.txt", "is neither a native program nor WebAssembly"), ("/truncated.wasm", "cannot be compiled"), ("/missing", "/missing")])
        {
            var id = await pod.TryCreateAsync(null, program);
            var said = id.Status == 0 ? (await containerd.CrictlAsync("start", id.Output.Trim())).Error : id.Error;
            Assert.Contains(reason, said, StringComparison.Ordinal);
        }

        Assert.Equal(0, (await pod.RunToEndAsync(null, "/hello.wasm")).Status.GetProperty("exitCode").GetInt32());
    }

    private static IEnumerable<int> ProcessesIn(string pidNamespace)
    {
        foreach (var folder in Directory.GetDirectories("/proc"))
        {
            if (int.TryParse(Path.GetFileName(folder), out var pid) && Path.Exists(folder + "/ns/pid"))
            {
                string name;
                try
                {
                    name = File.ReadAllText(folder + "/cmdline").Length == 0 ? "a zombie's" : Pod.NamespaceOf(pid, "pid"); // this pause does not reap
                }
                catch (Exception e) when (e is IOException or UnauthorizedAccessException)
                {
                    continue; // it has ended, or is above us
                }

                if (name == pidNamespace)
                {
                    yield return pid;
                }
            }
        }
    }
}
