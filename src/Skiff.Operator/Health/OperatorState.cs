using Skiff.Kubernetes.Controllers;
using Skiff.Kubernetes.Events;
using Skiff.Operator.OomEvents;

namespace Skiff.Operator.Health;

/// <summary>What the endpoints of an agent tell.</summary>
internal sealed class OperatorState : IHealthState
{
    // An install waits for containerd several times, and for its lock; what takes longer than all that together hangs.
    private static readonly TimeSpan _agentLimit = TimeSpan.FromMinutes(20);
    private static readonly TimeSpan _clusterLimit = TimeSpan.FromMinutes(5);

    /// <summary>The program's version.</summary>
    public required string Version { get; init; }

    /// <summary>The loop of the node.</summary>
    public required Controller<string> Agent { get; init; }

    /// <summary>Whether the caches of the node's loop are filled.</summary>
    public required Func<bool> HasSynced { get; init; }

    /// <summary>The loop of the cluster; null while another instance leads.</summary>
    public required Func<Controller<string>?> Cluster { get; init; }

    /// <summary>Whether this instance leads.</summary>
    public required Func<bool> Leads { get; init; }

    /// <summary>The recorder of Events.</summary>
    public required EventRecorder Events { get; init; }

    /// <summary>The part that tells of memory kills; null when it is off.</summary>
    public OomEventsPart? OomEvents { get; init; }

    /// <inheritdoc/>
    public string? Hanging =>
        Agent.Busy > _agentLimit ? $"the agent has worked on one Shim for {Agent.Busy:g}"
        : Cluster() is { } cluster && cluster.Busy > _clusterLimit ? $"the elected part has worked on one Shim for {cluster.Busy:g}"
        : null;

    /// <inheritdoc/>
    public string? NotReady => HasSynced() ? null : "the state of the cluster has not been read yet";

    /// <inheritdoc/>
    public string Metrics()
    {
        var text = new MetricsText();
        text.Family("skiff_build_info", "gauge", "The program's version.", ($"version=\"{Version}\"", 1));
        text.Family("skiff_leader", "gauge", "Whether this instance leads.", ("", Leads() ? 1 : 0));
        text.Family("skiff_ready", "gauge", "Whether the state of the cluster has been read.", ("", HasSynced() ? 1 : 0));
        var cluster = Cluster();
        text.Family("skiff_reconcile_total", "counter", "How often something was looked at.", (Loop("agent"), Agent.Runs), (Loop("cluster"), cluster?.Runs ?? 0));
        text.Family("skiff_reconcile_failures_total", "counter", "How often that did not go well.", (Loop("agent"), Agent.Failures), (Loop("cluster"), cluster?.Failures ?? 0));
        text.Family("skiff_queue_length", "gauge", "What waits to be looked at.", (Loop("agent"), Agent.Waiting), (Loop("cluster"), cluster?.Waiting ?? 0));
        text.Family("skiff_busy_seconds", "gauge", "How long the present look has taken.", (Loop("agent"), Agent.Busy.TotalSeconds), (Loop("cluster"), cluster?.Busy.TotalSeconds ?? 0));
        text.Family("skiff_events_total", "counter", "Events that were written, or dropped because there were too many or the server refused.",
            ("result=\"written\"", Events.Written), ("result=\"dropped\"", Events.Dropped));
        if (OomEvents is not null)
        {
            text.Add(OomEvents);
        }

        text.AddProcess();
        return text.ToString();

        static string Loop(string name) => $"loop=\"{name}\"";
    }
}
