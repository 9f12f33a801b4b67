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

    /// <summary>What is kept in memory of a pod.</summary>
    internal static Pod Trim(Pod pod) => pod with
    {
        Metadata = new ObjectMeta { Name = pod.Metadata.Name, Namespace = pod.Metadata.Namespace, ResourceVersion = pod.Metadata.ResourceVersion },
    };
}

internal sealed record PodSpec
{
    public string? RuntimeClassName { get; init; }
}

internal sealed record PodStatus
{
    public string? Phase { get; init; }
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
