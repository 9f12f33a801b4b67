using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging;
using Skiff.Kubernetes;
using Skiff.Kubernetes.Controllers;
using Skiff.Kubernetes.Events;
using Skiff.Operator.Api;

namespace Skiff.Operator.Cluster;

/// <summary>Does what <see cref="ClusterPlan"/> decides for a Shim. Only the elected instance runs it.</summary>
internal sealed partial class ShimReconciler(ClusterCaches caches, KubeClient client, EventRecorder events, ILogger logger, TimeProvider time) : IReconciler<string>
{
    /// <summary>The field manager of all that the elected part applies.</summary>
    internal const string Manager = "skiff-operator";

    private static readonly TimeSpan _soon = TimeSpan.FromSeconds(2);

    public async Task<ReconcileResult> ReconcileAsync(string key, CancellationToken cancellation)
    {
        var installations = caches.Installations.List().Where(i => i.Spec?.Shim == key).ToList();
        if (caches.Shims.Get(ObjectKey.Cluster(key)) is not { } shim)
        {
            // Its agents clean up and delete their installations; those of nodes that are gone have nobody else.
            var nodes = caches.Nodes.List().Select(n => n.Name).ToHashSet(StringComparer.Ordinal);
            return await DeleteAsync([.. installations.Where(i => !nodes.Contains(i.Spec!.Node))], cancellation).ConfigureAwait(false) is { } left
                ? ReconcileResult.Retry(left)
                : ReconcileResult.Done;
        }

        var found = caches.RuntimeClasses.Get(ObjectKey.Cluster(shim.RuntimeClassName));
        var plan = ClusterPlan.Decide(new ClusterState(shim, caches.Nodes.List(), installations, found, time.GetUtcNow()));
        if (plan.AddFinalizer && await SetFinalizersAsync(shim, [.. shim.Metadata.Finalizers ?? [], Shim.Finalizer], cancellation).ConfigureAwait(false) is { } refused)
        {
            return Failed(refused);
        }

        if (await MakeRuntimeClassAsync(shim, found, plan.RuntimeClass, cancellation).ConfigureAwait(false) is { } problem)
        {
            return Failed(problem);
        }

        if (!plan.Status.Equivalent(shim.Status))
        {
            var written = await client.ApplyStatusAsync(
                Shim.Resource, new Shim { Metadata = new ObjectMeta { Name = shim.Name }, Status = plan.Status }, Manager, force: true, cancellation).ConfigureAwait(false);
            if (written.Error is { } error)
            {
                return Failed(error);
            }

            Announce(shim, plan.Status);
        }

        if (plan.RemoveFinalizer)
        {
            return await FinishAsync(shim, plan, cancellation).ConfigureAwait(false);
        }

        if (await DeleteAsync(plan.Obsolete, cancellation).ConfigureAwait(false) is { } remains)
        {
            return ReconcileResult.Retry(remains);
        }

        return plan.RuntimeClass == RuntimeClassStep.Delete ? ReconcileResult.RequeueAfter(_soon)
            : plan.LookAgain is { } later ? ReconcileResult.RequeueAfter(later)
            : ReconcileResult.Done;
    }

    /// <summary>A conflict or a missing object means that the caches are behind: their next event wakes us, and at the latest the retry.</summary>
    private static ReconcileResult Failed(ApiError error) =>
        error.Kind is ApiErrorKind.Conflict or ApiErrorKind.NotFound ? ReconcileResult.RequeueAfter(_soon) : ReconcileResult.Retry(error.Message);

    private async Task<ApiError?> SetFinalizersAsync(Shim shim, IReadOnlyList<string> finalizers, CancellationToken cancellation)
    {
        // A list is replaced whole, so nobody may have changed it since it was read.
        var patch = new JsonObject
        {
            ["metadata"] = new JsonObject
            {
                ["resourceVersion"] = shim.Metadata.ResourceVersion,
                ["finalizers"] = new JsonArray([.. finalizers.Select(f => (JsonNode)f)]),
            },
        };
        return (await client.MergePatchAsync(Shim.Resource, ObjectKey.Of(shim), patch, cancellation).ConfigureAwait(false)).Error;
    }

    private async Task<ApiError?> MakeRuntimeClassAsync(Shim shim, RuntimeClass? found, RuntimeClassStep step, CancellationToken cancellation)
    {
        switch (step)
        {
            case RuntimeClassStep.Apply:
                var applied = await client.ApplyAsync(
                    RuntimeClass.Resource, ClusterPlan.WantedRuntimeClass(shim), Manager, force: true, cancellation).ConfigureAwait(false);
                if (applied.Error is null)
                {
                    Log.Applied(logger, shim.RuntimeClassName, shim.Name);
                }

                return applied.Error;
            case RuntimeClassStep.Delete:
                var error = await client.DeleteAsync(
                    RuntimeClass.Resource, ObjectKey.Of(found!), new DeletePreconditions { Uid = found!.Metadata.Uid }, cancellation).ConfigureAwait(false);
                if (error is null)
                {
                    Log.Deleted(logger, shim.RuntimeClassName, shim.Name);
                }

                return error is { Kind: ApiErrorKind.NotFound } ? null : error;
            default:
                return null;
        }
    }

