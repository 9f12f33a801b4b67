using System.Globalization;
using System.Text.Json;
using Skiff.Kubernetes;
using Skiff.Operator.Api;

namespace Skiff.Operator.Cluster;

/// <summary>What there is, as far as one Shim is concerned.</summary>
/// <param name="Shim">The Shim.</param>
/// <param name="Nodes">All nodes of the cluster.</param>
/// <param name="Installations">The Shim's installations, also those of nodes that are gone.</param>
/// <param name="RuntimeClass">The RuntimeClass that has the wanted name; null when there is none.</param>
/// <param name="Now">By our clock.</param>
internal sealed record ClusterState(
    Shim Shim, IReadOnlyList<KubeNode> Nodes, IReadOnlyList<ShimInstallation> Installations, RuntimeClass? RuntimeClass, DateTimeOffset Now);

/// <summary>What is to be done about a RuntimeClass.</summary>
internal enum RuntimeClassStep
{
    /// <summary>Nothing.</summary>
    None,

    /// <summary>It is created, or changed where it can be.</summary>
    Apply,

    /// <summary>It is deleted, and created again by the next look when the Shim still wants one: its handler cannot be changed.</summary>
    Delete,

    /// <summary>One of that name belongs to somebody else; it is left alone.</summary>
    Refuse,
}

/// <summary>
/// What the elected part does about one Shim: the pure core, from the state that was found.
/// <list type="number">
/// <item>The finalizer, before anything is made that has to be taken away again.</item>
/// <item>The RuntimeClass. It is first to go when the Shim is deleted, so that no new pods come.</item>
/// <item>The status, from the nodes and their installations.</item>
/// <item>When the Shim is deleted: the finalizer goes when every node has reported that it is rid of it. An agent that does not answer in
/// time is named and its node left; it cleans up when it comes back, because its installation stays.</item>
/// </list>
/// </summary>
internal sealed record ClusterPlan
{
    private const int Named = 5;

    public bool AddFinalizer { get; init; }

    public RuntimeClassStep RuntimeClass { get; init; }

    public required ShimStatus Status { get; init; }

    /// <summary>Installations that nothing stands for any more.</summary>
    public IReadOnlyList<ShimInstallation> Obsolete { get; init; } = [];

    /// <summary>Whether the Shim can go.</summary>
    public bool RemoveFinalizer { get; init; }

    /// <summary>Nodes that are left as they are because nobody there answers.</summary>
    public IReadOnlyList<string> Left { get; init; } = [];

    /// <summary>When to look again though nothing has changed.</summary>
    public TimeSpan? LookAgain { get; init; }

    internal static ClusterPlan Decide(ClusterState state)
    {
        var existing = state.Nodes.Select(n => n.Name).ToHashSet(StringComparer.Ordinal);
        var obsolete = state.Installations.Where(i => !existing.Contains(NodeOf(i))).ToList();
        return state.Shim.Deleting ? DecideRemoval(state, existing, obsolete) : DecidePresence(state, existing, obsolete);
    }

    /// <summary>The RuntimeClass that a Shim wants.</summary>
    internal static RuntimeClass WantedRuntimeClass(Shim shim)
    {
        var overhead = shim.Spec?.RuntimeClass?.Overhead?.PodFixed
            ?? new Dictionary<string, JsonElement> { ["memory"] = JsonSerializer.SerializeToElement("8Mi", ApiJson.Default.String) };
        return new RuntimeClass
        {
            Metadata = new ObjectMeta
            {
                Name = shim.RuntimeClassName,
                Labels = new Dictionary<string, string> { [Shim.Label] = shim.Name },
                OwnerReferences = [Shim.Resource.Own(shim, controller: true)],
            },
            Handler = shim.Handler,
            Overhead = overhead.Count == 0
                ? null
                : new Overhead { PodFixed = overhead.ToDictionary(p => p.Key, p => p.Value.ValueKind == JsonValueKind.String ? p.Value.GetString()! : p.Value.GetRawText()) },
            Scheduling = new Scheduling { NodeSelector = new Dictionary<string, string> { [shim.NodeLabel] = "true" } },
        };
    }

    private static string NodeOf(ShimInstallation installation) => installation.Spec?.Node ?? "";

