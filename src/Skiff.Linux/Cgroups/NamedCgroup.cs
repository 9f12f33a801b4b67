using System.Globalization;
using Skiff.Linux.Mounts;

namespace Skiff.Linux.Cgroups;

/// <summary>A cgroup that is there already and known by its path, on a v1 or a v2 machine.</summary>
public static class NamedCgroup
{
    /// <summary>Moves a process into it; on a v1 machine into the folder of that path below every controller that has one.</summary>
    /// <param name="path">Its path below the root of the hierarchy, with or without a leading slash.</param>
    /// <param name="pid">The process.</param>
    /// <exception cref="IOException">There is no such cgroup, or the kernel refused.</exception>
    public static void Add(string path, int pid)
    {
        ArgumentNullException.ThrowIfNull(path);
        var mounts = MountTable.Read();
        var type = mounts.Any(m => m.Type == "cgroup") ? "cgroup" : "cgroup2";
        List<string> folders =
            [.. mounts.Where(m => m.Type == type).Select(m => Path.Combine(m.Target, path.TrimStart('/'))).Where(Directory.Exists).Distinct()];
        if (folders.Count == 0)
        {
            throw new IOException($"there is no cgroup {path} below {string.Join(", ", mounts.Where(m => m.Type == type).Select(m => m.Target))}");
        }

        foreach (var folder in folders)
        {
            File.WriteAllText(folder + "/cgroup.procs", pid.ToString(CultureInfo.InvariantCulture));
        }
    }
}
