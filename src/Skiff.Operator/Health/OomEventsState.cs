using Skiff.Operator.OomEvents;

namespace Skiff.Operator.Health;

/// <summary>What the endpoints tell where only memory kills are told of.</summary>
internal sealed class OomEventsState : IHealthState
{
    /// <summary>The program's version.</summary>
    public required string Version { get; init; }

    /// <summary>The part.</summary>
    public required OomEventsPart Part { get; init; }

    /// <summary>Whether the node's pods have been read.</summary>
    public required Func<bool> HasSynced { get; init; }

    /// <inheritdoc/>
    public string? Hanging => null;

    /// <inheritdoc/>
    public string? NotReady => Part.Problem ?? (HasSynced() ? null : "the pods of the node have not been read yet");

    /// <inheritdoc/>
    public string Metrics()
    {
        var text = new MetricsText();
        text.Family("skiff_build_info", "gauge", "The program's version.", ($"version=\"{Version}\"", 1));
        text.Family("skiff_ready", "gauge", "Whether the node's pods have been read.", ("", HasSynced() ? 1 : 0));
        text.Add(Part);
        text.AddProcess();
        return text.ToString();
    }
}
