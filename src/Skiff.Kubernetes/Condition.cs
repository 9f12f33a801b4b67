using System.Text.Json.Serialization;

namespace Skiff.Kubernetes;

/// <summary>metav1.Condition: one thing that is observed of an object.</summary>
public sealed record Condition
{
    /// <summary>What is observed, for example Ready.</summary>
    public required string Type { get; init; }

    /// <summary>True, False or Unknown.</summary>
    public required string Status { get; init; }

    /// <summary>One word in CamelCase for programs; never empty.</summary>
    public required string Reason { get; init; }

    /// <summary>For people; at most 32,768 characters.</summary>
    public required string Message { get; init; }

    /// <summary>The generation of the spec that was looked at.</summary>
    public long? ObservedGeneration { get; init; }

    /// <summary>When <see cref="Status"/> last changed.</summary>
    [JsonConverter(typeof(SecondsConverter))]
    public DateTimeOffset LastTransitionTime { get; init; }

    /// <summary>
    /// The wanted conditions, each with the time at which its status really changed: a status that was the same before keeps its time, so
    /// that writing the same twice writes nothing new.
    /// </summary>
    public static IReadOnlyList<Condition> Merge(IReadOnlyList<Condition>? found, IReadOnlyList<Condition> wanted, DateTimeOffset now) =>
    [
        .. wanted.Select(w => found?.FirstOrDefault(f => f.Type == w.Type) is { } old && old.Status == w.Status
            ? w with { LastTransitionTime = old.LastTransitionTime }
            : w with { LastTransitionTime = now }),
    ];
}