    private static ClusterPlan DecidePresence(ClusterState state, HashSet<string> existing, List<ShimInstallation> obsolete)
    {
        var shim = state.Shim;
        var generation = shim.Metadata.Generation ?? 0;
        var byNode = state.Installations.Where(i => existing.Contains(NodeOf(i))).ToDictionary(NodeOf, StringComparer.Ordinal);
        var selected = state.Nodes.Where(n => shim.Selects(n.Metadata.Labels)).ToList();
        var wanted = selected.Select(n => n.Name).ToHashSet(StringComparer.Ordinal);

        var ready = new List<string>();
        var failed = new List<string>();
        var waiting = new List<string>();
        foreach (var node in selected.OrderBy(n => n.Name, StringComparer.Ordinal))
        {
            var installation = byNode.GetValueOrDefault(node.Name);
            var current = (installation?.Status?.ObservedGeneration ?? 0) >= generation;
            if (installation is { Phase: Phase.Ready } && current)
            {
                ready.Add(node.Name);
            }
            else if (installation is { Phase: Phase.Failed })
            {
                failed.Add($"{node.Name}: {installation.Status?.LastError ?? "no reason was given"}");
            }
            else
            {
                waiting.Add(node.Name + ": " + (installation, node.Ready) switch
                {
                    (null, true) => "no agent has answered yet",
                    (null, false) => "no agent has answered yet, and the node is not ready",
                    ({ Phase: Phase.Ready }, _) => "has an older generation of the Shim",
                    ({ Phase: Phase.Pending, Status.LastError: { Length: > 0 } reason }, _) => reason,
                    ({ Phase: Phase.Pending }, _) => "not begun",
                    ({ Phase: Phase.Installing }, _) => "installing",
                    ({ Phase: var phase }, _) => $"still being removed ({phase})",
                });
            }
        }

        // Nodes that were deselected and are not rid of it yet.
        var leaving = byNode.Values.Where(i => !wanted.Contains(NodeOf(i)) && i.Phase != Phase.Removed).OrderBy(NodeOf, StringComparer.Ordinal)
            .Select(i => NodeOf(i) + ": " + Removal(i)).ToList();

        var (step, taken) = DecideRuntimeClass(shim, state.RuntimeClass);
        var summary = $"{ready.Count} of {selected.Count} nodes are ready";
        var isReady = taken is null && ready.Count == selected.Count;
        var conditions = new[]
        {
            Of(
                "Ready",
                isReady,
                taken is not null ? "RuntimeClassTaken" : selected.Count == 0 ? "NoNodesSelected" : isReady ? "AllNodesReady" : failed.Count > 0 ? "NodesFailed" : "NodesWaiting",
                taken is not null ? taken
                : selected.Count == 0 ? "no Linux node has the labels of spec.nodeSelector; pods cannot run until one has"
                : Sentence(summary, [.. failed, .. waiting])),
            Of(
                "Progressing",
                waiting.Count + leaving.Count > 0,
                waiting.Count > 0 ? "Installing" : leaving.Count > 0 ? "Removing" : "Idle",
                waiting.Count + leaving.Count > 0 ? Sentence("nodes are being changed", [.. waiting, .. leaving]) : "nothing is being changed"),
            Of(
                "Degraded",
                failed.Count > 0 || taken is not null,
                taken is not null ? "RuntimeClassTaken" : failed.Count > 0 ? "NodesFailed" : "AsExpected",
                taken ?? (failed.Count > 0 ? Sentence($"{failed.Count} of {selected.Count} nodes failed", failed) : "no node has failed")),
        };
        return new ClusterPlan
        {
            AddFinalizer = shim.Metadata.Finalizers?.Contains(Shim.Finalizer) != true,
            RuntimeClass = step,
            Status = StatusOf(state, selected.Count, ready.Count, failed.Count, conditions),
            Obsolete = obsolete,
        };

        Condition Of(string type, bool status, string reason, string message) => ClusterPlan.Of(shim, type, status, reason, message);
    }

