using System.Globalization;
using System.Text;
using Microsoft.Win32.SafeHandles;
using Skiff.Linux;
using Skiff.Linux.Files;

namespace Skiff.Operator.OomEvents;

/// <summary>A process that was killed, as the kernel's log has it.</summary>
/// <param name="Name">Its name, at most 15 characters.</param>
/// <param name="Pid">Its id, as the kernel counts.</param>
/// <param name="Bytes">What it had in memory, but for files; null while the log does not say.</param>
/// <param name="Level">Whose limit it was for; null where the log does not say.</param>
/// <param name="Container">The container in whose cgroup it was; null where the log does not say.</param>
internal sealed record Victim(string Name, int Pid, ulong? Bytes, KillLevel? Level, string? Container);

/// <summary>
/// The kernel's log of its victims (mm/oom_kill.c, dump_oom_victim and __oom_kill_process): their names, and a witness of kills that nobody
/// could count.
/// </summary>
/// <remarks>
/// The line with the cgroups is written before the kill, at most ten times in five seconds; the one with the process alone always. Both are
/// there when the end of the process is known, so whoever asks is told what was written until then, not what was read before.
/// </remarks>
internal sealed class KernelLog : IDisposable
{
    private const int Kept = 256;
    private const int LongestRecord = 8192;
    private const string Constraint = "oom-kill:constraint=";
    private const string Killed = "Killed process ";

    // A process id may be given again, in the time that tens of thousands of processes take.
    private static readonly TimeSpan _same = TimeSpan.FromSeconds(30);

    private readonly Lock _lock = new();
    private readonly LinkedList<(Victim Victim, DateTimeOffset At)> _victims = [];
    private readonly byte[] _record = new byte[LongestRecord];
    private readonly Func<string?> _buffer;
    private readonly bool _countsAsWe;
    private readonly TimeProvider _time;
    private readonly SafeFileHandle? _file;
    private readonly bool _isNews;
    private bool _isFollowed;
    private string _last = "";

    /// <summary>Takes what is there.</summary>
    /// <param name="path">The node's /dev/kmsg.</param>
    /// <param name="buffer">Gives all that the kernel has kept (<see cref="KernelMessages"/>), where that cannot be read.</param>
    /// <param name="countsAsWe">Whether its process ids are those of the node's container runtime.</param>
    /// <param name="time">The clock.</param>
    public KernelLog(string path, Func<string?> buffer, bool countsAsWe, TimeProvider time)
    {
        _buffer = buffer;
        _countsAsWe = countsAsWe;
        _time = time;
        try
        {
            _file = OpenDescriptor.OpenReadNonBlocking(path);
            _isFollowed = true;
        }
        catch (LinuxException)
        {
            // There is none, or it is not ours to read.
        }

        Look();
        _isNews = true;
    }

    /// <summary>Takes what is written, until cancelled.</summary>
    public async Task FollowAsync(CancellationToken cancellation)
    {
        while (_isFollowed)
        {
            await Readiness.ReadableAsync(_file!, cancellation).ConfigureAwait(false);
            Look();
        }

        await Task.Delay(Timeout.Infinite, cancellation).ConfigureAwait(false);
    }

    /// <summary>Whether it says that a container's process was killed for want of memory, and nobody has taken that yet.</summary>
    /// <param name="containerId">The container.</param>
    /// <param name="pid">Its first process, if that has just ended by SIGKILL; else null.</param>
    public bool Tells(string containerId, uint? pid)
    {
        Look();
        lock (_lock)
        {
            var now = _time.GetUtcNow();
            for (var node = _victims.Last; node is not null; node = node.Previous)
            {
                var (victim, at) = node.Value;
                if (victim.Container is null && victim.Pid == pid && now - at < _same)
                {
                    node.Value = (victim with { Container = containerId }, at);
                    return true;
                }

                if (victim.Container == containerId)
                {
                    return true;
                }
            }
        }

        return false;
    }

    /// <summary>Takes out the victims that were in a container, the last first.</summary>
    public IReadOnlyList<Victim> TakeOf(string containerId)
    {
        Look();
        List<Victim> found = [];
        lock (_lock)
        {
            for (var node = _victims.Last; node is not null;)
            {
                var previous = node.Previous;
                if (node.Value.Victim.Container == containerId)
                {
                    found.Add(node.Value.Victim);
                    _victims.Remove(node);
                }

                node = previous;
            }
        }

        return found;
    }

