using System.Text.Json;
using Skiff.Kubernetes;
using Skiff.Operator.Api;
using Skiff.Operator.Cluster;

namespace Skiff.Operator.Tests.Cluster;

public sealed class ClusterPlanTests
{
    [Fact]
    public void a_new_shim_gets_its_finalizer_and_its_runtime_class()
    {
        var shim = Build.Shim() with { Metadata = Build.Shim().Metadata with { Finalizers = null } };
        var plan = Decide(shim, [Build.Node("a")], [], null);
        Assert.True(plan.AddFinalizer);
        Assert.Equal(RuntimeClassStep.Apply, plan.RuntimeClass);
        Assert.Equal("1/0/0 Ready=False:NodesWaiting Progressing=True:Installing Degraded=False:AsExpected", Summary(plan));
        Assert.Contains("a: no agent has answered yet", Message(plan, "Ready"), StringComparison.Ordinal);
    }

    [Fact]
    public void the_runtime_class_has_the_shims_handler_overhead_label_and_owner()
    {
        var shim = JsonSerializer.Deserialize(
            """{"metadata":{"name":"w","uid":"u"},"spec":{"runtimeClass":{"name":"wasm","handler":"h","overhead":{"podFixed":{"memory":"8Mi","cpu":1}}}}}""",
            ApiJson.Default.Shim)!;
        Assert.Equal(
            """{"metadata":{"name":"wasm","labels":{"runtime.skiff.dev/shim":"w"},"ownerReferences":[{"apiVersion":"runtime.skiff.dev/v1alpha1","kind":"Shim","name":"w","uid":"u","controller":true}]},"handler":"h","overhead":{"podFixed":{"memory":"8Mi","cpu":"1"}},"scheduling":{"nodeSelector":{"shim.skiff.dev/w":"true"}}}""",
            JsonSerializer.Serialize(ClusterPlan.WantedRuntimeClass(shim), ApiJson.Default.RuntimeClass));
    }

    [Fact]
    public void all_nodes_ready_is_ready()
    {
        var plan = Decide(Build.Shim(), [Build.Node("a"), Build.Node("b")], [Build.Installation("a", Phase.Ready), Build.Installation("b", Phase.Ready)]);
        Assert.Equal("2/2/0 Ready=True:AllNodesReady Progressing=False:Idle Degraded=False:AsExpected", Summary(plan));
        Assert.Equal(RuntimeClassStep.None, plan.RuntimeClass);
        Assert.False(plan.AddFinalizer);
    }

    [Theory]
    [InlineData(nameof(Phase.Pending), "2/1/0 Ready=False:NodesWaiting Progressing=True:Installing Degraded=False:AsExpected")]
    [InlineData(nameof(Phase.Installing), "2/1/0 Ready=False:NodesWaiting Progressing=True:Installing Degraded=False:AsExpected")]
    [InlineData(nameof(Phase.Failed), "2/1/1 Ready=False:NodesFailed Progressing=False:Idle Degraded=True:NodesFailed")]
    [InlineData(nameof(Phase.Removing), "2/1/0 Ready=False:NodesWaiting Progressing=True:Installing Degraded=False:AsExpected")]
    public void one_node_that_is_not_ready_keeps_the_shim_from_being_so(string phase, string summary)
    {
        var plan = Decide(Build.Shim(), [Build.Node("a"), Build.Node("b")], [Build.Installation("a", Phase.Ready), Build.Installation("b", Enum.Parse<Phase>(phase))]);
        Assert.Equal(summary, Summary(plan));
        Assert.StartsWith("1 of 2 nodes are ready. b: ", Message(plan, "Ready"), StringComparison.Ordinal);
    }

    [Fact]
    public void a_node_with_an_older_generation_is_not_ready_yet()
    {
        var plan = Decide(Build.Shim(generation: 2), [Build.Node("a")], [Build.Installation("a", Phase.Ready, generation: 1)]);
        Assert.Equal("1/0/0 Ready=False:NodesWaiting Progressing=True:Installing Degraded=False:AsExpected", Summary(plan));
        Assert.Equal(2, plan.Status.ObservedGeneration);
    }

    [Fact]
    public void failed_nodes_are_named_with_their_reason_and_at_most_five_of_them()
    {
        var names = Enumerable.Range(1, 8).Select(i => $"node-{i}").ToList();
        var plan = Decide(Build.Shim(), [.. names.Select(n => Build.Node(n))], [.. names.Select(n => Failed(n, $"reason of {n}"))]);
        var message = Message(plan, "Degraded");
        Assert.StartsWith("8 of 8 nodes failed. node-1: reason of node-1; node-2: reason of node-2; ", message, StringComparison.Ordinal);
        Assert.EndsWith("node-5: reason of node-5; and 3 more (kubectl get shiminstallations)", message, StringComparison.Ordinal);
    }

