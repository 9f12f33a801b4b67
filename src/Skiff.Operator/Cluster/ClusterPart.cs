using Microsoft.Extensions.Logging;
using Skiff.Kubernetes;
using Skiff.Kubernetes.Controllers;
using Skiff.Kubernetes.Events;
using Skiff.Kubernetes.Watching;
using Skiff.Operator.Api;

namespace Skiff.Operator.Cluster;

/// <summary>What the elected part watches.</summary>
internal sealed record ClusterCaches(
    Informer<Shim> Shims, Informer<ShimInstallation> Installations, Informer<KubeNode> Nodes, Informer<RuntimeClass> RuntimeClasses);

/// <summary>
/// The part of the operator that there is once in a cluster: RuntimeClasses, the Shims' status, finalizers. Its caches live only while it
/// leads; every other instance is spared them.
/// </summary>
internal sealed class ClusterPart(KubeClient client, EventRecorder events, ILoggerFactory loggers, TimeProvider time)
{
    // A node that changes often, or thousands that change at once, become one look and one write.
    private static readonly TimeSpan _gather = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan _firstRetry = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan _longestRetry = TimeSpan.FromMinutes(2);
    private static readonly TimeSpan _resync = TimeSpan.FromMinutes(5);

    private Controller<string>? _controller;

    /// <summary>The controller of the present term; null when this instance does not lead.</summary>
    public Controller<string>? Controller => Volatile.Read(ref _controller);

    /// <summary>Works until cancelled.</summary>
    public async Task RunAsync(CancellationToken cancellation)
    {
        var logger = loggers.CreateLogger("Skiff.Operator.Cluster");
        using var queue = new WorkQueue<string>(_firstRetry, _longestRetry, time);
        var caches = new ClusterCaches(
            new(client, Shim.Resource, new() { Resync = _resync }, logger, time),
            new(client, ShimInstallation.Resource, new(), logger, time),
            new(client, KubeNode.Resource, new() { Trim = KubeNode.Trim }, logger, time),
            new(client, RuntimeClass.Resource, new(), logger, time));
        caches.Shims.OnChange(c => queue.Add(c.Current.Name));
        caches.Installations.OnChange(c => queue.AddAfter(c.Current.Spec?.Shim ?? "", _gather));
        caches.RuntimeClasses.OnChange(c => AddAll(s => s.RuntimeClassName == c.Current.Metadata.Name, TimeSpan.Zero));
        caches.Nodes.OnChange(c =>
        {
            if (c.Before is null || c.Kind == ChangeKind.Deleted || !SameNode(c.Before, c.Current))
            {
                AddAll(_ => true, _gather);
            }

            if (c.Kind == ChangeKind.Deleted)
            {
                // Also for Shims that are gone: nobody else deletes what was installed on that node.
                foreach (var installation in caches.Installations.List().Where(i => i.Spec?.Node == c.Current.Name))
                {
                    queue.AddAfter(installation.Spec!.Shim, _gather);
                }
            }
        });

        await Loops.RunAsync(
            cancellation, caches.Shims.RunAsync, caches.Installations.RunAsync, caches.Nodes.RunAsync, caches.RuntimeClasses.RunAsync, ControlAsync).ConfigureAwait(false);

        async Task ControlAsync(CancellationToken stop)
        {
            // A decision on half of the picture could delete what is needed.
            await Task.WhenAll(
                caches.Shims.WaitForSyncAsync(stop),
                caches.Installations.WaitForSyncAsync(stop),
                caches.Nodes.WaitForSyncAsync(stop),
                caches.RuntimeClasses.WaitForSyncAsync(stop)).ConfigureAwait(false);
            var controller = new Controller<string>("cluster", queue, new ShimReconciler(caches, client, events, logger, time), logger, time);
            Volatile.Write(ref _controller, controller);
            try
            {
                await controller.RunAsync(stop).ConfigureAwait(false);
            }
            finally
            {
                Volatile.Write(ref _controller, null);
            }
        }

        void AddAll(Func<Shim, bool> which, TimeSpan delay)
        {
            foreach (var shim in caches.Shims.List().Where(which))
            {
                queue.AddAfter(shim.Name, delay);
            }
        }
    }

    /// <summary>Whether two states of a node are the same to us: kubelets write to their nodes all the time.</summary>
    private static bool SameNode(KubeNode a, KubeNode b) =>
        a.Ready == b.Ready && a.Metadata.Uid == b.Metadata.Uid
        && (a.Metadata.Labels ?? new Dictionary<string, string>()).OrderBy(l => l.Key, StringComparer.Ordinal)
            .SequenceEqual((b.Metadata.Labels ?? new Dictionary<string, string>()).OrderBy(l => l.Key, StringComparer.Ordinal));
}
