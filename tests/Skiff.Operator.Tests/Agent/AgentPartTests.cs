using System.Net;
using System.Text.Json.Nodes;
using Skiff.Operator.Node;
using Skiff.Testing;

namespace Skiff.Operator.Tests.Agent;

/// <summary>An agent against an API server in memory.</summary>
public sealed class AgentPartTests : IAsyncLifetime
{
    private static readonly TimeSpan _shortestWait = TimeSpan.FromSeconds(5); // before a failed install is tried again: ten seconds, or up to half less

    private readonly World _world = new();
    private readonly FakeInstaller _installer = new();

    public ValueTask InitializeAsync()
    {
        _world.AddNode("n");
        return ValueTask.CompletedTask;
    }

    public ValueTask DisposeAsync() => _world.DisposeAsync();

    [Fact]
    public async Task a_shim_is_installed_reported_labelled_and_told()
    {
        _installer.Install = (_, _) => Task.FromResult(FakeInstaller.Outcome(InstallResult.Done, "installed", restarts: 1));
        _world.AddShim();
        _ = _world.StartAgent("n", _installer).Task;
        await _world.WaitAsync(() => _world.Label("n") == "true");
        var status = _world.Server.Find($"{World.Installations}/skiff.n")!["status"]!;
        AssertJson(
            """{"observedGeneration":1,"phase":"Ready","version":"1.2.3","sha256":"abc","containerdVersion":"2.1.9","configPath":"/etc/containerd/config.toml","restarts":1}""",
            WithoutConditions(status));
        Assert.Equal(("Ready", "True", "Installed"), ((string?)status["conditions"]![0]!["type"], (string?)status["conditions"]![0]!["status"], (string?)status["conditions"]![0]!["reason"]));
        var metadata = _world.Server.Find($"{World.Installations}/skiff.n")!["metadata"]!;
        Assert.Equal(["Shim", "Node"], metadata["ownerReferences"]!.AsArray().Select(o => (string?)o!["kind"]));
        Assert.Equal(("skiff", "n"), ((string?)metadata["labels"]!["runtime.skiff.dev/shim"], (string?)metadata["labels"]!["runtime.skiff.dev/node"]));
        await _world.WaitAsync(() => _world.Events("Node").Contains("Normal ShimInstalled"));
        Assert.Equal(["install skiff"], _installer.Calls);
    }

    [Fact]
    public async Task before_the_node_is_touched_it_is_reported_and_labelled_false()
    {
        (string? Label, string? Phase) during = default;
        _installer.Install = (_, _) =>
        {
            during = (_world.Label("n"), _world.Phase("n"));
            return Task.FromResult(FakeInstaller.Outcome(InstallResult.Done));
        };
        _world.AddShim();
        _ = _world.StartAgent("n", _installer).Task;
        await _world.WaitAsync(() => _world.Label("n") == "true");
        Assert.Equal(("false", "Installing"), during);
    }

    [Fact]
    public async Task the_installer_gets_what_the_shim_says()
    {
        NodeInstallRequest? got = null;
        _installer.Install = (request, _) =>
        {
            got = request;
            return Task.FromResult(FakeInstaller.Outcome(InstallResult.Done));
        };
        _world.AddShim("""{"runtimeClass":{"handler":"h"},"containerd":{"options":{"SystemdCgroup":true,"BinaryName":"/usr/bin/crun","N":3},"podAnnotations":["a/*"],"restart":"Manual"} }""");
        _ = _world.StartAgent("n", _installer).Task;
        await _world.WaitAsync(() => _world.Label("n") == "true");
        Assert.Equal(("h", "/bundle", RestartMode.Manual), (got!.Handler, got.BundleFolder, got.Restart));
        Assert.Equal((true, "/usr/bin/crun", 3L), (got.Options["SystemdCgroup"].AsBoolean, got.Options["BinaryName"].AsString, got.Options["N"].AsInt64));
        Assert.Equal(["a/*"], got.PodAnnotations);
    }

