using Skiff.Operator.Agent;
using Skiff.Operator.Api;

namespace Skiff.Operator.Tests.Agent;

public sealed class AgentPlanTests
{
    private static readonly KubeNode _node = Build.Node("n");
    private static readonly KubeNode _labelled = Build.Node("n", true, ("shim.skiff.dev/skiff", "true"));
    private static readonly Shim _elsewhere = Build.Shim() with { Spec = new ShimSpec { NodeSelector = new Dictionary<string, string> { ["pool"] = "x" } } };

    [Theory]
    [InlineData(null)]
    [InlineData(nameof(Phase.Ready))]
    [InlineData(nameof(Phase.Failed))]
    [InlineData(nameof(Phase.InUse))]
    [InlineData(nameof(Phase.Removed))]
    public void a_shim_that_selects_the_node_is_installed_whatever_is_there(string? phase) =>
        Assert.Equal(AgentStep.Install, Decide(Build.Shim(), phase is null ? null : Found(Enum.Parse<Phase>(phase)), _node).Step);

    [Fact]
    public void a_node_that_was_never_touched_is_left_alone()
    {
        Assert.Equal(AgentStep.Nothing, Decide(_elsewhere, null, _node).Step);
        Assert.Equal(AgentStep.Nothing, Decide(Build.Shim().Deleted(default), null, _node).Step);
        Assert.Equal(AgentStep.Nothing, Decide(null, null, _node).Step);
    }

    [Theory]
    [InlineData(nameof(Phase.Pending))]
    [InlineData(nameof(Phase.Installing))]
    [InlineData(nameof(Phase.Ready))]
    [InlineData(nameof(Phase.Failed))]
    [InlineData(nameof(Phase.InUse))]
    [InlineData(nameof(Phase.Removing))]
    public void what_was_begun_is_removed_when_the_shim_is_deleted_gone_or_for_other_nodes(string name)
    {
        var phase = Enum.Parse<Phase>(name);
        Assert.Equal(AgentStep.Remove, Decide(Build.Shim().Deleted(default), Found(phase), _labelled).Step);
        Assert.Equal(AgentStep.Remove, Decide(null, Found(phase), _labelled).Step);
        Assert.Equal(AgentStep.Remove, Decide(_elsewhere, Found(phase), _labelled).Step);
    }

    [Fact]
    public void a_label_alone_shows_that_something_was_installed() => Assert.Equal(AgentStep.Remove, Decide(null, null, _labelled).Step);

    [Fact]
    public void a_removal_that_is_reported_stays_so_while_somebody_waits_for_it()
    {
        Assert.Equal(AgentStep.Nothing, Decide(Build.Shim().Deleted(default), Found(Phase.Removed), _node).Step);
        Assert.Equal(AgentStep.Forget, Decide(null, Found(Phase.Removed), _node).Step);
        Assert.Equal(AgentStep.Forget, Decide(_elsewhere, Found(Phase.Removed), _node).Step);
    }

    [Fact]
    public void living_pods_of_the_runtime_class_hold_a_removal_back()
    {
        var pods = new[]
        {
            Build.Pod("b", "skiff"), Build.Pod("a", "skiff", "Pending"), Build.Pod("done", "skiff", "Succeeded"), Build.Pod("dead", "skiff", "Failed"),
            Build.Pod("other", "kata"), Build.Pod("plain", null),
        };
        var plan = Decide(Build.Shim().Deleted(TimeSpan.FromHours(9)), Found(Phase.Ready), _labelled, pods: pods);
        Assert.Equal(AgentStep.Hold, plan.Step);
        Assert.Equal(["default/a", "default/b"], plan.PodsUsing);
        Assert.Equal(AgentStep.Remove, Decide(Build.Shim().Deleted(default), Found(Phase.Ready), _labelled, pods: pods[2..]).Step);
    }

    [Fact]
    public void a_forced_removal_waits_until_its_time_is_over()
    {
        var pods = new[] { Build.Pod("a", "skiff") };
        var early = Decide(Build.Shim().Deleted(TimeSpan.FromMinutes(7), force: true), Found(Phase.Ready), _labelled, pods: pods);
        Assert.Equal((AgentStep.Hold, TimeSpan.FromMinutes(3)), (early.Step, early.LookAgain));
        var late = Decide(Build.Shim().Deleted(TimeSpan.FromMinutes(10), force: true), Found(Phase.Ready), _labelled, pods: pods);
        Assert.Equal((AgentStep.Remove, true), (late.Step, late.Force));
    }

    [Fact]
    public void what_is_removed_when_the_shim_is_gone_is_what_was_installed()
    {
        var found = Found(Phase.Ready)!;
        found = found with
        {
            Metadata = found.Metadata with
            {
                Annotations = new Dictionary<string, string> { [ShimInstallation.HandlerAnnotation] = "h", [ShimInstallation.RuntimeClassAnnotation] = "rc" },
            },
        };
        Assert.Equal("h", Decide(null, found, _labelled).Handler);
        Assert.Equal(AgentStep.Hold, Decide(null, found, _labelled, pods: [Build.Pod("p", "rc")]).Step);
    }

    [Fact]
    public void what_was_written_about_an_earlier_node_of_this_name_says_nothing_about_this_one()
    {
        var renewed = _node with { Metadata = _node.Metadata with { Uid = "another" } };
        Assert.Equal(AgentStep.Forget, Decide(null, Found(Phase.Ready), renewed).Step);
        Assert.Equal(AgentStep.Forget, Decide(Build.Shim().Deleted(default), Found(Phase.Ready), renewed).Step);
        Assert.Equal(AgentStep.Install, Decide(Build.Shim(), Found(Phase.Ready), renewed).Step);
    }

    [Fact]
    public void of_two_shims_with_one_handler_the_older_has_it_and_the_younger_takes_nothing_away()
    {
        var older = Build.Shim("older") with { Spec = new ShimSpec { RuntimeClass = new RuntimeClassTemplate { Handler = "skiff" } } };
        older = older with { Metadata = older.Metadata with { CreationTimestamp = Build.Now.AddDays(-2) } };
        var younger = Build.Shim();
        var refused = Decide(younger, null, _node, [older, younger]);
        Assert.Equal(AgentStep.Refuse, refused.Step);
        Assert.Contains("belongs to the Shim older", refused.Message, StringComparison.Ordinal);
        Assert.Equal(AgentStep.Install, DecideFor("older", older, null, _node, [older, younger]).Step);
        Assert.Equal(AgentStep.Forget, Decide(younger.Deleted(default), Found(Phase.Failed), _labelled, [older, younger]).Step);
        Assert.Equal(AgentStep.Remove, DecideFor("older", older.Deleted(default), Build.Installation("n", Phase.Ready, "older"), _node, [older.Deleted(default), younger]).Step);
        Assert.Equal(AgentStep.Forget, Decide(null, Found(Phase.Ready), _labelled, [older]).Step);
    }

    private static ShimInstallation? Found(Phase? phase) => phase is { } p ? Build.Installation("n", p) : null;

    private static AgentPlan Decide(Shim? shim, ShimInstallation? found, KubeNode node, IReadOnlyList<Shim>? shims = null, IReadOnlyList<Pod>? pods = null) =>
        DecideFor("skiff", shim, found, node, shims ?? (shim is null ? [] : [shim]), pods);

    private static AgentPlan DecideFor(
        string name, Shim? shim, ShimInstallation? found, KubeNode node, IReadOnlyList<Shim> shims, IReadOnlyList<Pod>? pods = null) =>
        AgentPlan.Decide(new AgentState(name, shim, found, node, shims, pods ?? [], Build.Now));
}
