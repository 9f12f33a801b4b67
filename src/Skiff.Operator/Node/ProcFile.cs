using System.Globalization;

namespace Skiff.Operator.Node;

/// <summary>What files of <c>/proc</c> say of a daemon (proc(5)).</summary>
internal static class ProcFile
{
    // USER_HZ, which proc(5) counts in; 100 on x86-64 and arm64.
    private const double TicksPerSecond = 100;

    // What proc_pid_stat(5) numbers the first of Fields.
    private const int FirstField = 3;

    /// <summary>The configuration file that a command line of containerd names, or the default.</summary>
    /// <param name="words">The command line.</param>
    /// <param name="workingDirectory">What a relative path is relative to.</param>
    public static string ConfigOf(IReadOnlyList<string> words, string workingDirectory)
    {
        // Go's flags: one dash or two, the value after "=" or as the next word.
        for (var i = 1; i < words.Count; i++)
        {
            var word = words[i];
            var name = word.TrimStart('-').Split('=', 2)[0];
            if (!word.StartsWith('-') || name is not ("config" or "c"))
            {
                continue;
            }

            var value = word.Contains('=', StringComparison.Ordinal) ? word.Split('=', 2)[1] : i + 1 < words.Count ? words[i + 1] : "";
            if (value.Length > 0)
            {
                return Path.GetFullPath(value, workingDirectory);
            }
        }

        return Containerd.Config.ConfigFiles.DefaultMainPath;
    }

    /// <summary>The systemd service that a process belongs to, from its <c>/proc/PID/cgroup</c>; null when it is in none.</summary>
    public static string? UnitOf(string membership)
    {
        foreach (var line in membership.Split('\n'))
        {
            // hierarchy:controllers:path; systemd's own is the named one of version 1, or version 2's.
            if (line.Split(':', 3) is [_, "name=systemd" or "", var path]
                && path.Split('/').LastOrDefault(p => p.EndsWith(".service", StringComparison.Ordinal)) is { } unit)
            {
                return unit;
            }
        }

        return null;
    }

    /// <summary>When a process was started, in clock ticks since boot, and how long ago that is.</summary>
    /// <param name="stat">Its <c>/proc/PID/stat</c>.</param>
    /// <param name="uptime"><c>/proc/uptime</c>.</param>
    public static (long Ticks, TimeSpan Age) StartOf(string stat, string uptime)
    {
        var ticks = long.Parse(Fields(stat)[22 - FirstField], CultureInfo.InvariantCulture);
        var up = double.Parse(uptime.Split(' ')[0], CultureInfo.InvariantCulture);
        return (ticks, TimeSpan.FromSeconds(Math.Max(0, up - (ticks / TicksPerSecond))));
    }

    /// <summary>A process's parent, from its <c>/proc/PID/stat</c>.</summary>
    public static int ParentOf(string stat) => int.Parse(Fields(stat)[4 - FirstField], CultureInfo.InvariantCulture);

    /// <summary>The process's number in the PID namespace it lives in, from its <c>/proc/PID/status</c>.</summary>
    public static int? InnermostPid(string status)
    {
        foreach (var line in status.Split('\n'))
        {
            if (line.StartsWith("NSpid:", StringComparison.Ordinal))
            {
                return int.Parse(line.Split('\t', StringSplitOptions.RemoveEmptyEntries)[^1], CultureInfo.InvariantCulture);
            }
        }

        return null;
    }

    /// <summary>The fields of a stat file after the second, which is the name in parentheses and may hold anything.</summary>
    private static string[] Fields(string stat) => stat[(stat.LastIndexOf(')') + 1)..].Split(' ', StringSplitOptions.RemoveEmptyEntries);
}