    [Fact]
    public async Task a_failed_install_is_reported_and_the_node_takes_no_pods()
    {
        _installer.Install = (_, _) => Task.FromResult(FakeInstaller.Outcome(InstallResult.RolledBack, "containerd did not come up with it") with { ContainerdSaid = "bad line 3" });
        var begun = TimeProvider.System.GetTimestamp();
        _world.AddShim();
        _ = _world.StartAgent("n", _installer).Task;
        await _world.WaitAsync(() => _world.Phase("n") == "Failed");
        Assert.Equal("false", _world.Label("n"));
        Assert.Equal("containerd did not come up with it\ncontainerd: bad line 3", (string?)_world.Server.Find($"{World.Installations}/skiff.n")!["status"]!["lastError"]);
        await _world.WaitAsync(() => _world.Events("Node").Contains("Warning ShimInstallFailed"));

        // Neither what the agent itself wrote nor what others write into a status is a reason to try again at once.
        _world.Server.Put(World.Shims, _world.Server.Find($"{World.Shims}/skiff")!.ToJsonString().Replace("\"spec\"", "\"status\":{\"nodes\":1},\"spec\"", StringComparison.Ordinal));
        await Task.Delay(TimeSpan.FromSeconds(1));
        var tries = (int)(TimeProvider.System.GetElapsedTime(begun) / _shortestWait);
        Assert.InRange(_installer.Calls.Count, 1, 1 + tries);
        Assert.All(_installer.Calls, c => Assert.Equal("install skiff", c));
    }

    [Fact]
    public async Task a_changed_shim_is_installed_again_and_the_ready_node_stays_ready_meanwhile()
    {
        _world.AddShim();
        _ = _world.StartAgent("n", _installer).Task;
        await _world.WaitAsync(() => _world.Label("n") == "true");
        var labels = new List<string?>();
        _installer.Install = (_, _) =>
        {
            labels.Add(_world.Label("n"));
            return Task.FromResult(FakeInstaller.Outcome(InstallResult.Done));
        };
        _world.AddShim("""{"containerd":{"podAnnotations":["x/*"]} }""");
        await _world.WaitAsync(() => (long?)_world.Server.Find($"{World.Installations}/skiff.n")!["status"]!["observedGeneration"] == 2);
        Assert.Equal(["true"], labels);
    }

    [Theory]
    [InlineData("null")]
    [InlineData("\"false\"")]
    public async Task a_label_that_somebody_changed_is_put_right(string to)
    {
        _world.AddShim();
        _ = _world.StartAgent("n", _installer).Task;
        await _world.WaitAsync(() => _world.Label("n") == "true");
        var node = _world.Server.Find($"{World.Nodes}/n")!;
        node["metadata"]!["labels"]!["shim.skiff.dev/skiff"] = JsonNode.Parse(to);
        if (to == "null")
        {
            _ = node["metadata"]!["labels"]!.AsObject().Remove("shim.skiff.dev/skiff");
        }

        _ = _world.Server.Put(World.Nodes, node.ToJsonString());
        await _world.WaitAsync(() => _world.Label("n") == "true");
        Assert.Single(_installer.Calls); // the node itself was looked at a moment ago
    }

    [Fact]
    public async Task an_installation_that_somebody_deleted_is_written_again()
    {
        _world.AddShim();
        _ = _world.StartAgent("n", _installer).Task;
        await _world.WaitAsync(() => _world.Label("n") == "true");
        _world.Server.Remove($"{World.Installations}/skiff.n");
        await _world.WaitAsync(() => _world.Phase("n") == "Ready");
    }

    [Fact]
    public async Task a_deleted_shim_is_taken_off_and_that_is_reported()
    {
        _world.AddShim();
        _ = _world.StartAgent("n", _installer).Task;
        await _world.WaitAsync(() => _world.Label("n") == "true");
        Hold();
        await _world.DeleteShimAsync();
        await _world.WaitAsync(() => _world.Phase("n") == "Removed");
        Assert.Null(_world.Label("n"));
        Assert.Equal(["install skiff", "uninstall skiff"], _installer.Calls);
        await _world.WaitAsync(() => _world.Events("Node").Contains("Normal ShimRemoved"));
    }

    [Fact]
    public async Task pods_that_use_it_hold_the_removal_and_the_last_one_to_go_starts_it()
    {
        _world.AddShim();
        _world.AddPod("p1", "n");
        _world.AddPod("p2", "n");
        _world.AddPod("elsewhere", "m");
        _ = _world.StartAgent("n", _installer).Task;
        await _world.WaitAsync(() => _world.Label("n") == "true");
        Hold();
        await _world.DeleteShimAsync();
        await _world.WaitAsync(() => _world.Phase("n") == "InUse");
        Assert.Equal("false", _world.Label("n"));
        Assert.Equal("""["default/p1","default/p2"]""", _world.Server.Find($"{World.Installations}/skiff.n")!["status"]!["podsUsing"]!.ToJsonString());
        _world.Server.Remove($"{World.Pods}/p1");
        await _world.WaitAsync(() => _world.Server.Find($"{World.Installations}/skiff.n")!["status"]!["podsUsing"]!.AsArray().Count == 1);
        _world.Server.Remove($"{World.Pods}/p2");
        await _world.WaitAsync(() => _world.Phase("n") == "Removed");
        Assert.Equal(["install skiff", "uninstall skiff"], _installer.Calls);
    }

