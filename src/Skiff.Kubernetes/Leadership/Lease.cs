using System.Text.Json.Serialization;

namespace Skiff.Kubernetes.Leadership;

/// <summary>coordination.k8s.io/v1 Lease.</summary>
internal sealed record Lease : IResource
{
    internal static readonly ResourceKind<Lease> Resource = new("coordination.k8s.io", "v1", "leases", "Lease", WireJson.Default.Lease);

    public required ObjectMeta Metadata { get; init; }

    public LeaseSpec? Spec { get; init; }
}

/// <summary>Who holds a lease. The times are by the holder's clock, so nobody else may compute with them.</summary>
internal sealed record LeaseSpec
{
    public string? HolderIdentity { get; init; }

    public int? LeaseDurationSeconds { get; init; }

    [JsonConverter(typeof(MicroTimeConverter))]
    public DateTimeOffset? AcquireTime { get; init; }

    [JsonConverter(typeof(MicroTimeConverter))]
    public DateTimeOffset? RenewTime { get; init; }

    public int? LeaseTransitions { get; init; }
}
