namespace Skiff.Operator.OomEvents;

/// <summary>
/// The names that the kubelet and the container runtimes give to cgroups, with both drivers (kubelet's cm/cgroup_manager_linux.go and
/// cm/pod_container_manager_linux.go; containerd's internal/cri/server/helpers.go; CRI-O's internal/config/cgmgr).
/// </summary>
internal static class PodCgroupName
{
    private const string Slice = ".slice";
    private const string Scope = ".scope";

    // Longer than any real one; whoever can make folders there is root, but a name ends up in Events.
    private const int LongestUid = 64;
    private const int LongestContainer = 128;

    /// <summary>Whether a folder is the one below which all pods are: <c>kubepods</c>, <c>kubepods.slice</c>, or in a node that is a container <c>kubelet-kubepods.slice</c>.</summary>
    public static bool IsRoot(string name) => name is "kubepods" or "kubepods" + Slice || name.EndsWith("-kubepods" + Slice, StringComparison.Ordinal);

    /// <summary>Whether a folder below that is of one class of service.</summary>
    public static bool IsClass(string name) =>
        Trim(name, Slice) is var plain && (Is(plain, "burstable") || Is(plain, "besteffort"));

    /// <summary>The uid of the pod whose folder this is: <c>podUID</c>, or <c>kubepods-burstable-podUID.slice</c> with underscores for its hyphens.</summary>
    /// <returns>Null when it is no pod's.</returns>
    public static string? PodUid(string name)
    {
        string uid;
        if (name.EndsWith(Slice, StringComparison.Ordinal))
        {
            var start = name.LastIndexOf("-pod", StringComparison.Ordinal);
            if (start < 0)
            {
                return null;
            }

            uid = name[(start + "-pod".Length)..^Slice.Length].Replace('_', '-');
        }
        else if (name.StartsWith("pod", StringComparison.Ordinal))
        {
            uid = name["pod".Length..];
        }
        else
        {
            return null;
        }

        return uid.Length is > 0 and <= LongestUid && uid.All(IsWord) ? uid : null;
    }

    /// <summary>The id of the container whose folder in a pod's this is: the id, or <c>PREFIX-ID.scope</c>.</summary>
    /// <returns>Null when it is no container's: CRI-O has one for its monitor.</returns>
    public static string? ContainerId(string name)
    {
        var id = name;
        if (name.EndsWith(Scope, StringComparison.Ordinal))
        {
            id = name[..^Scope.Length];
            id = id[(id.LastIndexOf('-') + 1)..];
            if (name.Contains("conmon", StringComparison.Ordinal))
            {
                return null;
            }
        }
        else if (name.StartsWith("crio-", StringComparison.Ordinal))
        {
            id = name["crio-".Length..];
            if (id.StartsWith("conmon", StringComparison.Ordinal))
            {
                return null;
            }
        }

        return id.Length is >= 12 and <= LongestContainer && id.All(IsWord) ? id : null;
    }

    /// <summary>The id of the container that a cgroup is of, or is in.</summary>
    /// <param name="cgroup">The cgroup's path in its hierarchy.</param>
    /// <returns>Null when it is in no container of a pod.</returns>
    public static string? ContainerOf(string cgroup)
    {
        var names = cgroup.Split('/');
        var pod = Array.FindLastIndex(names, n => PodUid(n) is not null);
        return pod >= 0 && pod + 1 < names.Length ? ContainerId(names[pod + 1]) : null;
    }

    private static bool Is(string name, string word) => name == word || name.EndsWith("-" + word, StringComparison.Ordinal);

    private static string Trim(string name, string end) => name.EndsWith(end, StringComparison.Ordinal) ? name[..^end.Length] : name;

    private static bool IsWord(char c) => char.IsAsciiLetterOrDigit(c) || c is '-' or '_' or '.';
}
