using Skiff.Kubernetes;
using Skiff.Operator.Api;

namespace Skiff.Operator.Agent;

/// <summary>What there is on a node, as far as one Shim is concerned.</summary>
/// <param name="Name">The Shim's name.</param>
/// <param name="Shim">The Shim; null when it is gone.</param>
/// <param name="Installation">What the agent has written about it; null when it has written nothing.</param>
/// <param name="Node">The node.</param>
/// <param name="Shims">All Shims.</param>
/// <param name="Pods">The node's pods.</param>
/// <param name="Now">By our clock.</param>
internal sealed record AgentState(
    string Name, Shim? Shim, ShimInstallation? Installation, KubeNode Node, IReadOnlyList<Shim> Shims, IReadOnlyList<Pod> Pods, DateTimeOffset Now);

/// <summary>What an agent does about a Shim.</summary>
internal enum AgentStep
{
    /// <summary>Nothing is there and nothing is wanted, or all is reported.</summary>
    Nothing,

    /// <summary>The installer makes it so.</summary>
    Install,

    /// <summary>It is wanted and cannot be: another Shim has the handler.</summary>
    Refuse,

    /// <summary>It is to go, and pods use it.</summary>
    Hold,

    /// <summary>The installer takes it away.</summary>
    Remove,

    /// <summary>Nothing of it is on the node; only what was written about it goes.</summary>
    Forget,
}

/// <summary>
/// What an agent does about one Shim on its node: the pure core, from the state that was found.
/// <list type="bullet">
/// <item>A Shim that selects the node and is not deleted is installed, again and again, because that also repairs.</item>
/// <item>Where there is neither an installation nor a label, the node was never touched, and nothing is done for a Shim that is not wanted.</item>
/// <item>A Shim that is deleted, gone, or no longer selects the node is removed when no pod uses it.</item>
/// <item>Of several Shims with one handler the oldest has it; the others are refused, and take nothing away when they go.</item>
/// </list>
/// </summary>
internal sealed record AgentPlan(AgentStep Step)
{
    /// <summary>The runtime handler in containerd.</summary>
    public string Handler { get; init; } = "";

    /// <summary>Why it is refused.</summary>
    public string? Message { get; init; }

    /// <summary>The living pods of the node that use the Shim, as namespace/name, in order.</summary>
    public IReadOnlyList<string> PodsUsing { get; init; } = [];

    /// <summary>Whether the removal goes on though pods use it.</summary>
    public bool Force { get; init; }

    /// <summary>When to look again though nothing has changed.</summary>
    public TimeSpan? LookAgain { get; init; }

    internal static AgentPlan Decide(AgentState state)
    {
        var shim = state.Shim;
        var installation = OfThisNode(state) ? state.Installation : null;
        var handler = shim?.Handler ?? Annotation(installation, ShimInstallation.HandlerAnnotation) ?? state.Name;
        var owner = OwnerOf(handler, state);
        if (shim is { Deleting: false } && shim.Selects(state.Node.Metadata.Labels))
        {
            return owner is null
                ? new AgentPlan(AgentStep.Install) { Handler = handler }
                : new AgentPlan(AgentStep.Refuse)
                {
                    Handler = handler,
                    Message = $"the handler {handler} belongs to the Shim {owner.Name}: give one of the two another spec.runtimeClass.handler",
                };
        }

        var labelled = state.Node.Metadata.Labels?.ContainsKey(Shim.NodeLabelOf(state.Name)) == true;
        if (installation is null && !labelled)
        {
            // What was written about an earlier node of this name says nothing about this one.
            return new AgentPlan(state.Installation is null ? AgentStep.Nothing : AgentStep.Forget) { Handler = handler };
        }

        if (installation is { Phase: Phase.Removed } && !labelled)
        {
            // The report stays until the elected part has read it; where nobody waits for it, it goes.
            return new AgentPlan(shim is { Deleting: true } ? AgentStep.Nothing : AgentStep.Forget) { Handler = handler };
        }

        if (owner is not null)
        {
            return new AgentPlan(AgentStep.Forget) { Handler = handler };
        }

        var runtimeClass = shim?.RuntimeClassName ?? Annotation(installation, ShimInstallation.RuntimeClassAnnotation) ?? state.Name;
        var pods = state.Pods.Where(p => p.Spec?.RuntimeClassName == runtimeClass && p.Lives).Select(p => ObjectKey.Of(p).ToString()).Order(StringComparer.Ordinal).ToList();
        var due = shim is { Deleting: true, ForcesRemoval: true } ? shim.Metadata.DeletionTimestamp!.Value + shim.RemovalTimeout - state.Now : (TimeSpan?)null;
        var force = due <= TimeSpan.Zero;
        return new AgentPlan(pods.Count > 0 && !force ? AgentStep.Hold : AgentStep.Remove)
        {
            Handler = handler,
            PodsUsing = pods,
            Force = force,
            LookAgain = force ? null : due,
        };
    }

    /// <summary>Whether the installation is about this node, not about an earlier one of the same name.</summary>
    private static bool OfThisNode(AgentState state) =>
        state.Installation?.Metadata.OwnerReferences?.Any(o => o.Kind == KubeNode.Resource.Kind && o.Uid == state.Node.Metadata.Uid) == true;

    private static string? Annotation(ShimInstallation? installation, string name) => installation?.Metadata.Annotations?.GetValueOrDefault(name);

    /// <summary>The other Shim to which a handler belongs on this node; null when it is free for this one.</summary>
    private static Shim? OwnerOf(string handler, AgentState state) =>
        state.Shims.Where(s => s.Name != state.Name && s.Handler == handler && s.Selects(state.Node.Metadata.Labels))
            .Where(s => state.Shim is null ? !s.Deleting : Older(s, state.Shim)).OrderBy(s => s.Name, StringComparer.Ordinal).FirstOrDefault();

    private static bool Older(Shim a, Shim b) =>
        (a.Metadata.CreationTimestamp ?? default, a.Name).CompareTo((b.Metadata.CreationTimestamp ?? default, b.Name)) < 0;
}
