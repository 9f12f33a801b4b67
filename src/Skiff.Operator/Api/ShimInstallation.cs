using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Serialization;
using Skiff.Kubernetes;

namespace Skiff.Operator.Api;

/// <summary>
/// runtime.skiff.dev/v1alpha1 ShimInstallation: one Shim on one node, called &lt;shim&gt;.&lt;node&gt;. Written by that node's agent only,
/// and always before the agent touches the node: where there is none, the node is as it was.
/// </summary>
internal sealed record ShimInstallation : IResource
{
    /// <summary>Names the node, so that an agent can watch its own.</summary>
    public const string NodeLabel = "runtime.skiff.dev/node";

    /// <summary>The handler and the RuntimeClass that were installed, for a removal when the Shim is gone.</summary>
    public const string HandlerAnnotation = "runtime.skiff.dev/handler";

    /// <inheritdoc cref="HandlerAnnotation"/>
    public const string RuntimeClassAnnotation = "runtime.skiff.dev/runtime-class";

    public static readonly ResourceKind<ShimInstallation> Resource =
        new("runtime.skiff.dev", "v1alpha1", "shiminstallations", "ShimInstallation", ApiJson.Default.ShimInstallation);

    public required ObjectMeta Metadata { get; init; }

    public ShimInstallationSpec? Spec { get; init; }

    public ShimInstallationStatus? Status { get; init; }

    internal Phase Phase => Status?.Phase ?? Phase.Pending;

    internal static ObjectKey KeyOf(string shim, string node) => ObjectKey.Cluster($"{shim}.{node}");

    /// <summary>A node's name as the value of a label, which is at most 63 characters: a longer one ends in a hash of the whole.</summary>
    internal static string LabelValueOf(string node) =>
        node.Length <= 63 ? node : $"{node[..46].TrimEnd('.', '-')}-{Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(node)))[..16]}";
}

internal sealed record ShimInstallationSpec
{
    public required string Shim { get; init; }

    public required string Node { get; init; }
}

/// <summary>How far an installation is.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<Phase>))]
internal enum Phase
{
    /// <summary>Not begun, or waiting for somebody else's restart of containerd.</summary>
    Pending,

    /// <summary>The installer works on it.</summary>
    Installing,

    /// <summary>containerd has the runtime.</summary>
    Ready,

    /// <summary>It could not be installed or removed; it is tried again.</summary>
    Failed,

    /// <summary>It is to be removed, and pods still use it.</summary>
    InUse,

    /// <summary>The installer takes it away.</summary>
    Removing,

    /// <summary>Nothing of it is left on the node.</summary>
    Removed,
}

internal sealed record ShimInstallationStatus
{
    /// <summary>The Shim's generation that the node has.</summary>
    public long? ObservedGeneration { get; init; }

    public Phase Phase { get; init; }

    public string? Version { get; init; }

    public string? Sha256 { get; init; }

    /// <summary>The engines that are installed, with their versions.</summary>
    public string? Engines { get; init; }

    public string? ContainerdVersion { get; init; }

    public string? ConfigPath { get; init; }

    public int? Restarts { get; init; }

    public string? LastError { get; init; }

    public IReadOnlyList<string>? PodsUsing { get; init; }

    public IReadOnlyList<Condition>? Conditions { get; init; }

    /// <summary>Whether another status says the same.</summary>
    internal bool Equivalent(ShimInstallationStatus? other) =>
        other is not null && (this with { Conditions = null, PodsUsing = null }) == (other with { Conditions = null, PodsUsing = null })
        && (Conditions ?? []).SequenceEqual(other.Conditions ?? []) && (PodsUsing ?? []).SequenceEqual(other.PodsUsing ?? []);
}
