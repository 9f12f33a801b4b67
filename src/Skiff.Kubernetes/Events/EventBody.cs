using System.Text.Json.Serialization;

namespace Skiff.Kubernetes.Events;

/// <summary>events.k8s.io/v1 Event.</summary>
internal sealed record EventBody : IResource
{
    internal static readonly ResourceKind<EventBody> Resource = new("events.k8s.io", "v1", "events", "Event", WireJson.Default.EventBody);

    public required ObjectMeta Metadata { get; init; }

    [JsonConverter(typeof(MicroTimeConverter))]
    public DateTimeOffset? EventTime { get; init; }

    public EventSeries? Series { get; init; }

    public string? ReportingController { get; init; }

    public string? ReportingInstance { get; init; }

    public string? Action { get; init; }

    public string? Reason { get; init; }

    public ObjectReference? Regarding { get; init; }

    public ObjectReference? Related { get; init; }

    public string? Note { get; init; }

    public string? Type { get; init; }
}

internal sealed record EventSeries
{
    public int Count { get; init; }

    [JsonConverter(typeof(MicroTimeConverter))]
    public DateTimeOffset LastObservedTime { get; init; }
}
