using Skiff.Containerd.Containers;
using Skiff.Kubernetes;
using Skiff.Kubernetes.Watching;
using Skiff.Operator.Api;

namespace Skiff.Operator.OomEvents;

/// <summary>Where an Event about a container belongs.</summary>
/// <param name="Regarding">The pod, and the container in it when it is known.</param>
/// <param name="Container">The container's name; null when it is not known.</param>
/// <param name="Workload">What manages the pod, when something does.</param>
internal sealed record KillPlace(ObjectReference Regarding, string? Container, ObjectReference? Workload)
{
    /// <summary>The container's memory limit as its manifest has it, in bytes; null when there is none, or the container is not known.</summary>
    public ulong? Limit { get; init; }

    /// <summary>The memory limit that spec.resources gives the pod's cgroup, in bytes: with the overhead of its RuntimeClass, as the kubelet sets it (qos.ResourceConfigForPod).</summary>
    public ulong? PodLimit { get; init; }

    /// <summary>The memory of the RuntimeClass's overhead that is in the pod's limit; null when there is none.</summary>
    public ulong? Overhead { get; init; }

    /// <summary>Whether the container has no memory limit but the pod's: the kubelet gives that to its cgroup, too.</summary>
    public bool HasThePodsLimit => Container is not null && Limit is null && PodLimit is not null;
}

/// <summary>Tells whose a cgroup is, by the API server's list of this node's pods and, where there is access to it, by containerd's labels.</summary>
/// <remarks>
/// The API server learns of a new container from the kubelet, a second or more after it was started; containerd knows at once. Without
/// containerd a container that dies in that second is found by elimination, or when its status comes.
/// </remarks>
internal sealed class PodDirectory
{
    // A pod may be deleted in the second of its kill; its Event is still worth having.
    private static readonly TimeSpan _remembered = TimeSpan.FromMinutes(2);

    private const int MostRemembered = 500;

    private readonly Lock _lock = new();
    private readonly Dictionary<string, (Pod Pod, DateTimeOffset At)> _deleted = []; // by uid
    private readonly Informer<Pod> _pods;
    private readonly ContainerWatch? _containerd;
    private readonly TimeProvider _time;

    /// <summary>Prepares it.</summary>
    /// <param name="pods">This node's pods; not running yet.</param>
    /// <param name="containerd">Null where there is no access to it.</param>
    /// <param name="time">The clock.</param>
    public PodDirectory(Informer<Pod> pods, ContainerWatch? containerd, TimeProvider time)
    {
        _pods = pods;
        _containerd = containerd;
        _time = time;
        pods.OnChange(change =>
        {
            if (change.Kind == ChangeKind.Deleted && change.Current.KubeletUid is { } uid)
            {
                Remember(uid, change.Current);
            }
        });
    }

    /// <summary>Whether a pod is on this node, or was a moment ago.</summary>
    public bool Knows(string podUid) => Find(podUid) is not null;

    /// <summary>Where an Event about a container belongs.</summary>
    /// <param name="podUid">The pod, by the name of its cgroup; null when only the container is known.</param>
    /// <param name="containerId">The container; null when only the pod is known.</param>
    /// <param name="patience">How long to wait for the API server to hear of the container.</param>
    /// <param name="cancellation">Ends the wait.</param>
    /// <returns>Null when nobody knows the pod. Without a container when nobody knows that.</returns>
    public async Task<KillPlace?> FindAsync(string? podUid, string? containerId, TimeSpan patience, CancellationToken cancellation)
    {
        var pause = TimeSpan.FromMilliseconds(50);
        ContainerOwner? owner = null;
        for (var waited = TimeSpan.Zero; ; waited += pause)
        {
            owner ??= _containerd is not null && containerId is not null ? await _containerd.OwnerAsync(containerId, cancellation).ConfigureAwait(false) : null;
            var pod = (podUid ?? owner?.PodUid) is { } uid ? Find(uid) : containerId is not null ? FindWith(containerId) : null;
            var name = owner is not null ? owner.Container : pod is not null && containerId is not null ? NameOf(pod, containerId) : null; // a sandbox has none
            if ((pod is not null && (name is not null || containerId is null || owner is { Container: null })) || waited >= patience)
            {
                return pod is not null ? Place(pod, name)
                    : owner is not null ? Place(new Pod { Metadata = new ObjectMeta { Namespace = owner.Namespace, Name = owner.Pod, Uid = owner.PodUid } }, name)
                    : null;
            }

            await Task.Delay(pause, _time, cancellation).ConfigureAwait(false);
            pause = TimeSpan.FromMilliseconds(200);
        }
    }

