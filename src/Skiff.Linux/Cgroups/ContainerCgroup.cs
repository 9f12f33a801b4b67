using System.Globalization;
using System.Runtime.InteropServices;
using Skiff.Linux.Mounts;
using Skiff.Linux.Processes;

namespace Skiff.Linux.Cgroups;

/// <summary>The cgroup of a container, on a v1, v2 or hybrid machine (cgroups(7)).</summary>
public sealed class ContainerCgroup
{
    // Every OCI runtime puts the container into these; one is enough to list its processes.
    private static readonly string[] _preferred = ["pids", "memory", "devices", "freezer", "cpu", "systemd"];

    private readonly Dictionary<string, string> _folders;

    private ContainerCgroup(Dictionary<string, string> folders, bool unified)
    {
        _folders = folders;
        IsUnified = unified;
    }

    /// <summary>Whether the machine has the v2 hierarchy only.</summary>
    public bool IsUnified { get; }

    /// <summary>The folder of a v1 controller (<c>memory</c>, <c>pids</c>, …), or the v2 folder whatever the controller.</summary>
    /// <returns>Null when this machine does not have that controller, or the process is in its root.</returns>
    public string? Folder(string controller) => _folders.GetValueOrDefault(IsUnified ? "" : controller);

    /// <summary>The cgroup of a living process.</summary>
    /// <returns>Null when the process has ended, or is in the root of every hierarchy.</returns>
    public static ContainerCgroup? Of(int pid)
    {
        string membership;
        try
        {
            membership = File.ReadAllText($"/proc/{pid}/cgroup");
        }
        catch (IOException)
        {
            return null;
        }

        return Parse(membership, MountTable.Read());
    }

    /// <summary>Joins the text of /proc/PID/cgroup with the mount table.</summary>
    public static ContainerCgroup? Parse(string membership, IReadOnlyList<MountEntry> mounts)
    {
        ArgumentNullException.ThrowIfNull(membership);
        ArgumentNullException.ThrowIfNull(mounts);
        Dictionary<string, string> folders = [];
        var hasV1 = mounts.Any(m => m.Type == "cgroup");
        foreach (var line in membership.Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            // hierarchy:controllers:path; the v2 hierarchy is number 0 and has no controllers
            var parts = line.Split(':', 3);
            if (parts.Length != 3 || parts[2] is "/" or "")
            {
                continue;
            }

            var names = parts[1].Length == 0 ? [""] : parts[1].Split(',');
            var mount = mounts.FirstOrDefault(m => parts[1].Length == 0
                ? m.Type == "cgroup2"
                : m.Type == "cgroup" && Array.IndexOf(m.SuperOptions.Split(','), names[0]) >= 0);
            if (mount is null || (parts[1].Length == 0 && hasV1))
            {
                continue; // the v2 tree of a hybrid machine has no controllers, and runtimes may leave it alone
            }

            // The mount may show a subtree only: a node that is itself a container sees its own corner as the root.
            var path = mount.Root != "/" && parts[2].StartsWith(mount.Root, StringComparison.Ordinal) ? parts[2][mount.Root.Length..] : parts[2];
            foreach (var name in names)
            {
                folders[name.StartsWith("name=", StringComparison.Ordinal) ? name["name=".Length..] : name] =
                    mount.Target.TrimEnd('/') + "/" + path.TrimStart('/');
            }
        }

        return folders.Count == 0 ? null : new ContainerCgroup(folders, unified: !hasV1);
    }

    /// <summary>All processes in it and below it; empty when it is gone.</summary>
    public IReadOnlyList<int> Processes()
    {
        var folder = Main();
        if (folder is null)
        {
            return [];
        }

        List<int> pids = [];
        Collect(folder, pids);
        return pids;
    }

    /// <summary>
    /// Sends a signal to each of its processes. A process that forks meanwhile could slip through, so for SIGKILL the listing is repeated
    /// until it is empty of living processes, or <c>cgroup.kill</c> (v2, Linux 5.14) does it at once.
    /// </summary>
    public void SignalAll(int signal)
    {
        if (signal == Signals.Kill && IsUnified && Main() is { } folder && File.Exists(folder + "/cgroup.kill"))
        {
            File.WriteAllText(folder + "/cgroup.kill", "1");
            return;
        }

        HashSet<int> seen = [];
        bool found;
        do
        {
            found = false;
            foreach (var pid in Processes())
            {
                if (seen.Add(pid))
                {
                    found = true;
                    if (Libc.kill(pid, signal) < 0 && Marshal.GetLastPInvokeError() != Errno.NoProcess)
                    {
                        throw LinuxException.Last($"send signal {signal} to process {pid}");
                    }
                }
            }
        }
        while (found && signal == Signals.Kill);
    }

    private static void Collect(string folder, List<int> pids)
    {
        try
        {
            foreach (var line in File.ReadLines(folder + "/cgroup.procs"))
            {
                if (int.TryParse(line, NumberStyles.None, CultureInfo.InvariantCulture, out var pid))
                {
                    pids.Add(pid);
                }
            }

            foreach (var child in Directory.EnumerateDirectories(folder))
            {
                Collect(child, pids);
            }
        }
        catch (IOException)
        {
            // It went away while we read: then it has no processes.
        }
    }

    private string? Main()
    {
        if (IsUnified)
        {
            return _folders.GetValueOrDefault("");
        }

        foreach (var name in _preferred)
        {
            if (_folders.TryGetValue(name, out var folder))
            {
                return folder;
            }
        }

        return _folders.Values.FirstOrDefault();
    }
}
