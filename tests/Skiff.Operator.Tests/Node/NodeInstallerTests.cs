using Skiff.Containerd.Config;
using Skiff.Operator.Node;

namespace Skiff.Operator.Tests.Node;

public sealed class NodeInstallerTests : IDisposable
{
    private readonly FakeMachine _machine = new();
    private readonly FakeBundle _bundle = new();
    private readonly IReadOnlyDictionary<string, string> _untouched;

    public NodeInstallerTests() => _untouched = _machine.Everything;

    public void Dispose()
    {
        _machine.Dispose();
        _bundle.Dispose();
    }

    private NodeInstallRequest Request => new("skiff", _bundle.Folder) { PodAnnotations = ["skiff.dev/*"] };

    private NodeInstaller Installer(Action<string>? reached = null) => new(_machine, null, new ImpatientTime(), reached);

    private Task<InstallOutcome> InstallAsync(NodeInstallRequest? request = null, Action<string>? reached = null) =>
        Installer(reached).InstallAsync(request ?? Request, null, CancellationToken.None);

    private Task<InstallOutcome> UninstallAsync(bool force = false, RestartMode restart = RestartMode.Auto, Action<string>? reached = null) =>
        Installer(reached).UninstallAsync(new NodeUninstallRequest("skiff") { Force = force, Restart = restart }, null, CancellationToken.None);

    private RuntimeTable? Registered => EffectiveConfig.Parse(_machine.Read(FakeMachine.ConfigPath)).Config!.Find("skiff");

    private void AssertInstalled()
    {
        Assert.Equal(NodePaths.RuntimeType, Registered?.RuntimeType);
        Assert.True(_machine.IsUp);
        Assert.NotNull(_machine.Files.Target(NodePaths.RuntimeType));
        Assert.DoesNotContain(_machine.Everything.Keys, k => k.EndsWith(".tmp", StringComparison.Ordinal) || k.Contains(".new", StringComparison.Ordinal));
        Assert.DoesNotContain("\"step\"", _machine.Read(NodePaths.Journal), StringComparison.Ordinal);
    }

    [Fact]
    public async Task an_install_puts_the_bundle_and_the_table_there_and_restarts_once()
    {
        var outcome = await InstallAsync();
        Assert.True(outcome is { Result: InstallResult.Done, Reason: "Installed", Changed: true, Restarts: 1 }, outcome.ToString());
        AssertInstalled();
        Assert.Equal(1, _machine.Restarts);
        Assert.Equal("versions/" + outcome.Bundle, _machine.Files.LinkTarget(NodePaths.Current));
        var folder = NodePaths.Version(outcome.Bundle!);
        Assert.Equal(["containerd-shim-skiff-v1"], _machine.Files.Names(folder + "/bin"));
        Assert.Equal("library", _machine.Read(folder + "/run/deeper/library"));
        Assert.Equal(0x1EDu, _machine.Files.Status(folder + "/bin/containerd-shim-skiff-v1")!.Value.Permissions);
        Assert.Equal(0x1A4u, _machine.Files.Status(folder + "/run/skiff-run")!.Value.Permissions);
        Assert.Equal(FakeMachine.Config, _machine.Read(NodePaths.Backup + "/skiff/0-config.toml"));
        Assert.True(Registered!.Options["SystemdCgroup"].AsBoolean);
    }

    [Fact]
    public async Task a_second_install_writes_nothing_and_restarts_nothing()
    {
        _ = await InstallAsync();
        var before = _machine.Everything;
        var outcome = await InstallAsync();
        Assert.True(outcome is { Result: InstallResult.Done, Changed: false, Restarts: 0 }, outcome.ToString());
        Assert.Equal(before, _machine.Everything);
        Assert.Equal(1, _machine.Restarts);
    }

    [Fact]
    public async Task a_new_bundle_needs_no_restart_and_the_old_one_stays_while_a_shim_uses_it()
    {
        var old = (await InstallAsync()).Bundle!;
        _machine.Shims.Add(new RunningShim(7, old, IsBusy: false));
        using var bundle = new FakeBundle("two");
        var outcome = await InstallAsync(Request with { BundleFolder = bundle.Folder });
        Assert.True(outcome is { Result: InstallResult.Done, Changed: true, Restarts: 0 }, outcome.ToString());
        Assert.NotEqual(old, outcome.Bundle);
        Assert.Equal(2, _machine.Files.Names(NodePaths.Versions).Count);
        _machine.Shims.Clear();
        _ = await InstallAsync(Request with { BundleFolder = bundle.Folder });
        Assert.Equal([outcome.Bundle!], _machine.Files.Names(NodePaths.Versions));
    }

