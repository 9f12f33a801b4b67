using System.Globalization;
using System.Text;
using Microsoft.Win32.SafeHandles;
using Skiff.Linux;
using Skiff.Linux.Files;

namespace Skiff.Operator.OomEvents;

/// <summary>A process that was killed, as the kernel's log has it.</summary>
/// <param name="Name">Its name, at most 15 characters.</param>
/// <param name="Pid">Its id on the node.</param>
/// <param name="Bytes">What it had in memory; null while the log does not say.</param>
/// <param name="Level">Whose limit it was for.</param>
/// <param name="Cgroup">Its memory cgroup.</param>
internal sealed record Victim(string Name, int Pid, ulong? Bytes, KillLevel Level, string Cgroup);

/// <summary>
/// The kernel's log, for the names of victims (mm/oom_kill.c, dump_oom_victim and __oom_kill_process). It adds to what was counted, and tells of
/// a container that was gone before it could be; no more, because the kernel limits how often it writes, and not every node lets us read it.
/// </summary>
internal sealed class KernelLog
{
    private const int Kept = 256;
    private const int LongestRecord = 8192;
    private const string Constraint = "oom-kill:constraint=";
    private const string Killed = "Killed process ";

    private readonly Lock _lock = new();
    private readonly LinkedList<Victim> _victims = [];

    /// <summary>Reads what is written from now on, until cancelled, or at once when there is nothing to read.</summary>
    /// <param name="path">The node's /dev/kmsg.</param>
    /// <param name="killedIn">Called with each container that a victim was in; must be quick.</param>
    /// <param name="cancellation">Ends it.</param>
    public async Task FollowAsync(string path, Action<string> killedIn, CancellationToken cancellation)
    {
        try
        {
            using var file = OpenDescriptor.OpenReadNonBlocking(path, fromEnd: true);
            var buffer = new byte[LongestRecord];
            while (true)
            {
                await Readiness.ReadableAsync(file, cancellation).ConfigureAwait(false);
                while (Read(file, buffer) is { } count)
                {
                    if (count == 0)
                    {
                        return; // /dev/null, which a node that is a container has in its place
                    }

                    if (Take(Encoding.UTF8.GetString(buffer, 0, Math.Max(count, 0))) is { } container)
                    {
                        killedIn(container);
                    }
                }
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Not to be read here; what is counted does not depend on it.
        }
        catch (OperationCanceledException)
        {
            // The agent stops.
        }
    }

    /// <summary>Reads a record.</summary>
    /// <returns>Its length; 0 at the end; null when there is none yet; -1 when some were overwritten before we read them, which is no reason to stop.</returns>
    private static int? Read(SafeFileHandle file, byte[] buffer)
    {
        try
        {
            return OpenDescriptor.TryRead(file, buffer);
        }
        catch (LinuxException e) when (e.ErrorNumber is Errno.BrokenPipe or Errno.Invalid)
        {
            return -1; // or longer than the buffer
        }
    }

    /// <summary>Takes a record: its head, a semicolon, its line.</summary>
    /// <returns>The container of a victim that it names; null when it names none, or one outside of containers.</returns>
    internal string? Take(string record)
    {
        var line = record[(record.IndexOf(';', StringComparison.Ordinal) + 1)..].Split('\n', 2)[0];
        if (line.StartsWith(Constraint, StringComparison.Ordinal))
        {
            if (Field(line, "task_memcg=", ',') is { } cgroup && Field(line, "task=", null) is { } task
                && task.LastIndexOf(",pid=", StringComparison.Ordinal) is > 0 and var end
                && int.TryParse(task[(end + 5)..].Split(',')[0], NumberStyles.None, CultureInfo.InvariantCulture, out var pid))
            {
                // Only a kill for the limit of a cgroup has its name.
                var level = Field(line, "oom_memcg=", ',') is not { } limited ? KillLevel.Node
                    : limited == cgroup || limited.StartsWith(cgroup, StringComparison.Ordinal) ? KillLevel.Container
                    : PodCgroupName.PodUid(limited[(limited.LastIndexOf('/') + 1)..]) is not null ? KillLevel.Pod
                    : KillLevel.Node;
                lock (_lock)
                {
                    _ = _victims.AddLast(new Victim(task[..end], pid, null, level, cgroup));
                    if (_victims.Count > Kept)
                    {
                        _victims.RemoveFirst();
                    }
                }

                return PodCgroupName.ContainerOf(cgroup);
            }
        }
        else if (line.IndexOf(Killed, StringComparison.Ordinal) is >= 0 and var at
            && int.TryParse(line[(at + Killed.Length)..].Split(' ')[0], NumberStyles.None, CultureInfo.InvariantCulture, out var pid))
        {
            lock (_lock)
            {
                for (var node = _victims.Last; node is not null; node = node.Previous)
                {
                    if (node.Value.Pid == pid && node.Value.Bytes is null)
                    {
                        node.Value = node.Value with { Bytes = Kibibytes(line, "anon-rss:") + Kibibytes(line, "file-rss:") + Kibibytes(line, "shmem-rss:") };
                        break;
                    }
                }
            }
        }

        return null;
    }

    /// <summary>Takes out the victims that were in a container, the last first.</summary>
    public IReadOnlyList<Victim> TakeOf(string containerId)
    {
        List<Victim> found = [];
        lock (_lock)
        {
            for (var node = _victims.Last; node is not null;)
            {
                var previous = node.Previous;
                if (node.Value.Cgroup.Contains(containerId, StringComparison.Ordinal))
                {
                    found.Add(node.Value);
                    _victims.Remove(node);
                }

                node = previous;
            }
        }

        return found;
    }

    private static string? Field(string line, string key, char? end)
    {
        var start = line.IndexOf("," + key, StringComparison.Ordinal);
        if (start < 0)
        {
            return null;
        }

        var value = line[(start + 1 + key.Length)..];
        var length = end is { } e ? value.IndexOf(e, StringComparison.Ordinal) : -1;
        return length < 0 ? value : value[..length];
    }

    private static ulong Kibibytes(string line, string key)
    {
        var start = line.IndexOf(key, StringComparison.Ordinal);
        return start >= 0 && ulong.TryParse(line[(start + key.Length)..].Split("kB", 2)[0], NumberStyles.None, CultureInfo.InvariantCulture, out var value) ? value << 10 : 0;
    }
}
