using System.Globalization;

namespace Skiff.Linux.Processes;

/// <summary>Facts about this process that the framework does not give.</summary>
public static class ThisProcess
{
    /// <summary>The process id of the parent.</summary>
    public static int ParentId => Libc.getppid();

    /// <summary>The user it acts as.</summary>
    public static uint UserId => Libc.geteuid();

    /// <summary>Whether it counts processes as the kernel's log does: it is in the first pid namespace (include/linux/proc_ns.h, PROC_PID_INIT_INO).</summary>
    public static bool CountsAsTheKernel => new FileInfo("/proc/self/ns/pid").LinkTarget == "pid:[4026531836]";

    /// <summary>Its environment as KEY=VALUE, as <see cref="SpawnRequest.Environment"/> takes it.</summary>
    /// <param name="without">The names of variables that a child must not get.</param>
    public static List<string> EnvironmentWithout(params ReadOnlySpan<string> without)
    {
        List<string> all = [];
        foreach (System.Collections.DictionaryEntry entry in Environment.GetEnvironmentVariables())
        {
            if (!without.Contains((string)entry.Key))
            {
                all.Add($"{entry.Key}={entry.Value}");
            }
        }

        return all;
    }

    /// <summary>How likely the kernel is to kill a process for memory, -1000 to 1000; null when it is gone.</summary>
    public static int? OomScoreAdjustmentOf(int pid)
    {
        try
        {
            return int.Parse(File.ReadAllText($"/proc/{pid}/oom_score_adj"), CultureInfo.InvariantCulture);
        }
        catch (IOException)
        {
            return null;
        }
    }
}