    [Fact]
    public void a_shim_that_selects_no_node_says_so()
    {
        var shim = Build.Shim() with { Spec = new ShimSpec { NodeSelector = new Dictionary<string, string> { ["pool"] = "wasm" } } };
        var plan = Decide(shim, [Build.Node("a")], []);
        Assert.Equal("0/0/0 Ready=True:NoNodesSelected Progressing=False:Idle Degraded=False:AsExpected", Summary(plan));
    }

    [Fact]
    public void a_node_that_was_deselected_shows_until_it_is_rid_of_it()
    {
        var shim = Build.Shim() with { Spec = new ShimSpec { NodeSelector = new Dictionary<string, string> { ["pool"] = "wasm" } } };
        var held = Build.Installation("a", Phase.InUse) with { Status = new ShimInstallationStatus { Phase = Phase.InUse, PodsUsing = ["default/p"] } };
        var plan = Decide(shim, [Build.Node("a")], [held]);
        Assert.Equal("0/0/0 Ready=True:NoNodesSelected Progressing=True:Removing Degraded=False:AsExpected", Summary(plan));
        Assert.Contains("a: used by default/p", Message(plan, "Progressing"), StringComparison.Ordinal);
        Assert.Empty(plan.Obsolete);
    }

    [Fact]
    public void installations_of_nodes_that_are_gone_are_obsolete()
    {
        var plan = Decide(Build.Shim(), [Build.Node("a")], [Build.Installation("a", Phase.Ready), Build.Installation("gone", Phase.Ready)]);
        Assert.Equal("skiff.gone", Assert.Single(plan.Obsolete).Metadata.Name);
        Assert.Equal(1, plan.Status.Nodes);
    }

    [Fact]
    public void a_foreign_runtime_class_is_left_alone_and_named()
    {
        var foreign = Build.RuntimeClass(Build.Shim()) with { Metadata = new ObjectMeta { Name = "skiff" } };
        var plan = Decide(Build.Shim(), [Build.Node("a")], [Build.Installation("a", Phase.Ready)], foreign);
        Assert.Equal(RuntimeClassStep.Refuse, plan.RuntimeClass);
        Assert.Equal("1/1/0 Ready=False:RuntimeClassTaken Progressing=False:Idle Degraded=True:RuntimeClassTaken", Summary(plan));
        Assert.Contains("kubectl delete runtimeclass skiff", Message(plan, "Degraded"), StringComparison.Ordinal);
    }

    [Fact]
    public void a_runtime_class_of_an_earlier_shim_of_the_same_name_makes_room()
    {
        var earlier = Build.RuntimeClass(Build.Shim() with { Metadata = Build.Shim().Metadata with { Uid = "earlier" } });
        Assert.Equal(RuntimeClassStep.Delete, Decide(Build.Shim(), [], [], earlier).RuntimeClass);
    }

    [Fact]
    public void a_changed_handler_replaces_the_runtime_class_and_a_changed_overhead_changes_it()
    {
        var found = Build.RuntimeClass(Build.Shim());
        Assert.Equal(RuntimeClassStep.Delete, Decide(Build.Shim(), [], [], found with { Handler = "other" }).RuntimeClass);
        Assert.Equal(RuntimeClassStep.Apply, Decide(Build.Shim(), [], [], found with { Overhead = null }).RuntimeClass);
        Assert.Equal(RuntimeClassStep.Apply, Decide(Build.Shim(), [], [], found with { Scheduling = null }).RuntimeClass);
        Assert.Equal(
            RuntimeClassStep.None,
            Decide(Build.Shim(), [], [], found with { Overhead = new Overhead { PodFixed = new Dictionary<string, string> { ["memory"] = "8192Ki" } } }).RuntimeClass);
    }

    [Fact]
    public void a_status_that_says_the_same_keeps_its_times_and_is_equivalent()
    {
        var first = Decide(Build.Shim(), [Build.Node("a")], [Build.Installation("a", Phase.Ready)]);
        var later = ClusterPlan.Decide(new ClusterState(
            Build.Shim() with { Status = first.Status }, [Build.Node("a")], [Build.Installation("a", Phase.Ready)], Build.RuntimeClass(Build.Shim()), Build.Now.AddHours(1)));
        Assert.True(later.Status.Equivalent(first.Status));
        Assert.All(later.Status.Conditions!, c => Assert.Equal(Build.Now, c.LastTransitionTime));
    }

    [Fact]
    public void a_deleted_shim_first_loses_its_runtime_class()
    {
        var plan = Decide(Build.Shim().Deleted(TimeSpan.Zero), [], []);
        Assert.Equal(RuntimeClassStep.Delete, plan.RuntimeClass);
        Assert.False(plan.RemoveFinalizer);
    }

    [Fact]
    public void a_deleted_shim_leaves_a_foreign_runtime_class_alone()
    {
        var foreign = Build.RuntimeClass(Build.Shim()) with { Metadata = new ObjectMeta { Name = "skiff" } };
        var plan = Decide(Build.Shim().Deleted(TimeSpan.Zero), [], [], foreign);
        Assert.Equal(RuntimeClassStep.None, plan.RuntimeClass);
        Assert.True(plan.RemoveFinalizer);
    }