    [Fact]
    public async Task a_changed_option_restarts_and_a_file_that_was_damaged_does_not()
    {
        var bundle = (await InstallAsync()).Bundle!;
        var changed = await InstallAsync(Request with { Options = new Dictionary<string, OptionValue> { ["BinaryName"] = "/usr/bin/crun" } });
        Assert.True(changed is { Result: InstallResult.Done, Restarts: 1 }, changed.ToString());
        Assert.Equal("/usr/bin/crun", Registered!.Options["BinaryName"].AsString);
        _ = await InstallAsync();
        _machine.Write(NodePaths.Version(bundle) + "/run/skiff-run", "damaged");
        var mended = await InstallAsync();
        Assert.True(mended is { Result: InstallResult.Done, Changed: true, Restarts: 0 }, mended.ToString());
        Assert.Equal("runner", _machine.Read(NodePaths.Version(bundle) + "/run/skiff-run"));
    }

    [Fact]
    public async Task a_configuration_that_was_overwritten_and_not_read_is_mended_without_a_restart()
    {
        _ = await InstallAsync();
        _machine.Write(FakeMachine.ConfigPath, FakeMachine.Config);
        var outcome = await InstallAsync();
        Assert.True(outcome is { Result: InstallResult.Done, Changed: true, Restarts: 0 }, outcome.ToString());
        _machine.Write(FakeMachine.ConfigPath, FakeMachine.Config);
        _machine.Start();
        outcome = await InstallAsync();
        Assert.True(outcome is { Result: InstallResult.Done, Restarts: 1 }, outcome.ToString());
        AssertInstalled();
    }

    [Fact]
    public async Task an_uninstall_leaves_the_node_as_it_was()
    {
        _ = await InstallAsync();
        var outcome = await UninstallAsync();
        Assert.True(outcome is { Result: InstallResult.Done, Reason: "Uninstalled", Restarts: 1 }, outcome.ToString());
        Assert.Equal(_untouched, _machine.Everything);
        Assert.True(_machine.IsUp);
        outcome = await UninstallAsync();
        Assert.True(outcome is { Result: InstallResult.Done, Reason: "NotInstalled", Restarts: 0 }, outcome.ToString());
        Assert.Equal(_untouched, _machine.Everything);
    }

    [Fact]
    public async Task a_linked_configuration_stays_a_link_and_a_file_keeps_its_mode()
    {
        File.Move(_machine.At(FakeMachine.ConfigPath), _machine.At("/etc/real.toml"));
        File.SetUnixFileMode(_machine.At("/etc/real.toml"), UnixFileMode.UserRead | UnixFileMode.GroupRead);
        _ = File.CreateSymbolicLink(_machine.At(FakeMachine.ConfigPath), "/etc/real.toml"); // absolute: the node's, not ours
        var linked = _machine.Everything;
        Assert.Equal(InstallResult.Done, (await InstallAsync()).Result);
        Assert.Equal("/etc/real.toml", _machine.Files.LinkTarget(FakeMachine.ConfigPath));
        Assert.Contains("runtimes.skiff", _machine.Read("/etc/real.toml"), StringComparison.Ordinal);
        Assert.Equal(0x120u, _machine.Files.Status("/etc/real.toml")!.Value.Permissions);
        Assert.Equal(InstallResult.Done, (await UninstallAsync()).Result);
        Assert.Equal(linked, _machine.Everything);
        Assert.Equal(0x120u, _machine.Files.Status("/etc/real.toml")!.Value.Permissions);
    }

    [Fact]
    public async Task an_uninstall_is_held_back_while_shims_run_unless_forced()
    {
        var bundle = (await InstallAsync()).Bundle!;
        _machine.Shims.Add(new RunningShim(7, bundle, IsBusy: true));
        var before = _machine.Everything;
        var held = await UninstallAsync();
        Assert.True(held is { Result: InstallResult.InUse, RunningShims: 1, Changed: false, Restarts: 0 }, held.ToString());
        Assert.Equal(before, _machine.Everything);
        var forced = await UninstallAsync(force: true);
        Assert.True(forced is { Result: InstallResult.Done }, forced.ToString());
        Assert.Equal(_untouched, _machine.Everything);
    }

    [Fact]
    public async Task a_pod_that_comes_during_the_uninstall_keeps_its_files()
    {
        var bundle = (await InstallAsync()).Bundle!;
        var held = await UninstallAsync(reached: point =>
        {
            if (point == "restarted")
            {
                _machine.Shims.Add(new RunningShim(7, bundle, IsBusy: true));
            }
        });
        Assert.True(held is { Result: InstallResult.InUse, RunningShims: 1 }, held.ToString());
        Assert.NotNull(_machine.Files.Target(NodePaths.RuntimeType));
        _machine.Shims.Clear();
        Assert.Equal(InstallResult.Done, (await UninstallAsync()).Result);
        Assert.Equal(_untouched, _machine.Everything);
    }

