using Skiff.Linux.Processes;

namespace Skiff.Testing;

/// <summary>crictl, which talks to containerd as the kubelet does; unpacked from the shared folder.</summary>
public static class CriTools
{
    private static readonly string _folder = Path.Combine(Environment.GetEnvironmentVariable("HOME") ?? "/root", ".cache", "skiff-test", "cri-tools");

    /// <summary>The program, once <see cref="LocateAsync"/> has found it.</summary>
    public static string Crictl { get; } = Path.Combine(_folder, "crictl");

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

        _ = Directory.CreateDirectory(_folder);
        var result = await Command.RunAsync(
            new SpawnRequest { Path = "/usr/bin/env", Arguments = ["env", "tar", "xf", archive, "-C", _folder], Environment = ["PATH=/usr/bin:/bin"] }, TimeSpan.FromMinutes(2));
        return result.Exit.Success ? null : throw new InvalidOperationException($"{archive} cannot be unpacked: {result.Error}");
    }
}
