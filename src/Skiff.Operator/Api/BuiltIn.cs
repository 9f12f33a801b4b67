using System.Text.Json.Serialization;
using k8s.Models;
using Skiff.Kubernetes;

namespace Skiff.Operator.Api;

/// <summary>v1 Node: what the operator reads of it.</summary>
internal sealed record KubeNode : IResource
{
    public static readonly ResourceKind<KubeNode> Resource = new("", "v1", "nodes", "Node", ApiJson.Default.KubeNode);

    public required ObjectMeta Metadata { get; init; }

    public KubeNodeStatus? Status { get; init; }

    internal string Name => Metadata.Name!;

    /// <summary>Whether the node's kubelet says that all is well. Where it does not, an agent will hardly answer.</summary>
    internal bool Ready => Status?.Conditions?.Any(c => c is { Type: "Ready", Status: "True" }) == true;

    /// <summary>What is kept in memory of a node.</summary>
    internal static KubeNode Trim(KubeNode node) => node with
    {
        Metadata = new ObjectMeta
        {
            Name = node.Metadata.Name,
            Uid = node.Metadata.Uid,
            ResourceVersion = node.Metadata.ResourceVersion,
            Labels = node.Metadata.Labels,
        },
        Status = new KubeNodeStatus { Conditions = node.Status?.Conditions?.Where(c => c.Type == "Ready").ToList() },
    };
}

internal sealed record KubeNodeStatus
{
    public IReadOnlyList<KubeNodeCondition>? Conditions { get; init; }
}

internal sealed record KubeNodeCondition
{
    public string? Type { get; init; }

    public string? Status { get; init; }
}

/// <summary>v1 Pod: what the operator reads of it.</summary>
internal sealed record Pod : IResource
{
    public static readonly ResourceKind<Pod> Resource = new("", "v1", "pods", "Pod", ApiJson.Default.Pod);

    public required ObjectMeta Metadata { get; init; }

    public PodSpec? Spec { get; init; }

    public PodStatus? Status { get; init; }

    /// <summary>Whether containers of it may run; one that has ended keeps no shim.</summary>
    internal bool Lives => Status?.Phase is not ("Succeeded" or "Failed");

    /// <summary>
    /// The uid by which the kubelet knows it. A pod from a file on the node has a mirror on the server, with a uid of its own; this annotation
    /// of the mirror has the other (kubelet, types.ConfigHashAnnotationKey).
    /// </summary>
    internal string? KubeletUid => Metadata.Annotations?.GetValueOrDefault(ConfigHash) ?? Metadata.Uid;

    private const string ConfigHash = "kubernetes.io/config.hash";

    /// <summary>What is kept in memory of a pod.</summary>
    internal static Pod Trim(Pod pod) => pod with
    {
        Metadata = new ObjectMeta
        {
            Name = pod.Metadata.Name,
            Namespace = pod.Metadata.Namespace,
            Uid = pod.Metadata.Uid,
            ResourceVersion = pod.Metadata.ResourceVersion,
            Annotations = pod.Metadata.Annotations?.GetValueOrDefault(ConfigHash) is { } hash ? new Dictionary<string, string> { [ConfigHash] = hash } : null,
            OwnerReferences = pod.Metadata.OwnerReferences?.Where(o => o.Controller == true).ToList(),
        },
    };
}

internal sealed record PodSpec
{
    public string? RuntimeClassName { get; init; }

    public IReadOnlyList<PodContainer>? Containers { get; init; }

    public IReadOnlyList<PodContainer>? InitContainers { get; init; }

    public IReadOnlyList<PodContainer>? EphemeralContainers { get; init; }

    /// <summary>The limits of all its containers together.</summary>
    public PodResources? Resources { get; init; }

    /// <summary>What its RuntimeClass adds; by resource.</summary>
    public IReadOnlyDictionary<string, string>? Overhead { get; init; }
}

internal sealed record PodContainer
{
    public string? Name { get; init; }