    private static ClusterPlan DecideRemoval(ClusterState state, HashSet<string> existing, List<ShimInstallation> obsolete)
    {
        var shim = state.Shim;
        var nodes = state.Nodes.ToDictionary(n => n.Name, StringComparer.Ordinal);
        var due = shim.Metadata.DeletionTimestamp!.Value + shim.RemovalTimeout;
        var late = state.Now >= due;
        var held = new List<string>();
        var failed = new List<string>();
        var busy = new List<string>();
        var left = new List<string>();
        var removed = new List<ShimInstallation>();
        foreach (var installation in state.Installations.Where(i => existing.Contains(NodeOf(i))).OrderBy(NodeOf, StringComparer.Ordinal))
        {
            var node = nodes[NodeOf(installation)];
            var answered = installation.Phase is Phase.InUse or Phase.Removing or Phase.Removed
                || installation.Status?.Conditions?.Any(c => c is { Type: "Ready", Reason: Reasons.RemovalFailed }) == true;
            if (installation.Phase == Phase.Removed)
            {
                removed.Add(installation);
            }
            else if (late && (!answered || !node.Ready))
            {
                left.Add(node.Name);
            }
            else if (installation.Phase == Phase.InUse)
            {
                held.Add(node.Name + ": " + Removal(installation));
            }
            else if (installation.Phase == Phase.Failed && answered)
            {
                failed.Add($"{node.Name}: {installation.Status!.LastError ?? "no reason was given"}");
            }
            else
            {
                busy.Add(node.Name + ": " + (answered ? "removing" : node.Ready ? "its agent has not answered yet" : "its agent has not answered yet, and the node is not ready"));
            }
        }

        var ours = OwnedBy(shim, state.RuntimeClass);
        var waitsFor = held.Count + failed.Count + busy.Count;
        var done = !ours && waitsFor == 0;
        var what = Sentence(
            "the Shim is being removed from its nodes" + (held.Count == 0 ? "" : shim.ForcesRemoval
                ? $"; pods that use it lose it at {due.UtcDateTime.ToString("u", CultureInfo.InvariantCulture)}"
                : $"; delete the pods that use it (kubectl get pods -A, spec.runtimeClassName {shim.RuntimeClassName}), or delete the Shim with removal.whenInUse: Force"),
            [.. failed, .. held, .. busy]);
        var stuck = held.Count + failed.Count > 0;
        var conditions = new[]
        {
            Of(shim, "Ready", false, "Removing", "the Shim is deleted"),
            Of(shim, "Progressing", !done, held.Count > 0 ? "PodsUseIt" : "Removing", what),
            Of(shim, "Degraded", stuck, failed.Count > 0 ? Reasons.RemovalFailed : held.Count > 0 ? "PodsUseIt" : "AsExpected", stuck ? what : "nothing holds the removal back"),
        };
        return new ClusterPlan
        {
            RuntimeClass = ours ? RuntimeClassStep.Delete : RuntimeClassStep.None,
            Status = StatusOf(state, state.Installations.Count - obsolete.Count - removed.Count, 0, failed.Count, conditions),
            Obsolete = done ? [.. obsolete, .. removed] : obsolete,
            RemoveFinalizer = done && shim.Metadata.Finalizers?.Contains(Shim.Finalizer) == true,
            Left = done ? left : [],
            LookAgain = late || waitsFor == 0 ? null : due - state.Now + TimeSpan.FromSeconds(1),
        };
    }

    private static string Removal(ShimInstallation installation) => installation.Phase switch
    {
        Phase.InUse when installation.Status?.PodsUsing is { Count: > 0 } pods =>
            $"used by {string.Join(", ", pods.Take(Named))}{(pods.Count > Named ? $" and {pods.Count - Named} more" : "")}",
        Phase.InUse => installation.Status?.LastError ?? "containers run under it",
        Phase.Failed => installation.Status?.LastError ?? "no reason was given",
        _ => "being removed",
    };

    private static (RuntimeClassStep Step, string? Taken) DecideRuntimeClass(Shim shim, RuntimeClass? found)
    {
        if (found is null)
        {
            return (RuntimeClassStep.Apply, null);
        }

        if (!OwnedBy(shim, found))
        {
            // One of an earlier Shim of the same name is about to be collected, and would take the new one's place until then.
            var earlier = found.Metadata.OwnerReferences?.Any(o => o.Kind == Shim.Resource.Kind && o.Name == shim.Name) == true;
            return earlier
                ? (RuntimeClassStep.Delete, null)
                : (RuntimeClassStep.Refuse,
                    $"a RuntimeClass {found.Metadata.Name} is there that does not belong to this Shim; it is left alone. Delete it (kubectl delete runtimeclass {found.Metadata.Name}), or create a Shim with another spec.runtimeClass.name");
        }

        return found.Metadata.DeletionTimestamp is not null ? (RuntimeClassStep.None, null)
            : found.Handler != shim.Handler ? (RuntimeClassStep.Delete, null)
            : (WantedRuntimeClass(shim).Equivalent(found) ? RuntimeClassStep.None : RuntimeClassStep.Apply, null);
    }

    private static bool OwnedBy(Shim shim, RuntimeClass? found) => found?.Metadata.OwnerReferences?.Any(o => o.Uid == shim.Metadata.Uid) == true;

    private static ShimStatus StatusOf(ClusterState state, int nodes, int ready, int failed, IReadOnlyList<Condition> conditions) => new()
    {
        ObservedGeneration = state.Shim.Metadata.Generation,
        Nodes = nodes,
        NodesReady = ready,
        NodesFailed = failed,
        Conditions = Condition.Merge(state.Shim.Status?.Conditions, conditions, state.Now),
    };

    private static Condition Of(Shim shim, string type, bool status, string reason, string message) => new()
    {
        Type = type,
        Status = status ? "True" : "False",
        Reason = reason,
        Message = message.Length <= 4096 ? message : message[..4095] + "…",
        ObservedGeneration = shim.Metadata.Generation,
    };

    private static string Sentence(string summary, List<string> details) =>
        details.Count == 0 ? summary
        : $"{summary}. {string.Join("; ", details.Take(Named))}{(details.Count > Named ? $"; and {details.Count - Named} more (kubectl get shiminstallations)" : "")}";
}
