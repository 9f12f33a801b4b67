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

    /// <summary>How often its own limit or that of a cgroup in it did (v2).</summary>
    public ulong? HitsWithin { get; init; }

    /// <summary>How often it, or a cgroup in it, was killed whole (v2, since Linux 5.17).</summary>
    public ulong? GroupKills { get; init; }

    /// <summary>
    /// Whether it has used all that it may of memory and swap together (v1). The kernel tries that limit first, and since 6.12 does not count
    /// how often it stood in the way.
    /// </summary>
    public bool AtSwapLimit { get; init; }

    /// <summary>Whether all its processes are killed together (v2, <c>memory.oom.group</c>).</summary>
    public bool? DiesWhole { get; init; }

    /// <summary>
    /// This, and what an older one knew of its settings where this knows nothing: a cgroup may go while its files are read. Not what was counted:
    /// old hits would look as if there had been none since, and an old peak as if it had died of so little.
    /// </summary>
    public MemoryReading Over(MemoryReading older) => this with { Limit = Limit ?? older.Limit, DiesWhole = DiesWhole ?? older.DiesWhole };
}

/// <summary>Reads memory cgroups (Documentation/admin-guide/cgroup-v2.rst, "Memory"; cgroup-v1/memory.rst).</summary>
internal static class MemoryCgroup
{
    // v1 writes "no limit" as the largest number of whole pages.
    private const ulong NoLimit = 1UL << 62;

    /// <summary>Reads one.</summary>
    /// <param name="folder">Its files; on v1 those of the memory controller.</param>
    /// <param name="unified">Whether it is v2.</param>
    public static MemoryReading Read(string folder, bool unified)
    {
        if (!unified)
        {
            return new MemoryReading
            {
                Limit = Limited(CgroupFile.Number(folder, "memory.limit_in_bytes")),
                Peak = CgroupFile.Number(folder, "memory.max_usage_in_bytes"),
                LimitHits = CgroupFile.Number(folder, "memory.failcnt") is { } memory ? memory + (CgroupFile.Number(folder, "memory.memsw.failcnt") ?? 0) : null,
                AtSwapLimit = CgroupFile.Number(folder, "memory.memsw.max_usage_in_bytes") >= CgroupFile.Number(folder, "memory.memsw.limit_in_bytes"),
            };
        }

        var within = CgroupFile.Pairs(folder, "memory.events");
        return new MemoryReading
        {
            DiesWhole = CgroupFile.Number(folder, "memory.oom.group") is { } group ? group == 1 : null,
            LimitHits = Find(CgroupFile.Pairs(folder, "memory.events.local"), "oom"),
            HitsWithin = Find(within, "oom"),
            GroupKills = Find(within, "oom_group_kill"),
            Limit = Limited(CgroupFile.Number(folder, "memory.max")),
            Peak = CgroupFile.Number(folder, "memory.peak"),
        };
    }

    /// <summary>
    /// Whose limit a kill was for, by which limit was hit since the last kill. v1 counts also hits that reclaim could help, so there the
    /// innermost of several is taken.
    /// </summary>
    /// <param name="before">The container's cgroup, as it was before the kill.</param>
    /// <param name="container">The container's cgroup, as far as it could be read.</param>
    /// <param name="podBefore">The pod's, as it was before the kill.</param>
    /// <param name="pod">The pod's.</param>
    /// <returns>Null when too much of the cgroups was gone to tell.</returns>
    public static KillLevel? Level(MemoryReading before, MemoryReading container, MemoryReading podBefore, MemoryReading pod) =>
        IsHit(before, container) || (container.LimitHits is null && IsFull(container)) ? KillLevel.Container
        : IsHit(podBefore, pod) ? KillLevel.Pod
        : pod.LimitHits is null ? null
        : container.LimitHits is not null ? KillLevel.Node
        : pod.HitsWithin is null ? null // v1
        : pod.HitsWithin > (podBefore.HitsWithin ?? 0) ? KillLevel.Container // that of a cgroup in the pod
        : KillLevel.Node;

    /// <summary>Whether a limit has been hit since.</summary>
    public static bool IsHit(MemoryReading before, MemoryReading reading) =>
        reading.Limit is not null && (reading.LimitHits > (before.LimitHits ?? 0) || reading.AtSwapLimit);

    /// <summary>Whether a cgroup's own limit has been hit, and never that of a cgroup in it: so no kill in it was for such a one (v2, which counts both).</summary>
    public static bool OnlyItsOwnIsHit(MemoryReading reading) => reading.LimitHits > 0 && reading.HitsWithin == reading.LimitHits;

    /// <summary>Whether a cgroup in it was killed whole since; null where the kernel does not count that, or it is gone.</summary>
    public static bool? IsGroupKilled(MemoryReading before, MemoryReading reading) => reading.GroupKills is { } kills ? kills > (before.GroupKills ?? 0) : null;

    /// <summary>Whether processes are left in it that are not dying already.</summary>
    /// <param name="folder">Its files.</param>
    /// <param name="unified">Whether it is v2.</param>
    /// <param name="processes">The node's /proc; null when its process ids are not ours to see.</param>
    public static bool Lives(string folder, bool unified, string? processes)
    {
        if (processes is not null)
        {
            return AnyLives(folder, processes);
        }

        return unified ? CgroupFile.Pairs(folder, "cgroup.events").TryGetValue("populated", out var populated) && populated > 0
            : CgroupFile.Number(PidsFolder(folder), "pids.current") is { } count ? count > 0 // also those that have ended, until somebody has waited for them
            : CgroupFile.Numbers(folder, "cgroup.procs").Count > 0;
    }

    /// <summary>A large process takes its time to go; one that has ended, and for which nobody has waited yet, is in no cgroup's list.</summary>
    private static bool AnyLives(string folder, string processes) =>
        CgroupFile.Numbers(folder, "cgroup.procs").Any(pid => pid == 0 || !IsDying(processes, pid))
        || CgroupFile.Below(folder).Any(below => AnyLives(below, processes));

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

    private static ulong? Find(IReadOnlyDictionary<string, ulong> pairs, string key) => pairs.TryGetValue(key, out var value) ? value : null;

    private static ulong? Limited(ulong? limit) => limit >= NoLimit ? null : limit;
}