    public PodResources? Resources { get; init; }
}

internal sealed record PodResources
{
    public IReadOnlyDictionary<string, string>? Limits { get; init; }

    /// <summary>The memory among quantities, in bytes; null when it is not there, or is no number of bytes.</summary>
    internal static ulong? Memory(IReadOnlyDictionary<string, string>? quantities)
    {
        try
        {
            return quantities?.GetValueOrDefault("memory") is { } text && new ResourceQuantity(text).ToDecimal() is >= 0 and <= ulong.MaxValue and var bytes ? (ulong)bytes : null;
        }
        catch (FormatException)
        {
            return null; // the API server does not take such a one
        }
    }
}

internal sealed record PodStatus
{
    public string? Phase { get; init; }

    public IReadOnlyList<ContainerStatus>? ContainerStatuses { get; init; }

    public IReadOnlyList<ContainerStatus>? InitContainerStatuses { get; init; }

    public IReadOnlyList<ContainerStatus>? EphemeralContainerStatuses { get; init; }

    /// <summary>Of all its containers.</summary>
    [JsonIgnore]
    public IEnumerable<ContainerStatus> All => (ContainerStatuses ?? []).Concat(InitContainerStatuses ?? []).Concat(EphemeralContainerStatuses ?? []);
}

internal sealed record ContainerStatus
{
    public string? Name { get; init; }

    /// <summary>The runtime's name, <c>://</c>, and the id of the present container.</summary>
    [JsonPropertyName("containerID")]
    public string? ContainerId { get; init; }

    public ContainerState? State { get; init; }

    public ContainerState? LastState { get; init; }
}

internal sealed record ContainerState
{
    public ContainerStateRunning? Running { get; init; }

    public ContainerStateTerminated? Terminated { get; init; }
}

internal sealed record ContainerStateRunning;

internal sealed record ContainerStateTerminated
{
    public string? Reason { get; init; }

    public int ExitCode { get; init; }

    public DateTimeOffset? FinishedAt { get; init; }

    [JsonPropertyName("containerID")]
    public string? ContainerId { get; init; }
}

/// <summary>node.k8s.io/v1 RuntimeClass. Its handler cannot be changed once it is there; the rest can.</summary>
internal sealed record RuntimeClass : IResource
{
    public static readonly ResourceKind<RuntimeClass> Resource = new("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", ApiJson.Default.RuntimeClass);

    public required ObjectMeta Metadata { get; init; }

    public required string Handler { get; init; }

    public Overhead? Overhead { get; init; }

    public Scheduling? Scheduling { get; init; }

    /// <summary>Whether another says the same of pods; quantities are compared by value, because the server writes them in a form of its own.</summary>
    internal bool Equivalent(RuntimeClass other) =>
        Handler == other.Handler
        && Same(Overhead?.PodFixed, other.Overhead?.PodFixed, static (a, b) => new ResourceQuantity(a).Equals(new ResourceQuantity(b)))
        && Same(Scheduling?.NodeSelector, other.Scheduling?.NodeSelector, string.Equals)
        && (Scheduling?.Tolerations?.Count ?? 0) == (other.Scheduling?.Tolerations?.Count ?? 0);

    private static bool Same(IReadOnlyDictionary<string, string>? a, IReadOnlyDictionary<string, string>? b, Func<string, string, bool> equal) =>
        (a?.Count ?? 0) == (b?.Count ?? 0) && (a is null || a.All(x => b!.TryGetValue(x.Key, out var y) && equal(x.Value, y)));
}

internal sealed record Overhead
{
    public IReadOnlyDictionary<string, string>? PodFixed { get; init; }
}

internal sealed record Scheduling
{
    public IReadOnlyDictionary<string, string>? NodeSelector { get; init; }

    /// <summary>Only counted: ours have none.</summary>
    public IReadOnlyList<Toleration>? Tolerations { get; init; }
}

internal sealed record Toleration;