    /// <summary>The name of a container in its pod: by the pod's status or, as long as that does not know it, as the only one that it can be.</summary>
    /// <returns>Null when it may be several.</returns>
    internal static string? NameOf(Pod pod, string containerId)
    {
        var statuses = pod.Status?.All.ToList() ?? [];
        if (statuses.FirstOrDefault(s => IsOf(s, containerId)) is { } known)
        {
            return known.Name;
        }

        // One whose present container runs is another, unless there is no other.
        var names = Containers(pod).Select(c => c.Name).OfType<string>().ToList();
        var possible = names.Where(n => statuses.FirstOrDefault(s => s.Name == n) is not { ContainerId.Length: > 0, State.Running: not null }).ToList();
        return names is [var single] ? single : possible is [var only] ? only : null;
    }

    /// <summary>The part of a pod that a container is (kubelet, container/ref.go).</summary>
    internal static string? FieldPath(Pod pod, string? container)
    {
        return container is null ? null : $"spec.{(Has(pod.Spec?.InitContainers) ? "initContainers" : Has(pod.Spec?.EphemeralContainers) ? "ephemeralContainers" : "containers")}{{{container}}}";

        bool Has(IReadOnlyList<PodContainer>? list) => list?.Any(c => c.Name == container) == true;
    }

    private static bool IsOf(ContainerStatus status, string containerId)
    {
        return Is(status.ContainerId) || Is(status.State?.Terminated?.ContainerId) || Is(status.LastState?.Terminated?.ContainerId);

        bool Is(string? id) => id?.EndsWith("://" + containerId, StringComparison.Ordinal) == true;
    }

    private static IEnumerable<PodContainer> Containers(Pod pod) =>
        (pod.Spec?.Containers ?? []).Concat(pod.Spec?.InitContainers ?? []).Concat(pod.Spec?.EphemeralContainers ?? []);

    private static KillPlace Place(Pod pod, string? container)
    {
        var regarding = Pod.Resource.Refer(pod) with { FieldPath = FieldPath(pod, container) };
        var owner = pod.Metadata.OwnerReferences?.FirstOrDefault(o => o.Controller == true);
        var workload = owner is null ? null : new ObjectReference
        {
            ApiVersion = owner.ApiVersion,
            Kind = owner.Kind,
            Namespace = pod.Metadata.Namespace,
            Name = owner.Name,
            Uid = owner.Uid,
        };
        var overhead = PodResources.Memory(pod.Spec?.Overhead);
        return new KillPlace(regarding, container, workload)
        {
            Limit = PodResources.Memory(Containers(pod).FirstOrDefault(c => c.Name == container)?.Resources?.Limits),
            PodLimit = PodResources.Memory(pod.Spec?.Resources?.Limits) + (overhead ?? 0),
            Overhead = overhead,
        };
    }

    private Pod? Find(string uid)
    {
        if (_pods.List().FirstOrDefault(p => p.KubeletUid == uid) is { } pod)
        {
            return pod;
        }

        lock (_lock)
        {
            return _deleted.TryGetValue(uid, out var last) ? last.Pod : null;
        }
    }

    /// <summary>The pod whose status has a container; containerd may have forgotten it already, when nobody says whose it was.</summary>
    private Pod? FindWith(string containerId) => _pods.List().FirstOrDefault(p => (p.Status?.All ?? []).Any(s => IsOf(s, containerId)));

    private void Remember(string uid, Pod pod)
    {
        lock (_lock)
        {
            var now = _time.GetUtcNow();
            foreach (var old in _deleted.Where(d => now - d.Value.At > _remembered).Select(d => d.Key).ToList())
            {
                _ = _deleted.Remove(old);
            }

            if (_deleted.Count < MostRemembered)
            {
                _deleted[uid] = (pod, now);
            }
        }
    }
}