    [Fact]
    public void pods_hold_a_removal_back_and_are_named_with_what_to_do()
    {
        var held = Build.Installation("b", Phase.InUse) with
        {
            Status = new ShimInstallationStatus { Phase = Phase.InUse, PodsUsing = ["default/p1", "default/p2"] },
        };
        var plan = Removing(TimeSpan.FromHours(1), false, [Build.Node("a"), Build.Node("b")], [Build.Installation("a", Phase.Removed), held]);
        Assert.False(plan.RemoveFinalizer);
        Assert.Equal("1/0/0 Ready=False:Removing Progressing=True:PodsUseIt Degraded=True:PodsUseIt", Summary(plan));
        Assert.Contains("b: used by default/p1, default/p2", Message(plan, "Progressing"), StringComparison.Ordinal);
        Assert.Contains("delete the pods that use it", Message(plan, "Progressing"), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(nameof(Phase.Removed), true, 0, true, false)]
    [InlineData(nameof(Phase.Removed), false, 60, true, false)]
    [InlineData(nameof(Phase.Ready), true, 0, false, false)]     // has not answered, still in time
    [InlineData(nameof(Phase.Ready), true, 11, true, true)]      // has not answered in time
    [InlineData(nameof(Phase.Installing), true, 11, true, true)]
    [InlineData(nameof(Phase.Failed), true, 11, true, true)]     // failed to install, that is no answer
    [InlineData(nameof(Phase.InUse), true, 11, false, false)]    // has answered: wait
    [InlineData(nameof(Phase.Removing), true, 11, false, false)]
    [InlineData(nameof(Phase.InUse), false, 5, false, false)]
    [InlineData(nameof(Phase.InUse), false, 11, true, true)]     // has answered, but the node is lost since
    public void a_finalizer_goes_when_the_node_is_rid_of_it_or_nobody_answers_in_time(string name, bool nodeReady, int minutes, bool goes, bool left)
    {
        var phase = Enum.Parse<Phase>(name);
        var plan = Removing(TimeSpan.FromMinutes(minutes), false, [Build.Node("a", nodeReady)], [Build.Installation("a", phase)]);
        Assert.Equal((goes, left), (plan.RemoveFinalizer, plan.Left.Count == 1));
        Assert.Equal(phase == Phase.Removed ? 1 : 0, plan.Obsolete.Count);
        Assert.Equal(!goes && minutes < 10, plan.LookAgain is not null);
    }

    [Fact]
    public void an_agent_that_could_not_remove_it_has_answered()
    {
        var failed = Failed("a", "the disk is full");
        failed = failed with
        {
            Status = failed.Status! with { Conditions = [new Condition { Type = "Ready", Status = "False", Reason = Reasons.RemovalFailed, Message = "x" }] },
        };
        var plan = Removing(TimeSpan.FromHours(1), false, [Build.Node("a")], [failed]);
        Assert.False(plan.RemoveFinalizer);
        Assert.Equal("1/0/1 Ready=False:Removing Progressing=True:Removing Degraded=True:RemovalFailed", Summary(plan));
        Assert.Contains("a: the disk is full", Message(plan, "Degraded"), StringComparison.Ordinal);
    }

    [Fact]
    public void nodes_that_are_gone_hold_nothing_back()
    {
        var plan = Removing(TimeSpan.Zero, false, [], [Build.Installation("gone", Phase.Ready)]);
        Assert.True(plan.RemoveFinalizer);
        Assert.Single(plan.Obsolete);
    }

    private static ShimInstallation Failed(string node, string error) =>
        Build.Installation(node, Phase.Failed) with { Status = new ShimInstallationStatus { Phase = Phase.Failed, LastError = error } };

    private static ClusterPlan Decide(Shim shim, IReadOnlyList<KubeNode> nodes, IReadOnlyList<ShimInstallation> installations) =>
        Decide(shim, nodes, installations, Build.RuntimeClass(shim));

    private static ClusterPlan Decide(Shim shim, IReadOnlyList<KubeNode> nodes, IReadOnlyList<ShimInstallation> installations, RuntimeClass? found) =>
        ClusterPlan.Decide(new ClusterState(shim, nodes, installations, found, Build.Now));

    private static ClusterPlan Removing(TimeSpan ago, bool force, IReadOnlyList<KubeNode> nodes, IReadOnlyList<ShimInstallation> installations) =>
        Decide(Build.Shim().Deleted(ago, force), nodes, installations, null);

    private static string Summary(ClusterPlan plan) =>
        $"{plan.Status.Nodes}/{plan.Status.NodesReady}/{plan.Status.NodesFailed} " + string.Join(' ', plan.Status.Conditions!.Select(c => $"{c.Type}={c.Status}:{c.Reason}"));

    private static string Message(ClusterPlan plan, string type) => plan.Status.Conditions!.Single(c => c.Type == type).Message;
}