    [Fact]
    public async Task a_node_that_no_longer_matches_is_freed_and_nothing_is_left_to_say()
    {
        _world.AddNode("n", ",\"pool\":\"wasm\"");
        _world.AddShim("""{"nodeSelector":{"pool":"wasm"} }""");
        _ = _world.StartAgent("n", _installer).Task;
        await _world.WaitAsync(() => _world.Label("n") == "true");
        _world.AddNode("n", ",\"shim.skiff.dev/skiff\":\"true\"");
        await _world.WaitAsync(() => _world.Label("n") is null && _world.Server.Find($"{World.Installations}/skiff.n") is null);
        Assert.Equal(["install skiff", "uninstall skiff"], _installer.Calls);
    }

    [Fact]
    public async Task what_was_left_while_no_agent_ran_is_removed_when_one_does()
    {
        _world.AddShim("""{"runtimeClass":{"handler":"h"} }""");
        var first = _world.StartAgent("n", _installer);
        _ = first.Task;
        await _world.WaitAsync(() => _world.Label("n") == "true");
        await first.StopAsync();
        Assert.Equal(["install h"], _installer.Calls); // stopping uninstalls nothing
        _world.Server.Remove($"{World.Shims}/skiff");
        _ = _world.StartAgent("n", _installer).Task;
        await _world.WaitAsync(() => _world.Label("n") is null && _world.Server.Find($"{World.Installations}/skiff.n") is null);
        Assert.Equal(["install h", "uninstall h"], _installer.Calls);
    }

    [Fact]
    public async Task several_shims_are_installed_one_after_another()
    {
        _installer.Install = async (_, cancellation) =>
        {
            await Task.Delay(TimeSpan.FromMilliseconds(50), cancellation);
            return FakeInstaller.Outcome(InstallResult.Done);
        };
        foreach (var name in new[] { "a", "b", "c" })
        {
            _world.AddShim(name: name);
        }

        _ = _world.StartAgent("n", _installer).Task;
        await _world.WaitAsync(() => _world.Label("n", "a") == "true" && _world.Label("n", "b") == "true" && _world.Label("n", "c") == "true");
        Assert.False(_installer.Overlapped);
    }

    [Fact]
    public async Task a_restart_that_somebody_else_has_to_make_is_waited_for()
    {
        _installer.Install = (_, _) => Task.FromResult(FakeInstaller.Outcome(InstallResult.RestartPending, "restart containerd"));
        _world.AddShim();
        _ = _world.StartAgent("n", _installer).Task;
        await _world.WaitAsync(() => (string?)_world.Server.Find($"{World.Installations}/skiff.n")?["status"]?["lastError"] == "restart containerd");
        Assert.Equal(("Pending", "false"), (_world.Phase("n"), _world.Label("n")));
    }

    [Fact]
    public async Task an_api_server_that_refuses_a_write_leaves_the_node_untouched()
    {
        _world.Server.Intercept = r => r.Method == HttpMethod.Patch && r.RequestUri!.AbsolutePath.Contains("/nodes/", StringComparison.Ordinal)
            ? MemoryApiServer.Status(HttpStatusCode.Forbidden, "Forbidden", "cannot patch resource \"nodes\"") : null;
        _world.AddShim();
        _ = _world.StartAgent("n", _installer).Task;
        await _world.WaitAsync(() => _world.Server.Requests.Any(r => r.StartsWith("PATCH /api/v1/nodes/n", StringComparison.Ordinal)));
        await Task.Delay(TimeSpan.FromMilliseconds(300));
        Assert.Empty(_installer.Calls);
    }

    [Fact]
    public async Task broken_watches_and_a_forgotten_past_lose_nothing()
    {
        _ = _world.StartAgent("n", _installer).Task;
        await _world.WaitAsync(() => _world.Server.Watches == 4);
        _world.Server.Compact();
        _world.Server.BreakWatches();
        _world.AddShim();
        await _world.WaitAsync(() => _world.Label("n") == "true");
    }

    private static JsonObject WithoutConditions(JsonNode status)
    {
        var copy = status.DeepClone().AsObject();
        _ = copy.Remove("conditions");
        return copy;
    }

    private static void AssertJson(string wanted, JsonObject found) => Assert.True(JsonNode.DeepEquals(JsonNode.Parse(wanted), found), found.ToJsonString());

    /// <summary>Puts the finalizer on that the elected part would.</summary>
    private void Hold()
    {
        var shim = _world.Server.Find($"{World.Shims}/skiff")!;
        shim["metadata"]!["finalizers"] = new JsonArray("runtime.skiff.dev/uninstall");
        _ = _world.Server.Put(World.Shims, shim.ToJsonString());
    }
}
