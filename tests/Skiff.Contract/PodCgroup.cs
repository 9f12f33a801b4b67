using Skiff.Linux.Cgroups;

namespace Skiff.Contract;

/// <summary>A cgroup with a limit, as the kubelet makes one for a pod.</summary>
internal sealed class PodCgroup
{
    /// <param name="name">Its name's own part.</param>
    /// <param name="limit">Of memory, in bytes.</param>
    public PodCgroup(string name, long limit)
    {
        Path = "/skiff-pod-" + name;
        var unified = !Directory.Exists("/sys/fs/cgroup/memory");
        Folder = (unified ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory") + Path;
        _ = Directory.CreateDirectory(Folder);
        File.WriteAllText(Folder + (unified ? "/memory.max" : "/memory.limit_in_bytes"), $"{limit}");
    }

    /// <summary>What CRI and an OCI spec call it.</summary>
    public string Path { get; }

    /// <summary>Its folder; of the memory controller on v1.</summary>
    public string Folder { get; }

    public async Task RemoveAsync()
    {
        using var limit = new CancellationTokenSource(RunningContainer.Patience);
        Assert.True(await NamedCgroup.RemoveAsync(Path, limit.Token));
    }
}
