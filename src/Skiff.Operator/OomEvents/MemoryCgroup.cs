using System.Globalization;
using Skiff.Linux.Cgroups;

namespace Skiff.Operator.OomEvents;

/// <summary>Whose limit the kernel killed for.</summary>
internal enum KillLevel
{
    /// <summary>The container's own.</summary>
    Container,

    /// <summary>That of the pod.</summary>
    Pod,

    /// <summary>None of these: the node had no more, or no more for pods.</summary>
    Node,
}

/// <summary>What the files of a memory cgroup say. Null where this kernel has no such file, or the cgroup is gone.</summary>
internal sealed record MemoryReading
{
    /// <summary>The most that it may use, in bytes; null also when there is no limit.</summary>
    public ulong? Limit { get; init; }

    /// <summary>The most that it has used, in bytes.</summary>
    public ulong? Peak { get; init; }

    /// <summary>How often its own limit stood in somebody's way; a kill for it raises this first.</summary>
    public ulong? LimitHits { get; init; }

    /// <summary>
    /// Whether it has used all that it may of memory and swap together (v1). The kernel tries that limit first, and since 6.12 does not count
    /// how often it stood in the way.
    /// </summary>
    public bool AtSwapLimit { get; init; }

    /// <summary>Whether all its processes are killed together (v2, <c>memory.oom.group</c>).</summary>
    public bool? DiesWhole { get; init; }

    /// <summary>
    /// This, and what an older one knew where this knows nothing: a cgroup may go while its files are read. Not of the hits, which would look
    /// as if there had been none since.
    /// </summary>
    public MemoryReading Over(MemoryReading older) => this with { Limit = Limit ?? older.Limit, Peak = Peak ?? older.Peak, DiesWhole = DiesWhole ?? older.DiesWhole };
}

/// <summary>Reads memory cgroups (Documentation/admin-guide/cgroup-v2.rst, "Memory"; cgroup-v1/memory.rst).</summary>
internal static class MemoryCgroup
{
    // v1 writes "no limit" as the largest number of whole pages.
    private const ulong NoLimit = 1UL << 62;

    /// <summary>Reads one.</summary>
    /// <param name="folder">Its files; on v1 those of the memory controller.</param>
    /// <param name="unified">Whether it is v2.</param>
    public static MemoryReading Read(string folder, bool unified) => unified
        ? new MemoryReading
        {
            DiesWhole = CgroupFile.Number(folder, "memory.oom.group") is { } group ? group == 1 : null,
            LimitHits = CgroupFile.Pairs(folder, "memory.events.local").TryGetValue("oom", out var hits) ? hits : null,
            Limit = Limited(CgroupFile.Number(folder, "memory.max")),
            Peak = CgroupFile.Number(folder, "memory.peak"),
        }
        : new MemoryReading
        {
            Limit = Limited(CgroupFile.Number(folder, "memory.limit_in_bytes")),
            Peak = CgroupFile.Number(folder, "memory.max_usage_in_bytes"),
            LimitHits = CgroupFile.Number(folder, "memory.failcnt") is { } memory ? memory + (CgroupFile.Number(folder, "memory.memsw.failcnt") ?? 0) : null,
            AtSwapLimit = CgroupFile.Number(folder, "memory.memsw.max_usage_in_bytes") >= CgroupFile.Number(folder, "memory.memsw.limit_in_bytes"),
        };

    /// <summary>
    /// Whose limit a kill was for, by which limit was hit since the last kill. v1 counts also hits that reclaim could help, so there the
    /// innermost of several is taken.
    /// </summary>
    /// <returns>Null when too much of the cgroups was gone to tell.</returns>
    public static KillLevel? Level(ulong hitsBefore, MemoryReading container, ulong podHitsBefore, MemoryReading pod) =>
        IsHit(hitsBefore, container) || (container.LimitHits is null && IsFull(container)) ? KillLevel.Container
        : IsHit(podHitsBefore, pod) ? KillLevel.Pod
        : container.LimitHits is null || pod.LimitHits is null ? null
        : KillLevel.Node;

    /// <summary>Whether a limit has been hit since it was last looked at.</summary>
    public static bool IsHit(ulong hitsBefore, MemoryReading reading) => reading.Limit is not null && (reading.LimitHits > hitsBefore || reading.AtSwapLimit);

    /// <summary>Whether processes are left in it that are not dying already.</summary>
    /// <param name="folder">Its files.</param>
    /// <param name="unified">Whether it is v2.</param>
    /// <param name="processes">The node's /proc; null when its process ids are not ours to see.</param>
    public static bool Lives(string folder, bool unified, string? processes)
    {
        if (unified)
        {
            if (!CgroupFile.Pairs(folder, "cgroup.events").TryGetValue("populated", out var populated) || populated == 0)
            {
                return false;
            }
        }
        else if (CgroupFile.Number(PidsFolder(folder), "pids.current") is { } count ? count == 0 : CgroupFile.Numbers(folder, "cgroup.procs").Count == 0)
        {
            return false;
        }

        if (processes is null)
        {
            return Directory.Exists(folder);
        }

        // A large process takes its time to go.
        var pids = CgroupFile.Numbers(folder, "cgroup.procs");
        return pids.Any(pid => pid == 0 || !IsDying(processes, pid)) || (pids.Count == 0 && Directory.Exists(folder));
    }

    /// <summary>v1's folder of the controller that counts processes, whichever pid namespace they are in.</summary>
    private static string PidsFolder(string memoryFolder)
    {
        const string memory = "/memory/";
        var at = memoryFolder.IndexOf(memory, StringComparison.Ordinal);
        return at < 0 ? memoryFolder : $"{memoryFolder[..at]}/pids/{memoryFolder[(at + memory.Length)..]}";
    }

    private static bool IsDying(string processes, ulong pid)
    {
        const ulong kill = 1 << 8; // SIGKILL is 9
        foreach (var words in CgroupFile.Lines(string.Create(CultureInfo.InvariantCulture, $"{processes}/{pid}"), "status"))
        {
            switch (words)
            {
                case ["State:", "Z" or "X", ..]:
                    return true;
                case ["SigPnd:" or "ShdPnd:", var signals] when ulong.TryParse(signals, NumberStyles.HexNumber, CultureInfo.InvariantCulture, out var pending) && (pending & kill) != 0:
                    return true;
                default:
                    break;
            }
        }

        return !Directory.Exists($"{processes}/{pid}");
    }

    // The kernel charges in batches, so the peak stays a little below.
    private static bool IsFull(MemoryReading reading) => reading is { Peak: { } peak, Limit: { } limit } && peak >= limit - (limit >> 6);

    private static ulong? Limited(ulong? limit) => limit >= NoLimit ? null : limit;
}
