using Skiff.Linux.Processes;

namespace Skiff.Testing;

/// <summary>crictl, which talks to containerd as the kubelet does; unpacked from the shared folder.</summary>
public static class CriTools
{
    private const string Name = "cri-tools";

    /// <summary>The program, once <see cref="LocateAsync"/> has found it.</summary>
    public static string Crictl { get; } = Path.Combine(Cache.PathOf(Name), "crictl");

    /// <summary>Sees to it that it is there.</summary>
    /// <returns>What this machine lacks, or null.</returns>
    public static async Task<string?> LocateAsync()
    {
        if (!File.Exists("/usr/lib/cni/bridge"))
        {
            return "no /usr/lib/cni/bridge: run hack/setup test";
        }

        if (File.Exists(Crictl))
        {
            return null;
        }

        var archive = Path.Combine(Repository.Shared, "tools", "cri-tools.tar.xz");
        if (!File.Exists(archive))
        {
            return $"no {archive}: crictl comes from there";
        }

        _ = await Cache.FolderAsync(Name, async draft =>
        {
            var result = await Command.RunAsync(
                new SpawnRequest { Path = "/usr/bin/env", Arguments = ["env", "tar", "xf", archive, "-C", draft], Environment = ["PATH=/usr/bin:/bin"] }, TimeSpan.FromMinutes(2));
            if (!result.Exit.Success)
            {
                throw new InvalidOperationException($"{archive} cannot be unpacked: {result.Error}");
            }
        });
        return null;
    }
}
