using System.Globalization;
using System.Text.Json;
using Skiff.Kubernetes;

namespace Skiff.Operator.Api;

/// <summary>runtime.skiff.dev/v1alpha1 Shim: a containerd shim that the selected nodes shall have. Cluster-scoped.</summary>
internal sealed record Shim : IResource
{
    /// <summary>Keeps a deleted Shim until every node is rid of it.</summary>
    public const string Finalizer = "runtime.skiff.dev/uninstall";

    /// <summary>Names the Shim on what belongs to it.</summary>
    public const string Label = "runtime.skiff.dev/shim";

    public static readonly ResourceKind<Shim> Resource = new("runtime.skiff.dev", "v1alpha1", "shims", "Shim", ApiJson.Default.Shim);

    public required ObjectMeta Metadata { get; init; }

    public ShimSpec? Spec { get; init; }

    public ShimStatus? Status { get; init; }

    internal string Name => Metadata.Name!;

    internal bool Deleting => Metadata.DeletionTimestamp is not null;

    internal string RuntimeClassName => Spec?.RuntimeClass?.Name is { Length: > 0 } name ? name : Name;

    internal string Handler => Spec?.RuntimeClass?.Handler is { Length: > 0 } handler ? handler : Name;

    /// <summary>The label of nodes: "true" where pods of the Shim can run, "false" where the Shim is known and they cannot.</summary>
    internal string NodeLabel => NodeLabelOf(Name);

    internal bool ForcesRemoval => Spec?.Removal?.WhenInUse == "Force";

    /// <summary>How long a removal waits, for pods when it is forced and for agents that do not answer.</summary>
    internal TimeSpan RemovalTimeout => Durations.TryParse(Spec?.Removal?.Timeout, out var timeout) ? timeout : TimeSpan.FromMinutes(10);

    internal static string NodeLabelOf(string shim) => "shim.skiff.dev/" + shim;

    /// <summary>Whether the Shim is for a node with these labels.</summary>
    internal bool Selects(IReadOnlyDictionary<string, string>? labels) =>
        labels is not null
        && labels.GetValueOrDefault("kubernetes.io/os") == "linux"
        && (Spec?.NodeSelector ?? new Dictionary<string, string>()).All(wanted => labels.GetValueOrDefault(wanted.Key) == wanted.Value);
}

internal sealed record ShimSpec
{
    public RuntimeClassTemplate? RuntimeClass { get; init; }

    public IReadOnlyDictionary<string, string>? NodeSelector { get; init; }

    public ContainerdSettings? Containerd { get; init; }

    public RemovalSettings? Removal { get; init; }
}

internal sealed record RuntimeClassTemplate
{
    public string? Name { get; init; }

    public string? Handler { get; init; }

    public OverheadTemplate? Overhead { get; init; }
}

internal sealed record OverheadTemplate
{
    /// <summary>Quantities by resource; each a string or a whole number.</summary>
    public IReadOnlyDictionary<string, JsonElement>? PodFixed { get; init; }
}

internal sealed record ContainerdSettings
{
    /// <summary>Keys of the runtime's options table: strings, booleans and whole numbers.</summary>
    public IReadOnlyDictionary<string, JsonElement>? Options { get; init; }

    public IReadOnlyList<string>? PodAnnotations { get; init; }

    /// <summary>Auto or Manual.</summary>
    public string? Restart { get; init; }
}

internal sealed record RemovalSettings
{
    /// <summary>Wait or Force.</summary>
    public string? WhenInUse { get; init; }

    /// <summary>Hours, minutes and seconds, such as 1h30m.</summary>
    public string? Timeout { get; init; }
}

internal sealed record ShimStatus
{
    public long? ObservedGeneration { get; init; }

    public int Nodes { get; init; }

    public int NodesReady { get; init; }

    public int NodesFailed { get; init; }

    public IReadOnlyList<Condition>? Conditions { get; init; }

    /// <summary>Whether another status says the same.</summary>
    internal bool Equivalent(ShimStatus? other) =>
        other is not null && (this with { Conditions = null }) == (other with { Conditions = null })
        && (Conditions ?? []).SequenceEqual(other.Conditions ?? []);
}

/// <summary>Durations as people and Go write them: 90s, 10m, 1h30m.</summary>
internal static class Durations
{
    /// <summary>Reads hours, minutes and seconds, in this order, each at most once.</summary>
    internal static bool TryParse(string? text, out TimeSpan duration)
    {
        duration = default;
        if (string.IsNullOrEmpty(text) || text.Length > 16)
        {
            return false;
        }

        var rest = text.AsSpan();
        foreach (var (unit, seconds) in new[] { ('h', 3600), ('m', 60), ('s', 1) })
        {
            var end = rest.IndexOf(unit);
            if (end < 0)
            {
                continue;
            }

            if (!int.TryParse(rest[..end], NumberStyles.None, CultureInfo.InvariantCulture, out var count))
            {
                return false;
            }

            duration += TimeSpan.FromSeconds((double)count * seconds);
            rest = rest[(end + 1)..];
        }

        return rest.IsEmpty;
    }
}