    /// <summary>Deletes installations for which nothing stands.</summary>
    /// <returns>What remains to be done; null when they are gone.</returns>
    private async Task<string?> DeleteAsync(IReadOnlyList<ShimInstallation> installations, CancellationToken cancellation)
    {
        foreach (var installation in installations)
        {
            var error = await client.DeleteAsync(
                ShimInstallation.Resource, ObjectKey.Of(installation), new DeletePreconditions { Uid = installation.Metadata.Uid }, cancellation).ConfigureAwait(false);
            if (error is { Kind: not (ApiErrorKind.NotFound or ApiErrorKind.Conflict) })
            {
                return error.Message;
            }
        }

        return null;
    }

    /// <summary>Lets a deleted Shim go, if that is right also by what the server knows now: the caches may not have seen the newest installation.</summary>
    private async Task<ReconcileResult> FinishAsync(Shim shim, ClusterPlan plan, CancellationToken cancellation)
    {
        var now = await client.ListAsync(
            ShimInstallation.Resource, new Selection { Labels = $"{Shim.Label}={shim.Name}" }, cancellation).ConfigureAwait(false);
        if (now.Value is not { } list)
        {
            return ReconcileResult.Retry(now.Error!.Message);
        }

        var known = plan.Obsolete.Select(o => o.Metadata.Uid).ToHashSet(StringComparer.Ordinal);
        if (list.Items.Any(i => !known.Contains(i.Metadata.Uid) && !plan.Left.Contains(i.Spec?.Node ?? "")))
        {
            return ReconcileResult.RequeueAfter(_soon);
        }

        if (plan.Left.Count > 0)
        {
            Record(shim, warning: true, "NodesLeft", "Remove",
                $"no agent answered within {shim.RemovalTimeout} on {string.Join(", ", plan.Left.Take(20))}: the Shim may still be installed there. An agent that starts there later removes it; without one, run skiff-operator node uninstall on the node");
            Log.Left(logger, shim.Name, string.Join(", ", plan.Left));
        }

        if (await DeleteAsync(plan.Obsolete, cancellation).ConfigureAwait(false) is { } remains)
        {
            return ReconcileResult.Retry(remains);
        }

        if (await SetFinalizersAsync(shim, [.. shim.Metadata.Finalizers!.Where(f => f != Shim.Finalizer)], cancellation).ConfigureAwait(false) is { } error)
        {
            return Failed(error);
        }

        Record(shim, warning: false, "Removed", "Remove", "the Shim is off all nodes that answer");
        Log.Finished(logger, shim.Name);
        return ReconcileResult.Done;
    }

    /// <summary>Tells of conditions that have changed.</summary>
    private void Announce(Shim shim, ShimStatus status)
    {
        foreach (var condition in status.Conditions ?? [])
        {
            var before = shim.Status?.Conditions?.FirstOrDefault(c => c.Type == condition.Type);
            if (before?.Status == condition.Status && before.Reason == condition.Reason)
            {
                continue;
            }

            Log.Condition(logger, shim.Name, condition.Type, condition.Status, condition.Reason, condition.Message);
            if ((condition.Type, condition.Status) is ("Ready", "True") or ("Degraded", "True"))
            {
                Record(shim, condition.Type == "Degraded", condition.Reason, "Reconcile", condition.Message);
            }
        }
    }

    private void Record(Shim shim, bool warning, string reason, string action, string note) => events.Record(new KubeEvent
    {
        Regarding = Shim.Resource.Refer(shim),
        Reason = reason,
        Action = action,
        Note = note,
        Warning = warning,
    });

    private static partial class Log
    {
        [LoggerMessage(200, LogLevel.Information, "applied a RuntimeClass: runtimeClass={RuntimeClass} shim={Shim}")]
        public static partial void Applied(ILogger logger, string runtimeClass, string shim);

        [LoggerMessage(201, LogLevel.Information, "deleted a RuntimeClass: runtimeClass={RuntimeClass} shim={Shim}")]
        public static partial void Deleted(ILogger logger, string runtimeClass, string shim);

        [LoggerMessage(202, LogLevel.Warning, "nodes are left as they are: shim={Shim} nodes={Nodes}")]
        public static partial void Left(ILogger logger, string shim, string nodes);

        [LoggerMessage(203, LogLevel.Information, "a Shim is removed: shim={Shim}")]
        public static partial void Finished(ILogger logger, string shim);

        [LoggerMessage(204, LogLevel.Information, "a condition changed: shim={Shim} type={Type} status={Status} reason={Reason} message={Message}")]
        public static partial void Condition(ILogger logger, string shim, string type, string status, string reason, string message);
    }
}
