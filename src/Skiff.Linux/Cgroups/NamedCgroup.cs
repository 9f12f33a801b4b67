using System.Globalization;
using Skiff.Linux.Mounts;
using Skiff.Linux.Processes;

namespace Skiff.Linux.Cgroups;

/// <summary>A cgroup that is there already and known by its path, on a v1 or a v2 machine.</summary>
public static class NamedCgroup
{
    private static readonly TimeSpan _pause = TimeSpan.FromMilliseconds(10);

    /// <summary>Moves a process into it; on a v1 machine into the folder of that path below every controller that has one.</summary>
    /// <param name="path">Its path below the root of the hierarchy, with or without a leading slash.</param>
    /// <param name="pid">The process.</param>
    /// <exception cref="IOException">There is no such cgroup, or the kernel refused.</exception>
    public static void Add(string path, int pid)
    {
        ArgumentNullException.ThrowIfNull(path);
        var folders = Folders(path);
        if (folders.Count == 0)
        {
            throw new IOException($"there is no cgroup {path}");
        }

        foreach (var folder in folders)
        {
            File.WriteAllText(folder + "/cgroup.procs", pid.ToString(CultureInfo.InvariantCulture));
        }
    }

    /// <summary>Kills what is in it and removes it, wherever it is; one that is not there is fine.</summary>
    /// <param name="path">Its path below the root of the hierarchy; not that root.</param>
    /// <param name="cancellation">Ends the wait for processes to go.</param>
    /// <returns>Whether nothing of it is left.</returns>
    public static async Task<bool> RemoveAsync(string path, CancellationToken cancellation)
    {
        ArgumentException.ThrowIfNullOrEmpty(path.Trim('/'), nameof(path));
        foreach (var folder in Folders(path))
        {
            while (!TryRemove(folder))
            {
                if (cancellation.IsCancellationRequested)
                {
                    return false;
                }

                await Task.Delay(_pause, CancellationToken.None).ConfigureAwait(false); // a killed process is in it until it has been reaped
            }
        }

        return true;
    }

    private static List<string> Folders(string path)
    {
        // The v2 tree of a hybrid machine counts for removal: runtimes make folders there too.
        var mounts = MountTable.Read().Where(m => m.Type is "cgroup" or "cgroup2");
        return [.. mounts.Select(m => Path.Combine(m.Target, path.TrimStart('/'))).Where(Directory.Exists).Distinct()];
    }

    private static bool TryRemove(string folder)
    {
        try
        {
            foreach (var child in Directory.GetDirectories(folder))
            {
                if (!TryRemove(child))
                {
                    return false;
                }
            }

            foreach (var line in File.ReadAllLines(folder + "/cgroup.procs"))
            {
                if (int.TryParse(line, NumberStyles.None, CultureInfo.InvariantCulture, out var pid) && pid > 0)
                {
                    _ = Libc.kill(pid, Signals.Kill);
                }
            }

            Directory.Delete(folder);
            return true;
        }
        catch (DirectoryNotFoundException)
        {
            return true;
        }
        catch (IOException)
        {
            return false;
        }
    }
}
