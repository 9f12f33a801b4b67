using System.Collections.Concurrent;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging;
using Skiff.Containerd.Config;
using Skiff.Kubernetes;
using Skiff.Kubernetes.Controllers;
using Skiff.Kubernetes.Events;
using Skiff.Kubernetes.Watching;
using Skiff.Operator.Api;
using Skiff.Operator.Node;

namespace Skiff.Operator.Agent;

/// <summary>What an agent watches.</summary>
internal sealed record AgentCaches(Informer<Shim> Shims, Informer<ShimInstallation> Installations, Informer<KubeNode> Nodes, Informer<Pod> Pods);

/// <summary>
/// Does what <see cref="AgentPlan"/> decides for a Shim on this node. The order of its writes matters: the installation is there before the
/// node is touched, the node's label says "false" before anything on it changes for the first time and before anything is taken away, and
/// "true" only after the installer has proved the handler.
/// </summary>
internal sealed partial class NodeReconciler(
    string nodeName, string bundle, string version, AgentCaches caches, KubeClient client, INodeInstaller installer, EventRecorder events, ILogger logger, TimeProvider time)
    : IReconciler<string>
{
    private const int PodsListed = 50;

    /// <summary>How often everything is looked at again, for drift that the API server does not see.</summary>
    private static readonly TimeSpan _resync = TimeSpan.FromMinutes(5);

    /// <summary>For so long after an install was proved, a change of the API server's objects alone is no reason to prove it again.</summary>
    private static readonly TimeSpan _fresh = TimeSpan.FromMinutes(1);

    private static readonly TimeSpan _soon = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan _pending = TimeSpan.FromMinutes(1);

    private readonly ConcurrentDictionary<string, string?> _labels = new(StringComparer.Ordinal);
    private readonly ConcurrentDictionary<string, bool> _leaving = new(StringComparer.Ordinal);
    private readonly Dictionary<string, (long? Generation, string? Uid, long At)> _proved = new(StringComparer.Ordinal); // of the one loop
    private KubeNode? _written; // the node as the API server answered to the last write, of the one loop

    private string Manager => $"skiff-agent-{ShimInstallation.LabelValueOf(nodeName)}";

    public async Task<ReconcileResult> ReconcileAsync(string key, CancellationToken cancellation)
    {
        if (caches.Nodes.Get(ObjectKey.Cluster(nodeName)) is not { } node)
        {
            Log.NoNode(logger, nodeName);
            return ReconcileResult.RequeueAfter(_pending);
        }

        node = Latest(node);

        // What this agent wrote a moment ago may not be in the cache yet, and counters go on from there.
        var found = await client.GetAsync(ShimInstallation.Resource, ShimInstallation.KeyOf(key, nodeName), cancellation).ConfigureAwait(false);
        if (found.Error is { Kind: not ApiErrorKind.NotFound } unreadable)
        {
            return ReconcileResult.Retry(unreadable.Message);
        }

        var shim = caches.Shims.Get(ObjectKey.Cluster(key));

        // Before the pods are read: one that goes after that wakes this Shim again.
        _leaving[key] = true;
        var plan = AgentPlan.Decide(new AgentState(key, shim, found.Value, node, caches.Shims.List(), caches.Pods.List(), time.GetUtcNow()));
        if (plan.Step != AgentStep.Hold)
        {
            _ = _leaving.TryRemove(key, out _);
        }

        var work = new Work(key, shim, found.Value, node, plan);
        try
        {
            return plan.Step switch
            {
                AgentStep.Install => await InstallAsync(work, cancellation).ConfigureAwait(false),
                AgentStep.Refuse => await RefuseAsync(work, cancellation).ConfigureAwait(false),
                AgentStep.Hold => await HoldAsync(work, plan.PodsUsing, null, cancellation).ConfigureAwait(false),
                AgentStep.Remove => await RemoveAsync(work, cancellation).ConfigureAwait(false),
                AgentStep.Forget => await ForgetAsync(work, cancellation).ConfigureAwait(false),
                _ => ReconcileResult.Done,
            };
        }
        catch (ApiException e)
        {
            return ReconcileResult.Retry(e.Message);
        }
    }

    /// <summary>The Shims that wait for pods to go.</summary>
    internal IEnumerable<string> Leaving => _leaving.Keys;

    /// <summary>Whether a node's labels of ours are all as this agent wrote them, so that a change of the node is no news.</summary>
    internal bool Wrote(KubeNode node) => _labels.All(l => node.Metadata.Labels?.GetValueOrDefault(Shim.NodeLabelOf(l.Key)) == l.Value);

    private async Task<ReconcileResult> InstallAsync(Work work, CancellationToken cancellation)
    {
        var shim = work.Shim!;
        await WriteInstallationAsync(work, cancellation).ConfigureAwait(false);
        if (work.Status.Phase == Phase.Ready && _proved.TryGetValue(work.Name, out var proved)
            && (proved.Generation, proved.Uid) == (shim.Metadata.Generation, shim.Metadata.Uid) && time.GetElapsedTime(proved.At) < _fresh)
        {
            await LabelAsync(work, "true", cancellation).ConfigureAwait(false);
            return ReconcileResult.RequeueAfter(_resync);
        }

        _ = _proved.Remove(work.Name);
        if (work.Status.Phase is not (Phase.Ready or Phase.Failed))
        {
            // A try after a failure is not reported: the failure is what people should see until it is over.
            await LabelAsync(work, "false", cancellation).ConfigureAwait(false);
            await ReportAsync(work, work.Status with { Phase = Phase.Installing, PodsUsing = null }, "Installing", "the installer is at work", cancellation).ConfigureAwait(false);
        }

        var outcome = await installer.InstallAsync(RequestOf(shim), new Steps(logger, work.Name), cancellation).ConfigureAwait(false);
        var status = work.Status with
        {
            Version = outcome.Bundle is null ? work.Status.Version : version,
            Sha256 = outcome.Bundle ?? work.Status.Sha256,
            Engines = outcome.Engines ?? work.Status.Engines,
            ContainerdVersion = outcome.ContainerdVersion ?? work.Status.ContainerdVersion,
            ConfigPath = outcome.ConfigPath ?? work.Status.ConfigPath,
            Restarts = (work.Status.Restarts ?? 0) + outcome.Restarts,
            LastError = null,
            PodsUsing = null,
        };
        var was = work.Installation?.Phase;
        switch (outcome.Result)
        {
            case InstallResult.Done:
                await ReportAsync(
                    work, status with { Phase = Phase.Ready, ObservedGeneration = shim.Metadata.Generation }, outcome.Reason, outcome.Message, cancellation).ConfigureAwait(false);
                await LabelAsync(work, "true", cancellation).ConfigureAwait(false);
                _proved[work.Name] = (shim.Metadata.Generation, shim.Metadata.Uid, time.GetTimestamp());
                if (was != Phase.Ready || outcome.Changed || outcome.Restarts > 0)
                {
                    Record(work, warning: false, "ShimInstalled", "Install", outcome.Message);
                    Log.Installed(logger, work.Name, outcome.Changed, outcome.Restarts, outcome.Message);
                }

                foreach (var note in outcome.Notes)
                {
                    Log.Note(logger, work.Name, note);
                }

                return ReconcileResult.RequeueAfter(_resync);
            case InstallResult.RestartPending:
                await LabelAsync(work, "false", cancellation).ConfigureAwait(false);
                await ReportAsync(work, status with { Phase = Phase.Pending, LastError = outcome.Message }, outcome.Reason, outcome.Message, cancellation).ConfigureAwait(false);
                Record(work, warning: false, "ShimRestartPending", "Install", outcome.Message);
                return ReconcileResult.RequeueAfter(_pending);
            default:
                await LabelAsync(work, "false", cancellation).ConfigureAwait(false);
                await ReportAsync(work, status with { Phase = Phase.Failed, LastError = Explain(outcome) }, outcome.Reason, outcome.Message, cancellation).ConfigureAwait(false);
                Record(work, warning: true, "ShimInstallFailed", "Install", $"{outcome.Result}: {outcome.Message}");
                return ReconcileResult.Retry($"{outcome.Result}: {outcome.Message}");
        }
    }

    private async Task<ReconcileResult> RefuseAsync(Work work, CancellationToken cancellation)
    {
        await WriteInstallationAsync(work, cancellation).ConfigureAwait(false);
        await LabelAsync(work, "false", cancellation).ConfigureAwait(false);
        await ReportAsync(
            work, work.Status with { Phase = Phase.Failed, LastError = work.Plan.Message }, "HandlerTaken", work.Plan.Message!, cancellation).ConfigureAwait(false);
        return ReconcileResult.RequeueAfter(_resync);
    }

    private async Task<ReconcileResult> HoldAsync(Work work, IReadOnlyList<string> pods, string? reason, CancellationToken cancellation)
    {
        // No new pods; those that are here go on.
        await LabelAsync(work, "false", cancellation).ConfigureAwait(false);
        var message = reason ?? $"pods on this node use it: {string.Join(", ", pods.Take(5))}{(pods.Count > 5 ? $" and {pods.Count - 5} more" : "")}";
        if (work.Installation is { Phase: not Phase.InUse })
        {
            Record(work, warning: true, "ShimInUse", "Remove", message);
        }

        await ReportAsync(
            work, work.Status with { Phase = Phase.InUse, LastError = reason, PodsUsing = [.. pods.Take(PodsListed)] }, "InUse", message, cancellation).ConfigureAwait(false);
        return ReconcileResult.RequeueAfter(reason is not null ? _soon : work.Plan.LookAgain is { } due && due < _resync ? due : _resync);
    }

    private async Task<ReconcileResult> RemoveAsync(Work work, CancellationToken cancellation)
    {
        _ = _proved.Remove(work.Name);
        await LabelAsync(work, "false", cancellation).ConfigureAwait(false);
        if (work.Status is { LastError: null } or { Phase: not (Phase.InUse or Phase.Failed) })
        {
            await ReportAsync(work, work.Status with { Phase = Phase.Removing, PodsUsing = null }, "Removing", "the installer is at work", cancellation).ConfigureAwait(false);
        }

        var request = new NodeUninstallRequest(work.Plan.Handler) { Force = work.Plan.Force, Restart = RestartOf(work.Shim) };
        var outcome = await installer.UninstallAsync(request, new Steps(logger, work.Name), cancellation).ConfigureAwait(false);
        var status = work.Status with { Restarts = (work.Status.Restarts ?? 0) + outcome.Restarts, PodsUsing = null };
        switch (outcome.Result)
        {
            case InstallResult.Done:
                Record(work, warning: false, "ShimRemoved", "Remove", outcome.Message);
                Log.Removed(logger, work.Name, outcome.Restarts, outcome.Message);
                return await ForgetAsync(work with { Written = status }, cancellation).ConfigureAwait(false);
            case InstallResult.InUse:
                // Containers whose pods the API server no longer has, or that nobody's kubelet started.
                return await HoldAsync(work with { Written = status }, [], outcome.Message, cancellation).ConfigureAwait(false);
            case InstallResult.RestartPending:
                await ReportAsync(work, status with { Phase = Phase.Removing, LastError = outcome.Message }, outcome.Reason, outcome.Message, cancellation).ConfigureAwait(false);
                return ReconcileResult.RequeueAfter(_pending);
            default:
                await ReportAsync(
                    work, status with { Phase = Phase.Failed, LastError = Explain(outcome) }, Reasons.RemovalFailed, outcome.Message, cancellation).ConfigureAwait(false);
                Record(work, warning: true, "ShimRemoveFailed", "Remove", $"{outcome.Result}: {outcome.Message}");
                return ReconcileResult.Retry($"{outcome.Result}: {outcome.Message}");
        }
    }

    /// <summary>Nothing is on the node any more: takes the label off, and reports it where somebody waits, or else takes the report away.</summary>
    private async Task<ReconcileResult> ForgetAsync(Work work, CancellationToken cancellation)
    {
        await LabelAsync(work, null, cancellation).ConfigureAwait(false);
        if (work.Installation is not { } installation)
        {
            return ReconcileResult.Done;
        }

        if (work.Shim is { Deleting: true })
        {
            await ReportAsync(
                work, work.Status with { Phase = Phase.Removed, LastError = null, PodsUsing = null }, "Removed", "nothing is left on the node", cancellation).ConfigureAwait(false);
            return ReconcileResult.Done;
        }

        var error = await client.DeleteAsync(
            ShimInstallation.Resource, ObjectKey.Of(installation), new DeletePreconditions { Uid = installation.Metadata.Uid }, cancellation).ConfigureAwait(false);
        return error is null or { Kind: ApiErrorKind.NotFound or ApiErrorKind.Conflict } ? ReconcileResult.Done : ReconcileResult.Retry(error.Message);
    }

    private NodeInstallRequest RequestOf(Shim shim) => new(shim.Handler, bundle)
    {
        Options = (shim.Spec?.Containerd?.Options ?? new Dictionary<string, JsonElement>()).ToDictionary(o => o.Key, o => OptionOf(o.Value), StringComparer.Ordinal),
        PodAnnotations = shim.Spec?.Containerd?.PodAnnotations ?? ["skiff.dev/*", "*.skiff.dev/*"],
        Restart = RestartOf(shim),
    };

    private static RestartMode RestartOf(Shim? shim) => shim?.Spec?.Containerd?.Restart == "Manual" ? RestartMode.Manual : RestartMode.Auto;

    private static OptionValue OptionOf(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.True => true,
        JsonValueKind.False => false,
        JsonValueKind.Number when value.TryGetInt64(out var number) => number,
        JsonValueKind.String => value.GetString()!,
        _ => value.GetRawText(), // containerd's own check refuses what the option cannot be
    };

    private static string Explain(InstallOutcome outcome) =>
        outcome.ContainerdSaid is { Length: > 0 } said ? $"{outcome.Message}\ncontainerd: {said}" : outcome.Message;

    private async Task WriteInstallationAsync(Work work, CancellationToken cancellation)
    {
        var shim = work.Shim!;
        var wanted = new ShimInstallation
        {
            Metadata = new ObjectMeta
            {
                Name = ShimInstallation.KeyOf(work.Name, nodeName).Name,
                Labels = new Dictionary<string, string> { [Shim.Label] = work.Name, [ShimInstallation.NodeLabel] = ShimInstallation.LabelValueOf(nodeName) },
                Annotations = new Dictionary<string, string>
                {
                    [ShimInstallation.HandlerAnnotation] = shim.Handler,
                    [ShimInstallation.RuntimeClassAnnotation] = shim.RuntimeClassName,
                },
                OwnerReferences = [Shim.Resource.Own(shim), KubeNode.Resource.Own(work.Node)],
            },
            Spec = new ShimInstallationSpec { Shim = work.Name, Node = nodeName },
        };
        if (work.Installation is { } found && Has(found.Metadata.Labels, wanted.Metadata.Labels) && Has(found.Metadata.Annotations, wanted.Metadata.Annotations)
            && wanted.Metadata.OwnerReferences.All(w => found.Metadata.OwnerReferences?.Any(o => o.Uid == w.Uid) == true))
        {
            return;
        }

        var written = await client.ApplyAsync(ShimInstallation.Resource, wanted, Manager, force: true, cancellation).ConfigureAwait(false);
        work.Installation = written.Value ?? throw new ApiException(written.Error!);
        if (work.IsOfEarlierNode)
        {
            work.Written = new ShimInstallationStatus(); // what was true of that node is not true of this one
        }
    }

    private static bool Has(IReadOnlyDictionary<string, string>? found, IReadOnlyDictionary<string, string> wanted) =>
        wanted.All(w => found?.GetValueOrDefault(w.Key) == w.Value);

    /// <summary>Writes the status, when it says something new. Where there is no installation, nobody wants to know.</summary>
    private async Task ReportAsync(Work work, ShimInstallationStatus status, string reason, string message, CancellationToken cancellation)
    {
        if (work.Installation is not { } installation)
        {
            return;
        }

        var condition = new Condition
        {
            Type = "Ready",
            Status = status.Phase == Phase.Ready ? "True" : "False",
            Reason = reason,
            Message = Cut(message),
            ObservedGeneration = status.ObservedGeneration,
        };
        status = status with
        {
            LastError = status.LastError is { } error ? Cut(error) : null,
            PodsUsing = status.PodsUsing is { Count: 0 } ? null : status.PodsUsing,
            Conditions = Condition.Merge(installation.Status?.Conditions, [condition], time.GetUtcNow()),
        };
        work.Written = status;
        if (status.Equivalent(installation.Status))
        {
            return;
        }

        var written = await client.ApplyStatusAsync(
            ShimInstallation.Resource,
            new ShimInstallation { Metadata = new ObjectMeta { Name = installation.Metadata.Name }, Status = status },
            Manager,
            force: true,
            cancellation).ConfigureAwait(false);
        work.Installation = written.Value ?? throw new ApiException(written.Error!);
    }

    private static string Cut(string text) => text.Length <= 8192 ? text : text[..8191] + "…";

    private async Task LabelAsync(Work work, string? value, CancellationToken cancellation)
    {
        var label = Shim.NodeLabelOf(work.Name);
        _labels[work.Name] = value;
        if (work.Node.Metadata.Labels?.GetValueOrDefault(label) == value)
        {
            return;
        }

        var patch = new JsonObject { ["metadata"] = new JsonObject { ["labels"] = new JsonObject { [label] = value } } };
        var written = await client.MergePatchAsync(KubeNode.Resource, ObjectKey.Of(work.Node), patch, cancellation).ConfigureAwait(false);
        _written = work.Node = written.Value ?? throw new ApiException(written.Error!);
        Log.Labelled(logger, label, value ?? "(none)");
    }

    /// <summary>
    /// The node, from the cache or from this agent's own last write, whichever is later: a label that it has just taken off may still be in
    /// the cache, and would make it take off again what is gone.
    /// </summary>
    private KubeNode Latest(KubeNode cached) =>
        _written is { } own && own.Metadata.Uid == cached.Metadata.Uid && Version(own) > Version(cached) ? own : cached;

    /// <summary>Its place in the order of all writes; null where the server's versions are no numbers, and then the cache counts.</summary>
    private static ulong? Version(KubeNode node) =>
        ulong.TryParse(node.Metadata.ResourceVersion, NumberStyles.None, CultureInfo.InvariantCulture, out var version) ? version : null;

    private void Record(Work work, bool warning, string reason, string action, string note) => events.Record(new KubeEvent
    {
        Regarding = KubeNode.Resource.Refer(work.Node),
        Related = work.Shim is { } shim ? Shim.Resource.Refer(shim) : null,
        Reason = reason,
        Action = action,
        Note = $"Shim {work.Name}: {note}",
        Warning = warning,
    });

    /// <summary>One call: what was found, and what has been written since.</summary>
    private sealed record Work(string Name, Shim? Shim, ShimInstallation? Found, KubeNode FoundNode, AgentPlan Plan)
    {
        public ShimInstallation? Installation { get; set; } = Found;

        public KubeNode Node { get; set; } = FoundNode;

        public ShimInstallationStatus? Written { get; set; }

        public ShimInstallationStatus Status => Written ?? Installation?.Status ?? new ShimInstallationStatus();

        public bool IsOfEarlierNode => Found?.Metadata.OwnerReferences?.Any(o => o.Kind == KubeNode.Resource.Kind && o.Uid != FoundNode.Metadata.Uid) == true;
    }

    /// <summary>The API server refused, or could not be reached, in the middle of a call; the next one begins anew.</summary>
    private sealed class ApiException(ApiError error) : Exception(error.Message);

    private sealed class Steps(ILogger logger, string shim) : IProgress<InstallStep>
    {
        public void Report(InstallStep value) => Log.Step(logger, shim, value);
    }

    private static partial class Log
    {
        [LoggerMessage(210, LogLevel.Warning, "the node is not in the API server: node={Node}")]
        public static partial void NoNode(ILogger logger, string node);

        [LoggerMessage(211, LogLevel.Information, "installed: shim={Shim} changed={Changed} restarts={Restarts} message={Message}")]
        public static partial void Installed(ILogger logger, string shim, bool changed, int restarts, string message);

        [LoggerMessage(212, LogLevel.Information, "removed: shim={Shim} restarts={Restarts} message={Message}")]
        public static partial void Removed(ILogger logger, string shim, int restarts, string message);

        [LoggerMessage(213, LogLevel.Information, "labelled the node: label={Label} value={Value}")]
        public static partial void Labelled(ILogger logger, string label, string value);

        [LoggerMessage(214, LogLevel.Debug, "the installer begins a step: shim={Shim} step={Step}")]
        public static partial void Step(ILogger logger, string shim, InstallStep step);

        [LoggerMessage(215, LogLevel.Information, "the installer notes: shim={Shim} note={Note}")]
        public static partial void Note(ILogger logger, string shim, string note);
    }
}
