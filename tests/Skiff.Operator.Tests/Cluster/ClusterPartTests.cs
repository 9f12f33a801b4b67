using System.Net;
using Microsoft.Extensions.Time.Testing;
using Skiff.Operator.Cli;
using Skiff.Operator.Node;
using Skiff.Testing;

namespace Skiff.Operator.Tests.Cluster;

/// <summary>The elected part, alone and with agents, against an API server in memory.</summary>
public sealed class ClusterPartTests : IAsyncLifetime
{
    private readonly World _world = new();

    public ValueTask InitializeAsync() => ValueTask.CompletedTask;

    public ValueTask DisposeAsync() => _world.DisposeAsync();

    [Fact]
    public async Task two_nodes_become_ready_and_the_shim_says_so()
    {
        _world.AddNode("a");
        _world.AddNode("b");
        _ = _world.StartCluster().Task;
        _ = _world.StartAgent("a", new FakeInstaller()).Task;
        _ = _world.StartAgent("b", new FakeInstaller()).Task;
        _world.AddShim();
        await _world.WaitAsync(() => (string?)_world.Condition("Ready")?["status"] == "True" && (int?)_world.Server.Find($"{World.Shims}/skiff")!["status"]!["nodesReady"] == 2);
        var shim = _world.Server.Find($"{World.Shims}/skiff")!;
        Assert.Equal("runtime.skiff.dev/uninstall", (string?)shim["metadata"]!["finalizers"]![0]);
        var runtimeClass = _world.Server.Find($"{World.RuntimeClasses}/skiff")!;
        Assert.Equal(("skiff", "8Mi", "true"), (
            (string?)runtimeClass["handler"], (string?)runtimeClass["overhead"]!["podFixed"]!["memory"], (string?)runtimeClass["scheduling"]!["nodeSelector"]!["shim.skiff.dev/skiff"]));
        await _world.WaitAsync(() => _world.Events("Shim").Contains("Normal AllNodesReady"));

        // Nothing is written any more once all is as it should be.
        var writes = Writes();
        _world.AddNode("a", ",\"shim.skiff.dev/skiff\":\"true\",\"more\":\"1\"");
        await Task.Delay(TimeSpan.FromSeconds(2));
        Assert.Equal(writes, Writes());
    }

    [Fact]
    public async Task one_failed_node_is_named_and_the_other_is_ready()
    {
        _world.AddNode("a");
        _world.AddNode("b");
        _ = _world.StartCluster().Task;
        _ = _world.StartAgent("a", new FakeInstaller()).Task;
        _ = _world.StartAgent("b", new FakeInstaller { Install = (_, _) => Task.FromResult(FakeInstaller.Outcome(InstallResult.RolledBack, "it said no")) }).Task;
        _world.AddShim();
        await _world.WaitAsync(() => (string?)_world.Condition("Degraded")?["status"] == "True" && _world.Label("a") == "true"
            && (int?)_world.Server.Find($"{World.Shims}/skiff")!["status"]!["nodesReady"] == 1);
        Assert.Contains("b: it said no", (string?)_world.Condition("Degraded")!["message"], StringComparison.Ordinal);
        await _world.WaitAsync(() => _world.Events("Shim").Contains("Warning NodesFailed"));
    }

    [Fact]
    public async Task a_runtime_class_that_somebody_deleted_or_changed_comes_back()
    {
        _world.AddShim();
        _ = _world.StartCluster().Task;
        await _world.WaitAsync(() => _world.Server.Find($"{World.RuntimeClasses}/skiff") is not null);
        _world.Server.Remove($"{World.RuntimeClasses}/skiff");
        await _world.WaitAsync(() => _world.Server.Find($"{World.RuntimeClasses}/skiff") is not null);
        var changed = _world.Server.Find($"{World.RuntimeClasses}/skiff")!;
        changed["handler"] = "runc";
        _ = _world.Server.Put(World.RuntimeClasses, changed.ToJsonString());
        await _world.WaitAsync(() => (string?)_world.Server.Find($"{World.RuntimeClasses}/skiff")?["handler"] == "skiff");
    }

    [Fact]
    public async Task a_foreign_runtime_class_is_never_touched()
    {
        _ = _world.Server.Put(World.RuntimeClasses, """{"metadata":{"name":"skiff"},"handler":"theirs"}""");
        _world.AddShim();
        _ = _world.StartCluster().Task;
        await _world.WaitAsync(() => (string?)_world.Condition("Ready")?["reason"] == "RuntimeClassTaken");
        await _world.DeleteShimAsync();
        await _world.WaitAsync(() => _world.Server.Find($"{World.Shims}/skiff") is null);
        Assert.Equal("theirs", (string?)_world.Server.Find($"{World.RuntimeClasses}/skiff")!["handler"]);
    }

    [Fact]
    public async Task installations_of_a_node_that_is_gone_go_too_also_when_the_shim_is_gone()
    {
        _world.AddNode("a");
        _world.AddShim();
        _ = _world.StartCluster().Task;
        var agent = _world.StartAgent("a", new FakeInstaller());
        _ = agent.Task;
        await _world.WaitAsync(() => _world.Phase("a") == "Ready");
        await agent.StopAsync();
        _world.Server.Remove($"{World.Nodes}/a");
        await _world.WaitAsync(() => _world.Phase("a") is null);

        _world.AddNode("b");
        _ = _world.Server.Put(World.Installations, """{"metadata":{"name":"old.b"},"spec":{"shim":"old","node":"b"},"status":{"phase":"Ready"} }""");
        await Task.Delay(TimeSpan.FromSeconds(2));
        Assert.NotNull(_world.Phase("b", "old"));
        _world.Server.Remove($"{World.Nodes}/b");
        await _world.WaitAsync(() => _world.Phase("b", "old") is null);
    }

