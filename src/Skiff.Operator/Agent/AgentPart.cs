using Microsoft.Extensions.Logging;
using Skiff.Kubernetes;
using Skiff.Kubernetes.Controllers;
using Skiff.Kubernetes.Events;
using Skiff.Kubernetes.Watching;
using Skiff.Operator.Api;
using Skiff.Operator.Node;
using ChangeKind = Skiff.Kubernetes.Watching.ChangeKind;

namespace Skiff.Operator.Agent;

/// <summary>
/// The part of the operator that runs on every node. It never undoes anything when it stops: what it has installed stays.
/// </summary>
internal sealed class AgentPart : IDisposable
{
    // A failed install may have restarted containerd twice, so the next try is not for soon.
    private static readonly TimeSpan _firstRetry = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan _longestRetry = TimeSpan.FromMinutes(30);

    private readonly WorkQueue<string> _queue;
    private readonly AgentCaches _caches;
    private readonly NodeReconciler _reconciler;

    /// <summary>Prepares an agent.</summary>
    /// <param name="nodeName">The node it runs on.</param>
    /// <param name="bundle">The folder with the files that it installs.</param>
    /// <param name="version">The version of those files.</param>
    /// <param name="client">The API server.</param>
    /// <param name="installer">Changes the node.</param>
    /// <param name="events">Hears of what a person should know.</param>
    /// <param name="logger">Hears of what it does.</param>
    /// <param name="time">The clock.</param>
    public AgentPart(
        string nodeName, string bundle, string version, KubeClient client, INodeInstaller installer, EventRecorder events, ILogger logger, TimeProvider time)
    {
        _queue = new WorkQueue<string>(_firstRetry, _longestRetry, time);
        _caches = new AgentCaches(
            new(client, Shim.Resource, new(), logger, time),
            new(client, ShimInstallation.Resource, new() { Selection = new Selection { Labels = $"{ShimInstallation.NodeLabel}={ShimInstallation.LabelValueOf(nodeName)}" } }, logger, time),
            new(client, KubeNode.Resource, new() { Selection = new Selection { Fields = $"metadata.name={nodeName}" }, Trim = KubeNode.Trim }, logger, time),
            new(client, Pod.Resource, new() { Selection = new Selection { Fields = $"spec.nodeName={nodeName}" }, Trim = Pod.Trim }, logger, time));
        _reconciler = new NodeReconciler(nodeName, bundle, version, _caches, client, installer, events, logger, time);
        Controller = new Controller<string>("agent", _queue, _reconciler, logger, time);
        Subscribe();
    }

    /// <summary>Its loop.</summary>
    public Controller<string> Controller { get; }

    /// <summary>The pods of its node.</summary>
    public Informer<Pod> Pods => _caches.Pods;

    /// <summary>Whether it knows the present state.</summary>
    public bool HasSynced => _caches.Shims.HasSynced && _caches.Installations.HasSynced && _caches.Nodes.HasSynced && _caches.Pods.HasSynced;

    /// <summary>Works until cancelled.</summary>
    public Task RunAsync(CancellationToken cancellation) => Loops.RunAsync(
        cancellation, _caches.Shims.RunAsync, _caches.Installations.RunAsync, _caches.Nodes.RunAsync, _caches.Pods.RunAsync, ControlAsync);

    /// <inheritdoc/>
    public void Dispose() => _queue.Dispose();

    private async Task ControlAsync(CancellationToken cancellation)
    {
        // What it does not know of yet must not look like what is gone.
        await Task.WhenAll(
            _caches.Shims.WaitForSyncAsync(cancellation),
            _caches.Installations.WaitForSyncAsync(cancellation),
            _caches.Nodes.WaitForSyncAsync(cancellation),
            _caches.Pods.WaitForSyncAsync(cancellation)).ConfigureAwait(false);
        await Controller.RunAsync(cancellation).ConfigureAwait(false);
    }

    /// <summary>
    /// Says what wakes the loop. What it writes itself, and what others write into a status, does not: a failing node would be tried again
    /// at once, for ever, instead of ever later.
    /// </summary>
    private void Subscribe()
    {
        _caches.Shims.OnChange(change =>
        {
            if (change.Before is not { } before || change.Kind == ChangeKind.Deleted
                || before.Metadata.Generation != change.Current.Metadata.Generation || before.Deleting != change.Current.Deleting || before.Metadata.Uid != change.Current.Metadata.Uid)
            {
                AddAll([change.Current.Name]); // others may want the same handler
            }
        });
        _caches.Installations.OnChange(change =>
        {
            // Those that were there before may be of Shims that are gone; later ones are this agent's own.
            if ((change.Kind == ChangeKind.Deleted || !_caches.Installations.HasSynced) && change.Current.Spec is { } spec)
            {
                _queue.Add(spec.Shim);
            }
        });
        _caches.Nodes.OnChange(change =>
        {
            if (change.Before is null || change.Before.Metadata.Uid != change.Current.Metadata.Uid || OtherLabels(change.Before) != OtherLabels(change.Current)
                || !_reconciler.Wrote(change.Current))
            {
                // A label alone also shows that something was installed once.
                var prefix = Shim.NodeLabelOf("");
                AddAll((change.Current.Metadata.Labels?.Keys ?? []).Where(l => l.StartsWith(prefix, StringComparison.Ordinal)).Select(l => l[prefix.Length..]));
            }
        });
        _caches.Pods.OnChange(change =>
        {
            if (change.Current.Spec?.RuntimeClassName is { Length: > 0 } && (change.Kind == ChangeKind.Deleted || change.Before?.Lives != change.Current.Lives))
            {
                foreach (var name in _reconciler.Leaving)
                {
                    _queue.Add(name);
                }
            }
        });
    }

    private static string OtherLabels(KubeNode node) => string.Join(
        ',', (node.Metadata.Labels ?? new Dictionary<string, string>()).Where(l => !l.Key.StartsWith(Shim.NodeLabelOf(""), StringComparison.Ordinal))
            .OrderBy(l => l.Key, StringComparer.Ordinal).Select(l => $"{l.Key}={l.Value}"));

    private void AddAll(IEnumerable<string> also)
    {
        var names = _caches.Shims.List().Select(s => s.Name).Concat(_caches.Installations.List().Select(i => i.Spec?.Shim)).Concat(also);
        foreach (var name in names.OfType<string>().Distinct(StringComparer.Ordinal))
        {
            _queue.Add(name);
        }
    }
}
