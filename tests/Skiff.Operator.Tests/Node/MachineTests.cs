using Skiff.Linux.Processes;
using Skiff.Testing;

namespace Skiff.Operator.Tests.Node;

/// <summary>The installer as a native program on whole machines with systemd and a containerd that does not know of it.</summary>
public sealed class MachineTests
{
    private const string Hello =
        "ctr run --rm --runtime /opt/skiff/current/bin/containerd-shim-skiff-v1 skiff.test/guests:1 hello-$RANDOM /hello.wasm";

    private const int Kills = 4;

    [Theory]
    [InlineData("1.6")]
    [InlineData("2.4")]
    public async Task an_install_works_once_and_for_all_and_an_uninstall_leaves_nothing(string version)
    {
        await using var machine = await Machine.BootAsync(ContainerdVersion.Named(version));
        var configuration = await machine.ConfigurationAsync();
        var files = machine.LayerFiles();
        var pid = await machine.ContainerdPidAsync();

        // 1. Install: restarted once, the self-test really made (else there is a note), and the shim works.
        var output = Demand(await machine.OperatorAsync("install"));
        Assert.Contains("was restarted", output, StringComparison.Ordinal);
        Assert.DoesNotContain("note:", output, StringComparison.Ordinal);
        var second = await machine.ContainerdPidAsync();
        Assert.NotEqual(pid, second);
        Assert.Contains("hello", await machine.DemandAsync(Hello), StringComparison.OrdinalIgnoreCase);
        Assert.Contains("\"ready\": true", Demand(await machine.OperatorAsync("status", "-o", "json")), StringComparison.Ordinal);

        // 2. Again: the same containerd, nothing written.
        var state = await machine.DemandAsync("cd /; find etc/containerd opt/skiff var/lib/skiff -printf '%p %T@ %i\\n' | sort");
        Assert.Contains("was nothing to do", Demand(await machine.OperatorAsync("install")), StringComparison.Ordinal);
        Assert.Equal(second, await machine.ContainerdPidAsync());
        Assert.Equal(state, await machine.DemandAsync("cd /; find etc/containerd opt/skiff var/lib/skiff -printf '%p %T@ %i\\n' | sort"));

        // 3. Held back while a pod runs.
        _ = await machine.DemandAsync("ctr run -d --null-io --runtime /opt/skiff/current/bin/containerd-shim-skiff-v1 skiff.test/guests:1 sleeper /sleep.wasm");
        var held = await machine.OperatorAsync("uninstall");
        Assert.True(held.Exit.Code == 3, $"{held.Exit} {held.OutputText}{held.Error}");
        Assert.Equal(second, await machine.ContainerdPidAsync());
        _ = await machine.DemandAsync(
            "ctr task kill -s KILL sleeper; for i in $(seq 600); do ctr task ls | grep -q 'sleeper.*STOPPED' && break; sleep 0.2; done; "
            + "ctr task rm sleeper >/dev/null 2>&1 || true; ctr container rm sleeper");

        // 4. Uninstall.
        Assert.Contains("is uninstalled", Demand(await machine.OperatorAsync("uninstall")), StringComparison.Ordinal);
        Assert.Equal(configuration, await machine.ConfigurationAsync());
        Assert.Equal(files, machine.LayerFiles());
        Assert.Equal("active", await machine.DemandAsync("systemctl is-active containerd"));
        Assert.Contains("registered      no", Demand(await machine.OperatorAsync("status")), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("1.6")]
    [InlineData("2.4")]
    public async Task a_containerd_that_refuses_the_configuration_runs_on_the_old_one(string version)
    {
        await using var machine = await Machine.BootAsync(ContainerdVersion.Named(version));
        _ = await machine.DemandAsync(
            "mkdir -p /etc/systemd/system/containerd.service.d; "
            + "printf '[Service]\\nExecStartPre=/bin/sh -c \"! grep -rq runtimes.skiff /etc/containerd || { echo refused for a test >&2; exit 1; }\"\\n' "
            + "> /etc/systemd/system/containerd.service.d/refuse.conf; "
            + "systemctl daemon-reload");
        var configuration = await machine.ConfigurationAsync();
        var files = machine.LayerFiles();
        var pid = await machine.ContainerdPidAsync();
        var failed = await machine.OperatorAsync("install");
        Assert.True(failed.Exit.Code == 1, $"{failed.Exit} {failed.OutputText}{failed.Error}");
        Assert.Contains("RolledBack", failed.Error, StringComparison.Ordinal);
        Assert.Contains("refused for a test", failed.Error, StringComparison.Ordinal);
        Assert.Equal("active", await machine.DemandAsync("systemctl is-active containerd"));
        Assert.NotEqual(pid, await machine.ContainerdPidAsync());
        Assert.Equal(configuration, await machine.ConfigurationAsync());
        Assert.Equal(files, machine.LayerFiles());

        // Killed between the start that failed and going back: the next run goes back.
        _ = await machine.KillOperatorInAsync("RollBack", "install");
        var recovered = await machine.OperatorAsync("install");
        Assert.True(recovered.Exit.Code == 1 && recovered.Error.Contains("RolledBack", StringComparison.Ordinal), recovered.OutputText + recovered.Error);
        Assert.Equal("active", await machine.DemandAsync("systemctl is-active containerd"));
        Assert.Equal(configuration, await machine.ConfigurationAsync());
        Assert.Equal(files, machine.LayerFiles());

        // Killed in the restart, and nobody comes: the node itself goes back (with less patience than in earnest), and the next run says so.
        _ = await machine.DemandAsync(
            "/skiff/bin/skiff-operator node install & p=$!; while systemctl is-active -q containerd; do kill -0 $p; sleep 0.005; done; kill -9 $p; wait $p || true; "
            + "sed -i 's/^left=.*/left=1/' /var/lib/skiff/restore.sh; sed -i 's/=20$/=1/' /etc/systemd/system/skiff-restore.timer; "
            + "systemctl daemon-reload; systemctl restart skiff-restore.timer; "
            + "for i in $(seq 1200); do [ -e /var/lib/skiff/restored ] && systemctl is-active containerd && exit 0; sleep 0.1; done; "
            + "systemctl status skiff-restore.timer skiff-restore.service containerd; exit 1");
        Assert.Equal(configuration, await machine.ConfigurationAsync());
        var alone = await machine.ContainerdPidAsync();
        recovered = await machine.OperatorAsync("install");
        Assert.True(recovered.Exit.Code == 1 && recovered.Error.Contains("the node itself put its files back", StringComparison.Ordinal), recovered.OutputText + recovered.Error);
        Assert.Equal(alone, await machine.ContainerdPidAsync());
        Assert.Equal(configuration, await machine.ConfigurationAsync());
        Assert.Equal(files, machine.LayerFiles());
    }

    [Theory]
    [InlineData("1.6")]
    [InlineData("2.4")]
    public async Task an_installer_that_is_killed_anywhere_is_ended_by_the_next(string version)
    {
        await using var machine = await Machine.BootAsync(ContainerdVersion.Named(version));
        var configuration = await machine.ConfigurationAsync();
        var files = machine.LayerFiles();
        List<string> ends = [];
        Dictionary<string, double> lengths = [];
        foreach (var word in (string[])["install", "uninstall"])
        {
            var start = TimeProvider.System.GetTimestamp();
            Demand(await machine.OperatorAsync(word));
            lengths[word] = TimeProvider.System.GetElapsedTime(start).TotalSeconds;
        }

        foreach (var (word, length) in lengths)
        {
            for (var i = 0; i < Kills; i++)
            {
                await PrepareAsync(word);
                ends.Add($"{word} {i}: {(await machine.KillOperatorAsync(length * i / Kills, word)).Exit.ShellCode}");
                await CheckAsync(word);
            }

            foreach (var step in (string[])["Binaries", "Configuration", "Validate", "Restart", "Verify", "CleanUp"])
            {
                if (word == "uninstall" && step == "Binaries")
                {
                    continue; // it begins with the configuration
                }

                await PrepareAsync(word);
                ends.Add($"{word} in {step}: {(await machine.KillOperatorInAsync(step, word)).Exit.ShellCode}");
                await CheckAsync(word);
            }
        }

        // Some are over before they are killed; most are not.
        var killed = ends.Count(e => e.EndsWith(": 137", StringComparison.Ordinal));
        TestContext.Current.TestOutputHelper?.WriteLine(
            $"{string.Join(", ", lengths.Select(l => $"{l.Key} {l.Value:0.0} s"))}; {killed} of {ends.Count} were killed: {string.Join(", ", ends)}");
        Assert.True(killed >= 10, string.Join(", ", ends));

        async Task PrepareAsync(string word)
        {
            if (word == "uninstall")
            {
                Demand(await machine.OperatorAsync("install"));
            }
        }

        async Task CheckAsync(string word)
        {
            var point = ends[^1];
            var up = await machine.RunAsync(
                "for i in $(seq 1200); do ctr version >/dev/null 2>&1 && exit 0; sleep 0.1; done; exit 1");
            Assert.True(up.Exit.Success, $"{point}: containerd is down");
            var next = await machine.OperatorAsync(word);
            Assert.True(next.Exit.Success, $"{point}: {next.Exit} {next.OutputText}{next.Error}");
            if (word == "install")
            {
                Assert.Contains("\"ready\": true", Demand(await machine.OperatorAsync("status", "-o", "json")), StringComparison.Ordinal);
                Demand(await machine.OperatorAsync("uninstall"));
            }

            Assert.True(configuration == await machine.ConfigurationAsync(), point);
            Assert.Equal(files, machine.LayerFiles());
        }
    }

    [Fact]
    public async Task a_pod_works_on_its_node_through_process_1()
    {
        await using var machine = await Machine.BootAsync(ContainerdVersion.Named("1.6"));
        var configuration = await machine.ConfigurationAsync();

        // What a container would not see of its node is hidden: only the way through process 1 is left.
        const string pod =
            "exec unshare -m bash -ec 'mount --make-rprivate /; for d in /etc /opt /var/lib /run; do mount -t tmpfs hidden $d; done; "
            + "exec /skiff/bin/skiff-operator node \"$@\" --host-root /proc/1/root' bash \"$@\"";
        Demand(await machine.RunAsync(pod, "install"));
        Assert.Contains("hello", await machine.DemandAsync(Hello), StringComparison.OrdinalIgnoreCase);
        Assert.Contains("\"ready\": true", Demand(await machine.RunAsync(pod, "status", "-o", "json")), StringComparison.Ordinal);
        Demand(await machine.RunAsync(pod, "uninstall"));
        Assert.Equal(configuration, await machine.ConfigurationAsync());
        Assert.Equal("gone", await machine.DemandAsync("[ -e /opt/skiff -o -e /var/lib/skiff ] || echo gone"));
    }

    private static string Demand(CommandResult result)
    {
        Assert.True(result.Exit.Success, $"{result.Exit} {result.OutputText}{result.Error}");
        return result.OutputText;
    }
}