    [Fact]
    public async Task a_restart_that_fails_brings_the_old_config_and_a_running_containerd_back()
    {
        _machine.DiesOf = text => text.Contains("runtimes.skiff", StringComparison.Ordinal);
        var outcome = await InstallAsync();
        Assert.True(outcome is { Result: InstallResult.RolledBack, Reason: "RestartFailed", Changed: false, Restarts: 2 }, outcome.ToString());
        Assert.Contains("failed to load the plugin", outcome.ContainerdSaid, StringComparison.Ordinal);
        Assert.Equal(_untouched, _machine.Everything);
        Assert.True(_machine.IsUp);
    }

    [Fact]
    public async Task an_upgrade_that_fails_keeps_the_version_before()
    {
        var old = (await InstallAsync()).Bundle;
        var before = _machine.Everything;
        using var bundle = new FakeBundle("two");
        _machine.Sandbox = handler => handler.Length == 0 ? null : "it does not start";
        var outcome = await InstallAsync(Request with { BundleFolder = bundle.Folder });
        Assert.True(outcome is { Result: InstallResult.RolledBack, Reason: "SelfTestFailed", Restarts: 0 }, outcome.ToString());
        Assert.Contains("it does not start", outcome.Message, StringComparison.Ordinal);
        Assert.Equal(old, outcome.Bundle);
        Assert.Equal(before, _machine.Everything);
    }

    [Fact]
    public async Task a_self_test_that_no_runtime_passes_is_a_note()
    {
        _machine.Sandbox = _ => "no pause image";
        var outcome = await InstallAsync();
        Assert.Equal(InstallResult.Done, outcome.Result);
        Assert.Contains("no pause image", Assert.Single(outcome.Notes), StringComparison.Ordinal);
    }

    [Fact]
    public async Task a_handler_that_does_not_appear_is_rolled_back()
    {
        _ = _machine.Ignored.Add("skiff");
        var outcome = await InstallAsync();
        Assert.True(outcome is { Result: InstallResult.RolledBack, Reason: "HandlerMissing", Restarts: 2 }, outcome.ToString());
        Assert.Equal(_untouched, _machine.Everything);
    }

    [Fact]
    public async Task an_edit_that_containerd_reads_otherwise_is_taken_back_without_a_restart()
    {
        _machine.Dump = text => text.Contains("runtimes.skiff", StringComparison.Ordinal) ? text.Replace("pause:3.9", "pause:9", StringComparison.Ordinal) : text;
        var outcome = await InstallAsync();
        Assert.True(outcome is { Result: InstallResult.RolledBack, Reason: "ConfigSideEffect", Restarts: 0 }, outcome.ToString());
        _machine.Dump = text => text.Contains("runtimes.skiff", StringComparison.Ordinal) ? FakeMachine.Config : text;
        outcome = await InstallAsync();
        Assert.True(outcome is { Result: InstallResult.RolledBack, Reason: "ConfigNotEffective", Restarts: 0 }, outcome.ToString());
        Assert.Equal(_untouched, _machine.Everything);
        Assert.Equal(0, _machine.Restarts);
    }

    [Fact]
    public async Task a_shim_that_does_not_run_on_the_node_is_not_registered()
    {
        _machine.ShimStatus = 127;
        var outcome = await InstallAsync();
        Assert.True(outcome is { Result: InstallResult.RolledBack, Reason: "ShimDoesNotRun", Restarts: 0 }, outcome.ToString());
        Assert.Equal(_untouched, _machine.Everything);
    }

    [Theory]
    [InlineData("ConfigUnusable")]
    [InlineData("ContainerdNotFound")]
    [InlineData("NoUnit")]
    [InlineData("BundleUnusable")]
    [InlineData("OldVersion")]
    [InlineData("BadHandler")]
    public async Task what_cannot_go_well_is_refused_and_nothing_is_touched(string what)
    {
        var request = Request;
        switch (what)
        {
            case "ConfigUnusable":
                _machine.Write(FakeMachine.ConfigPath, "version = = 2");
                break;
            case "ContainerdNotFound":
                _machine.Stop();
                break;
            case "NoUnit":
                _machine.Unit = null;
                break;
            case "BundleUnusable":
                request = request with { BundleFolder = "/etc" };
                break;
            case "OldVersion":
                _machine.Version = "1.5.9";
                break;
            default:
                request = new NodeInstallRequest("../skiff", _bundle.Folder);
                break;
        }

        var before = _machine.Everything;
        var outcome = await InstallAsync(request);
        Assert.Equal(InstallResult.Refused, outcome.Result);
        Assert.Equal(what == "OldVersion" ? "ConfigUnusable" : what, outcome.Reason);
        Assert.Equal(before, _machine.Everything);
        Assert.Equal(0, _machine.Restarts);
    }

