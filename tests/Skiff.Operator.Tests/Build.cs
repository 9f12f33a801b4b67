using System.Text.Json;
using Skiff.Kubernetes;
using Skiff.Operator.Api;

namespace Skiff.Operator.Tests;

/// <summary>Objects as the API server would give them.</summary>
internal static class Build
{
    public static readonly DateTimeOffset Now = new(2026, 3, 4, 5, 6, 7, TimeSpan.Zero);

    public static Shim Shim(string name = "skiff", long generation = 1) => new()
    {
        Metadata = new ObjectMeta
        {
            Name = name,
            Uid = "shim-" + name,
            Generation = generation,
            ResourceVersion = "1",
            CreationTimestamp = Now.AddDays(-1),
            Finalizers = [Operator.Api.Shim.Finalizer],
        },
        Spec = new ShimSpec(),
    };

    public static Shim Deleted(this Shim shim, TimeSpan ago, bool force = false) => shim with
    {
        Metadata = shim.Metadata with { DeletionTimestamp = Now - ago },
        Spec = shim.Spec! with { Removal = new RemovalSettings { WhenInUse = force ? "Force" : "Wait", Timeout = "10m" } },
    };

    public static KubeNode Node(string name, bool ready = true, params (string Key, string Value)[] labels) => new()
    {
        Metadata = new ObjectMeta
        {
            Name = name,
            Uid = "node-" + name,
            ResourceVersion = "1",
            Labels = labels.Append(("kubernetes.io/os", "linux")).ToDictionary(l => l.Item1, l => l.Item2),
        },
        Status = new KubeNodeStatus { Conditions = [new KubeNodeCondition { Type = "Ready", Status = ready ? "True" : "Unknown" }] },
    };

    public static ShimInstallation Installation(string node, Phase phase, string shim = "skiff", long generation = 1) => new()
    {
        Metadata = new ObjectMeta
        {
            Name = $"{shim}.{node}",
            Uid = $"installation-{shim}.{node}",
            OwnerReferences =
            [
                new OwnerReference { ApiVersion = "runtime.skiff.dev/v1alpha1", Kind = "Shim", Name = shim, Uid = "shim-" + shim },
                new OwnerReference { ApiVersion = "v1", Kind = "Node", Name = node, Uid = "node-" + node },
            ],
        },
        Spec = new ShimInstallationSpec { Shim = shim, Node = node },
        Status = new ShimInstallationStatus { Phase = phase, ObservedGeneration = generation },
    };

    public static RuntimeClass RuntimeClass(Shim owner) => JsonSerializer.Deserialize(
        JsonSerializer.Serialize(Operator.Cluster.ClusterPlan.WantedRuntimeClass(owner), ApiJson.Default.RuntimeClass), ApiJson.Default.RuntimeClass)!;

    public static Pod Pod(string name, string? runtimeClass, string phase = "Running") => new()
    {
        Metadata = new ObjectMeta { Name = name, Namespace = "default", ResourceVersion = "1" },
        Spec = new PodSpec { RuntimeClassName = runtimeClass },
        Status = new PodStatus { Phase = phase },
    };
}