    /// <summary>Takes a line.</summary>
    internal void Take(string line)
    {
        if (line.StartsWith(Constraint, StringComparison.Ordinal))
        {
            if (Field(line, "task_memcg=", ',') is { } cgroup && PodCgroupName.ContainerOf(cgroup) is { } container
                && Field(line, "task=", null) is { } task && task.LastIndexOf(",pid=", StringComparison.Ordinal) is > 0 and var end && Pid(task[(end + 5)..], ',') is { } pid)
            {
                // Only a kill for the limit of a cgroup has its name.
                var level = Field(line, "oom_memcg=", ',') is not { } limited ? KillLevel.Node
                    : limited == cgroup || limited.StartsWith(cgroup, StringComparison.Ordinal) ? KillLevel.Container
                    : PodCgroupName.PodUid(limited[(limited.LastIndexOf('/') + 1)..]) is not null ? KillLevel.Pod
                    : KillLevel.Node;
                Add(new Victim(task[..end], pid, null, level, container));
            }
        }
        else if (line.IndexOf(Killed, StringComparison.Ordinal) is >= 0 and var at && Pid(line[(at + Killed.Length)..], ' ') is { } pid)
        {
            var bytes = Kibibytes(line, "anon-rss:") + Kibibytes(line, "shmem-rss:"); // who pays for the pages of files does not show
            for (var node = _victims.Last; node is not null; node = node.Previous)
            {
                if (node.Value.Victim is { Bytes: null } known && known.Pid == pid)
                {
                    node.Value = (known with { Bytes = bytes }, node.Value.At);
                    return;
                }
            }

            if (_isNews && _isFollowed && _countsAsWe && Name(line[at..]) is { } name)
            {
                Add(new Victim(name, pid, bytes, null, null));
            }
        }
    }

    private void Add(Victim victim)
    {
        _ = _victims.AddLast((victim, _time.GetUtcNow()));
        if (_victims.Count > Kept)
        {
            _victims.RemoveFirst();
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _file?.Dispose();

    /// <summary>Takes what was written until now.</summary>
    private void Look()
    {
        lock (_lock)
        {
            while (_isFollowed && Read() is { } count)
            {
                if (count == 0)
                {
                    _isFollowed = false; // it is /dev/null, which a node that is a container has in its place
                    break;
                }

                // Its head, a semicolon, its line, and lines of properties (Documentation/ABI/testing/dev-kmsg).
                var record = Encoding.UTF8.GetString(_record, 0, Math.Max(count, 0));
                Take(record[(record.IndexOf(';', StringComparison.Ordinal) + 1)..].Split('\n', 2)[0]);
            }

            if (!_isFollowed && _buffer() is { } text)
            {
                // What was last before is gone only when all that is there is newer.
                var known = _last.Length > 0 ? text.LastIndexOf(_last, StringComparison.Ordinal) : -1;
                var lines = text[(known < 0 ? 0 : known + _last.Length)..].Split('\n', StringSplitOptions.RemoveEmptyEntries);
                foreach (var line in lines)
                {
                    Take(WithoutHead(line));
                }

                _last = lines is [.., var last] ? last : _last;
            }
        }
    }

    /// <summary>Reads a record.</summary>
    /// <returns>Its length; 0 at the end, or of no use any more; null when there is none yet; -1 when some were overwritten before we read them, which is no reason to stop.</returns>
    private int? Read()
    {
        try
        {
            return OpenDescriptor.TryRead(_file!, _record);
        }
        catch (LinuxException e)
        {
            return e.ErrorNumber is Errno.BrokenPipe or Errno.Invalid ? -1 : 0; // the latter: longer than the buffer
        }
    }

    /// <summary>A line without its level, its time and, where the kernel writes that, its caller.</summary>
    private static string WithoutHead(string line)
    {
        var start = line.StartsWith('<') ? line.IndexOf('>', StringComparison.Ordinal) + 1 : 0;
        while (start < line.Length && line[start] == '[' && line.IndexOf(']', start) is > 0 and var end)
        {
            start = end + 1 + (end + 1 < line.Length && line[end + 1] == ' ' ? 1 : 0);
        }

        return line[start..];
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

    private static int? Pid(string text, char end) =>
        int.TryParse(text.Split(end, 2)[0], NumberStyles.None, CultureInfo.InvariantCulture, out var pid) ? pid : null;

    /// <summary>The name in <c>Killed process 7 (name) total-vm:…</c>; it may have brackets itself.</summary>
    private static string? Name(string line)
    {
        var (start, end) = (line.IndexOf('(', StringComparison.Ordinal) + 1, line.IndexOf(") total-vm:", StringComparison.Ordinal));
        return start > 0 && end >= start ? line[start..end] : null;
    }

    private static ulong Kibibytes(string line, string key)
    {
        var start = line.IndexOf(key, StringComparison.Ordinal);
        return start >= 0 && ulong.TryParse(line[(start + key.Length)..].Split("kB", 2)[0], NumberStyles.None, CultureInfo.InvariantCulture, out var value) ? value << 10 : 0;
    }
}