    [Fact]
    public async Task a_journal_of_a_later_version_is_left_alone()
    {
        _ = await InstallAsync();
        _machine.Write(NodePaths.Journal, """{"schema": 2, "handlers": {"other": "form"}}""");
        var before = _machine.Everything;
        foreach (var outcome in (InstallOutcome[])[await InstallAsync(), await UninstallAsync()])
        {
            Assert.True(outcome is { Result: InstallResult.Refused, Reason: "JournalUnusable" }, outcome.ToString());
            Assert.Contains("newer", outcome.Message, StringComparison.Ordinal);
        }

        Assert.Equal(before, _machine.Everything);
    }

    [Fact]
    public async Task a_manual_restart_is_waited_for_and_never_made()
    {
        var request = Request with { Restart = RestartMode.Manual };
        Assert.Equal(InstallResult.RestartPending, (await InstallAsync(request)).Result);
        Assert.Equal(InstallResult.RestartPending, (await InstallAsync(request)).Result);
        _machine.Start();
        Assert.Equal(InstallResult.Done, (await InstallAsync(request)).Result);
        Assert.Equal(InstallResult.RestartPending, (await UninstallAsync(restart: RestartMode.Manual)).Result);
        Assert.NotNull(_machine.Files.Target(NodePaths.RuntimeType));
        _machine.Start();
        Assert.Equal(InstallResult.Done, (await UninstallAsync(restart: RestartMode.Manual)).Result);
        Assert.Equal(_untouched, _machine.Everything);
        Assert.Equal(0, _machine.Restarts);
    }

    [Fact]
    public async Task a_second_handler_shares_the_files_and_the_last_one_takes_them_away()
    {
        _ = await InstallAsync();
        Assert.Equal(InstallResult.Done, (await InstallAsync(new NodeInstallRequest("skiff-two", _bundle.Folder))).Result);
        Assert.Equal(InstallResult.Done, (await UninstallAsync()).Result);
        Assert.NotNull(_machine.Files.Target(NodePaths.RuntimeType));
        Assert.Equal(InstallResult.Done, (await Installer().UninstallAsync(new NodeUninstallRequest("skiff-two"), null, CancellationToken.None)).Result);
        Assert.Equal(_untouched, _machine.Everything);
    }

    [Fact]
    public async Task a_node_without_a_configuration_is_left_without_one()
    {
        File.Delete(_machine.At(FakeMachine.ConfigPath));
        Directory.Delete(_machine.At("/etc/containerd"));
        _machine.Start();
        var before = _machine.Everything;
        var outcome = await InstallAsync();
        Assert.True(outcome.Result == InstallResult.Done, outcome.ToString());
        Assert.NotNull(Registered);
        outcome = await UninstallAsync();
        Assert.True(outcome.Result == InstallResult.Done, outcome.ToString());
        Assert.Equal(before, _machine.Everything);
    }

    [Fact]
    public async Task two_installers_do_not_work_at_once()
    {
        using var held = _machine.Files.TryLock(NodePaths.Lock);
        Assert.NotNull(held);
        var outcome = await InstallAsync();
        Assert.True(outcome is { Result: InstallResult.Refused, Reason: "Locked" }, outcome.ToString());
    }

    [Fact]
    public async Task a_status_says_what_is_there()
    {
        var empty = await Installer().StatusAsync("skiff", CancellationToken.None);
        Assert.True(empty is { Ready: false, Registered: false, Served: false, Bundle: null, Unfinished: null, Problems: [] }, empty.ToString());
        var outcome = await InstallAsync();
        var full = await Installer().StatusAsync("skiff", CancellationToken.None);
        Assert.True(full is { Ready: true, Registered: true, Served: true, Unfinished: null, ContainerdVersion: "1.7.24", Unit: "containerd.service" }, full.ToString());
        Assert.Equal(outcome.Bundle, full.Bundle);
        Assert.Null(full.Engines); // an installation of before

        var run = $"{NodePaths.Version(outcome.Bundle!)}/{NodePaths.Run}";
        _machine.Write(run + "/ENGINE", "50.0.1 0123\n");
        Assert.Equal("wasmtime 50.0.1 (library), no command", (await Installer().StatusAsync("skiff", CancellationToken.None)).Engines);
        _machine.Write(run + "/WASMTIME", "48.0.8 4567\n");
        Assert.Equal("wasmtime 50.0.1 (library), 48.0.8 (command)", (await Installer().StatusAsync("skiff", CancellationToken.None)).Engines);
        _machine.Stop();
        Assert.Single((await Installer().StatusAsync("skiff", CancellationToken.None)).Problems);
    }
}