    [Fact]
    public async Task a_removal_is_held_back_by_a_pod_says_so_and_ends_when_the_pod_is_gone_with_nothing_left()
    {
        _world.AddNode("a");
        _world.AddNode("b");
        _world.AddShim();
        _world.AddPod("p", "b");
        _ = _world.StartCluster().Task;
        _ = _world.StartAgent("a", new FakeInstaller()).Task;
        _ = _world.StartAgent("b", new FakeInstaller()).Task;
        await _world.WaitAsync(() => (string?)_world.Condition("Ready")?["status"] == "True");

        using var output = new StringWriter();
        var removal = RemoveCommand.RunAsync(_world.Client, TimeSpan.FromMinutes(2), TimeProvider.System, output, default);
        await _world.WaitAsync(() => (string?)_world.Condition("Progressing")?["reason"] == "PodsUseIt");
        Assert.Contains("b: used by default/p", (string?)_world.Condition("Progressing")!["message"], StringComparison.Ordinal);
        Assert.Null(_world.Server.Find($"{World.RuntimeClasses}/skiff"));
        await _world.WaitAsync(() => _world.Phase("a") == "Removed");
        await _world.WaitAsync(() => output.ToString().Contains("PodsUseIt", StringComparison.Ordinal));
        Assert.False(removal.IsCompleted);

        _world.Server.Remove($"{World.Pods}/p");
        await _world.WaitAsync(() => _world.Server.Find($"{World.Shims}/skiff") is null);
        Assert.Equal(ExitCode.Done, await removal.WaitAsync(TimeSpan.FromSeconds(90)));
        Assert.Empty(_world.Server.All(World.Installations));
        Assert.Null(_world.Label("a"));
        Assert.Null(_world.Label("b"));
        await _world.WaitAsync(() => _world.Events("Shim").Contains("Normal Removed"));
    }

    [Fact]
    public async Task a_removal_that_is_not_done_in_time_fails_and_says_what_to_do()
    {
        _world.AddNode("a");
        _world.AddShim();
        _ = _world.StartCluster().Task;
        _ = _world.StartAgent("a", new FakeInstaller { Uninstall = _ => Task.FromResult(FakeInstaller.Outcome(InstallResult.Failed, "it is stuck")) }).Task;
        await _world.WaitAsync(() => (string?)_world.Condition("Ready")?["status"] == "True");
        using var output = new StringWriter();
        var time = new FakeTimeProvider();
        var removal = RemoveCommand.RunAsync(_world.Client, TimeSpan.FromHours(1), time, output, default);
        await _world.WaitAsync(() =>
        {
            time.Advance(TimeSpan.FromSeconds(1)); // it looks again
            return output.ToString().Contains("a: it is stuck", StringComparison.Ordinal);
        });
        time.Advance(TimeSpan.FromHours(1));
        Assert.Equal(ExitCode.Failed, await removal.WaitAsync(TimeSpan.FromSeconds(90)));
        Assert.Contains("a: it is stuck", output.ToString(), StringComparison.Ordinal);
        Assert.Contains("What to do", output.ToString(), StringComparison.Ordinal);
        Assert.NotNull(_world.Server.Find($"{World.Shims}/skiff"));
    }

    [Fact]
    public async Task without_waiting_the_shims_are_deleted_and_that_is_all()
    {
        _world.AddShim();
        _ = _world.StartCluster().Task;
        await _world.WaitAsync(() => _world.Server.Find($"{World.Shims}/skiff")!["metadata"]!["finalizers"] is not null);
        using var output = new StringWriter();
        Assert.Equal(ExitCode.Done, await RemoveCommand.RunAsync(_world.Client, null, TimeProvider.System, output, default));
        await _world.WaitAsync(() => _world.Server.Find($"{World.Shims}/skiff") is null);
    }

    [Fact]
    public async Task a_cluster_without_the_kind_has_no_shims_to_remove()
    {
        _world.Server.Intercept = _ => MemoryApiServer.Status(HttpStatusCode.NotFound, "NotFound", "the server could not find the requested resource");
        using var output = new StringWriter();
        Assert.Equal(ExitCode.Done, await RemoveCommand.RunAsync(_world.Client, TimeSpan.FromSeconds(5), TimeProvider.System, output, default));
    }

    [Fact]
    public async Task a_node_without_an_agent_is_left_and_named_when_the_time_is_over()
    {
        _world.AddNode("a");
        _world.AddShim("""{"removal":{"timeout":"0s"} }""");
        _ = _world.StartCluster().Task;
        var agent = _world.StartAgent("a", new FakeInstaller());
        _ = agent.Task;
        await _world.WaitAsync(() => (string?)_world.Condition("Ready")?["status"] == "True");
        await agent.StopAsync();
        await _world.DeleteShimAsync();
        await _world.WaitAsync(() => _world.Server.Find($"{World.Shims}/skiff") is null && _world.Events("Shim").Contains("Warning NodesLeft"));
        Assert.Equal("Ready", _world.Phase("a")); // for the agent that comes back
        _ = _world.StartAgent("a", new FakeInstaller()).Task;
        await _world.WaitAsync(() => _world.Phase("a") is null && _world.Label("a") is null);
    }

    private int Writes() => _world.Server.Requests.Count(r => !r.StartsWith("GET", StringComparison.Ordinal) && !r.Contains("/events", StringComparison.Ordinal));
}
