using Microsoft.Extensions.Logging;
using Skiff.Linux;
using Skiff.Linux.Cgroups;
using Skiff.Linux.Files;

namespace Skiff.Operator.OomEvents;

/// <summary>Processes that the kernel killed in a pod's cgroup since the last look.</summary>
/// <param name="PodUid">The pod, by the name of its cgroup.</param>
/// <param name="ContainerId">The container; null when its cgroup was gone before it could be read, and only the pod's count is left.</param>
/// <param name="Processes">How many.</param>
/// <param name="Level">Whose limit it was for; null when that is not known.</param>
/// <param name="At">When it was seen.</param>
internal sealed record Sighting(string PodUid, string? ContainerId, int Processes, KillLevel? Level, DateTimeOffset At)
{
    /// <summary>Whether the container's cgroup was gone before the kill was seen: it died, and they may be its processes or its children's.</summary>
    public bool Gone { get; init; }

    /// <summary>The container's cgroup, as it was then.</summary>
    public MemoryReading Container { get; init; } = new();

    /// <summary>The pod's.</summary>
    public MemoryReading Pod { get; init; } = new();

    /// <summary>The kernel's count in the container, with these; null where there is none.</summary>
    public ulong? CountedInContainer { get; init; }

    /// <summary>What has been told of in the pod, with these.</summary>
    public ulong CountedInPod { get; init; }
}

/// <summary>What has been counted of a cgroup before, by an agent that is no more.</summary>
internal interface IKillBaseline
{
    /// <summary>Whether somebody watched before, on this boot of the node: what he did not count is news then.</summary>
    public bool Resumes { get; }

    /// <summary>How many kills of a container's or a pod's cgroup (by id or uid) are known; null when none are.</summary>
    public ulong? Counted(string cgroup);

    /// <summary>Takes as known what is no news: it was counted before anybody watched, or belongs to a kill that was told.</summary>
    public void Assume(string cgroup, string podUid, ulong count);
}

/// <summary>
/// Watches the memory cgroups of the node's pods and of their containers, whatever runtime made them: each kill is seen once, by the
/// kernel's own count.
/// </summary>
/// <remarks>
/// <para>What is there is found by looking; inotify only says where to look again, and every <see cref="_resync"/> all is looked at.</para>
/// <para>A container's cgroup may be removed before its count could be read: systemd removes an empty scope at once. On v2 the pod's count
/// still has the kill: what is too much there belongs to a container that has just gone. If it may be one of several, or one that was not seen
/// yet, it is compared again a little later. On v1 counts do not add up; there the kernel's log, containerd's event or the pod's status tells of it.</para>
/// <para>Whose limit it was shows by whose hits have risen since the kills before. A look may show hits of kills that are not counted yet: the pod's
/// are those of all its containers, and when two of them are killed before the first is looked at, that look shows the hits of both. So hits
/// that were seen are old only <see cref="_together"/> later. And a process that is dying may go on hitting the limit (v1): <see cref="_podSettles"/>
/// after a kill it is looked at again.</para>
/// </remarks>
internal sealed partial class CgroupWatch : IDisposable
{
    private static readonly TimeSpan _resync = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan _firstLook = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan _poll = TimeSpan.FromMilliseconds(200);
    private static readonly TimeSpan _youngPoll = TimeSpan.FromMilliseconds(20);
    private static readonly TimeSpan _young = TimeSpan.FromSeconds(3);
    private static readonly TimeSpan _podSettles = TimeSpan.FromMilliseconds(400);
    private static readonly TimeSpan _justGone = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan _together = TimeSpan.FromSeconds(2);

    // An OCI runtime makes the cgroup first and sets its limits then.
    private static readonly TimeSpan[] _limitsAreSet = [TimeSpan.FromMilliseconds(50), TimeSpan.FromMilliseconds(250), TimeSpan.FromSeconds(1)];

    // Below the root of the hierarchy; a node that is itself a container has the kubelet's a little lower.
    private const int RootDepth = 3;

    // More than any kubelet allows; whatever makes that many folders must not use up the agent's descriptors.
    private const int MostPods = 4096;
    private const int MostContainers = 512;

    private readonly Lock _lock = new();
    private readonly Dictionary<string, Pod> _pods = []; // by folder
    private readonly Dictionary<string, Container> _containers = []; // by id
    private readonly string _memory;
    private readonly bool _unified;
    private readonly string? _processes;
    private readonly IKillBaseline _baseline;
    private readonly Action<Sighting> _seen;
    private readonly ILogger _logger;
    private readonly TimeProvider _time;
    private CancellationToken _stop;
    private volatile bool _firstScanIsOver;
    private bool _polls;

    /// <summary>Prepares it.</summary>
    /// <param name="cgroups">The node's /sys/fs/cgroup as this process sees it.</param>
    /// <param name="processes">The node's /proc, when this process is in its pid namespace; else null.</param>
    /// <param name="baseline">What is known already.</param>
    /// <param name="seen">Called for each sighting, one at a time; must be quick.</param>
    /// <param name="logger">Hears of what cannot be watched.</param>
    /// <param name="time">The clock.</param>
    public CgroupWatch(string cgroups, string? processes, IKillBaseline baseline, Action<Sighting> seen, ILogger logger, TimeProvider time)
    {
        _unified = File.Exists(Path.Combine(cgroups, "cgroup.controllers"));
        _memory = _unified ? cgroups : Path.Combine(cgroups, "memory");
        _processes = processes;
        _baseline = baseline;
        _seen = seen;
        _logger = logger;
        _time = time;
    }

    /// <summary>Why nothing can be watched; null when all is well.</summary>
    public string? Problem => Directory.Exists(_memory) ? null : $"there is no {_memory}: the node's cgroup tree is not where it was said to be, or has no memory controller";

    /// <summary>Whether it has seen what was there when it began; what is killed from now on is news in any case.</summary>
    public bool Watches => _firstScanIsOver && Problem is null;

    /// <summary>The containers that are watched.</summary>
    public int Watched
    {
        get
        {
            lock (_lock)
            {
                return _containers.Count;
            }
        }
    }

    /// <summary>Watches until cancelled.</summary>
    public async Task RunAsync(CancellationToken cancellation)
    {
        _stop = cancellation;
        using var folders = OpenWatch();
        var polling = Task.CompletedTask;
        var roots = 0;
        IReadOnlySet<string>? changed = null;
        try
        {
            while (true)
            {
                roots = changed is null ? Scan(folders) : Scan(folders, changed, roots);
                _firstScanIsOver = true;
                if (_polls && polling.IsCompleted)
                {
                    polling = PollAsync(cancellation);
                }

                using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
                limit.CancelAfter(roots > 0 && folders is not null ? _resync : _firstLook);
                try
                {
                    changed = null;
                    changed = folders is not null && roots > 0 ? await folders.ChangedAsync(limit.Token).ConfigureAwait(false) : await NeverAsync(limit.Token).ConfigureAwait(false);
                }
                catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
                {
                    // Time to look at all.
                }
            }
        }
        finally
        {
            await polling.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    /// <summary>Reads a container's count now, because somebody else says that something happened to it.</summary>
    /// <returns>Whether the container's cgroup is there to be read.</returns>
    public bool CheckNow(string containerId)
    {
        lock (_lock)
        {
            return _containers.TryGetValue(containerId, out var container) && Check(container).There;
        }
    }

    /// <summary>Whether processes of a container are left that are not dying already; false also for one whose cgroup is gone.</summary>
    public bool Lives(string containerId)
    {
        string? folder;
        lock (_lock)
        {
            folder = _containers.GetValueOrDefault(containerId)?.Folder;
        }

        return folder is not null && MemoryCgroup.Lives(folder, _unified, _processes);
    }

    /// <summary>
    /// Whose limit a container was killed for that is gone, when somebody heard the kernel say that memory had run out for its cgroup: it says so
    /// for the limit of the cgroup and of those above, not for the machine's own want (memory.txt, "OOM Control").
    /// </summary>
    /// <param name="podUid">Its pod.</param>
    /// <param name="justNow">Whether it was within the last moments; else the pod's hits may be those of other kills.</param>
    /// <returns>The level, null when it may be several; and what could be read of the pod's cgroup.</returns>
    public (KillLevel? Level, MemoryReading Pod) LevelOfGone(string podUid, bool justNow)
    {
        lock (_lock)
        {
            if (_pods.Values.FirstOrDefault(p => p.Uid == podUid) is not { } pod || MemoryCgroup.Read(pod.Folder, _unified) is not { LimitHits: not null } reading)
            {
                return (null, new());
            }

            var now = _time.GetUtcNow();
            var hit = MemoryCgroup.IsHit(pod.Before(now), reading);
            pod.Looked(reading, now);

            // Two containers that are killed in one moment: both hits may have been taken for the first's.
            if (justNow && (hit || MemoryCgroup.OnlyItsOwnIsHit(reading)))
            {
                return (KillLevel.Pod, reading);
            }

            if (!justNow && reading.LimitHits > 0)
            {
                return (null, reading);
            }

            for (var above = Path.GetDirectoryName(pod.Folder); above is not null && above.Length > _memory.Length; above = Path.GetDirectoryName(above))
            {
                if (MemoryCgroup.Read(above, _unified) is not { LimitHits: 0 })
                {
                    return (null, reading);
                }
            }

            // v2 counts what was hit within, and also a container that was killed for the machine's want may be called killed for memory there.
            return (reading.HitsWithin == 0 ? null : KillLevel.Container, reading);
        }
    }

    /// <summary>Whether the kernel gives notice that memory has run out to each cgroup below the limit that was reached, not only to that of the victim (v1).</summary>
    public bool NeighboursAreTold => !_unified;

    /// <summary>How long after the end of a container its kill may still be counted: in the pod's count, where that has those of its containers.</summary>
    public TimeSpan CountsCome => _unified ? 2 * _podSettles : TimeSpan.Zero;

    /// <summary>Whether a pod has a cgroup.</summary>
    public bool HasPod(string uid)
    {
        lock (_lock)
        {
            return _pods.Values.Any(p => p.Uid == uid);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        lock (_lock)
        {
            foreach (var pod in _pods.Values)
            {
                pod.Dispose();
            }

            foreach (var container in _containers.Values)
            {
                container.Dispose();
            }

            _pods.Clear();
            _containers.Clear();
        }
    }

    private static async Task<IReadOnlySet<string>?> NeverAsync(CancellationToken cancellation)
    {
        await Task.Delay(Timeout.Infinite, cancellation).ConfigureAwait(false);
        return null;
    }

    private FolderWatch? OpenWatch()
    {
        try
        {
            return FolderWatch.Open();
        }
        catch (LinuxException e)
        {
            Log.NoInotify(_logger, e.Message, _firstLook);
            return null;
        }
    }

    /// <summary>Looks at the whole tree: a few hundred folders, of which all but the new ones are known.</summary>
    /// <returns>How many roots of pods there are.</returns>
    private int Scan(FolderWatch? folders)
    {
        lock (_lock)
        {
            HashSet<string> pods = [];
            HashSet<string> containers = [];
            var roots = FindRoots(_memory, RootDepth).ToList();
            foreach (var root in roots)
            {
                foreach (var parent in CgroupFile.Below(Watch(folders, root)).Where(f => PodCgroupName.IsClass(Path.GetFileName(f))).Prepend(root).ToList())
                {
                    foreach (var folder in CgroupFile.Below(parent == root ? root : Watch(folders, parent)))
                    {
                        if (PodCgroupName.PodUid(Path.GetFileName(folder)) is { } uid && pods.Count < MostPods && pods.Add(folder))
                        {
                            ScanPod(folders, folder, uid, containers);
                        }
                    }
                }
            }

            foreach (var gone in _containers.Values.Where(c => !containers.Contains(c.Id)).ToList())
            {
                Remove(gone);
            }

            foreach (var gone in _pods.Where(p => !pods.Contains(p.Key)).ToList())
            {
                _ = _pods.Remove(gone.Key);
                gone.Value.Dispose();
            }

            return roots.Count;
        }
    }

    /// <summary>Looks where something was made or removed.</summary>
    private int Scan(FolderWatch? folders, IReadOnlySet<string> changed, int roots)
    {
        lock (_lock)
        {
            if (changed.Any(f => !_pods.ContainsKey(f)))
            {
                return Scan(folders);
            }

            foreach (var pod in changed.Select(f => _pods[f]).ToList())
            {
                HashSet<string> containers = [];
                ScanPod(folders, pod.Folder, pod.Uid, containers);
                foreach (var gone in _containers.Values.Where(c => c.Pod == pod && !containers.Contains(c.Id)).ToList())
                {
                    Remove(gone);
                }
            }

            return roots;
        }
    }

    private void ScanPod(FolderWatch? folders, string folder, string uid, HashSet<string> seen)
    {
        // Watched first and read then: what is made in between is in both.
        _ = Watch(folders, folder);
        if (!_pods.TryGetValue(folder, out var pod))
        {
            var counter = _unified ? OomKillCounter.Open(folder, unified: true, withAbove: false, mustTell: false).Counter : null;
            var count = counter?.Read(out _) ?? 0;
            var reading = MemoryCgroup.Read(folder, _unified);
            var known = Known(uid, uid, count);
            pod = new Pod(uid, folder, counter) { Counted = known, CountedGroups = known > 0 ? reading.GroupKills ?? 0 : 0 };
            Begin(pod, count > known, reading);
            _pods[folder] = pod;
            if (counter is not null)
            {
                Follow(pod, counter);
            }
        }

        var many = 0;
        foreach (var path in CgroupFile.Below(folder))
        {
            if (PodCgroupName.ContainerId(Path.GetFileName(path)) is { } id && many++ < MostContainers)
            {
                _ = seen.Add(id);
                if (!_containers.ContainsKey(id))
                {
                    Add(pod, id, path);
                }
            }
        }
    }

    private void Add(Pod pod, string id, string folder)
    {
        var (counter, problem) = OomKillCounter.Open(folder, _unified, withAbove: false, mustTell: false);
        if (counter is null)
        {
            if (Directory.Exists(folder))
            {
                Log.NotWatched(_logger, id, problem!);
            }

            return;
        }

        var count = counter.Read(out _) ?? 0;
        var reading = MemoryCgroup.Read(folder, _unified);
        var known = Known(id, pod.Uid, count);
        var container = new Container(id, pod, folder, counter) { Counted = known, Reading = reading, Reported = known > 0 };
        Begin(container, count > known, reading);
        _containers[id] = container;
        if (_firstScanIsOver)
        {
            _ = GuardAsync(id, () => ReadLimitsAsync(container));
        }

        if (counter.Tells)
        {
            Follow(container);
        }
        else
        {
            _polls = true;
            if (_firstScanIsOver)
            {
                _ = GuardAsync(id, () => PollYoungAsync(container));
            }
        }
    }

    /// <summary>Reads its limits when they are set, for the case that it is gone when they are wanted.</summary>
    private async Task ReadLimitsAsync(Container container)
    {
        foreach (var pause in _limitsAreSet)
        {
            await Task.Delay(pause, _time, _stop).ConfigureAwait(false);
            lock (_lock)
            {
                container.Reading = MemoryCgroup.Read(container.Folder, _unified).Over(container.Reading);
            }
        }
    }

    /// <summary>How many kills of a cgroup that is new to us are no news: those that were counted before, or all when nobody watched before.</summary>
    private ulong Known(string cgroup, string podUid, ulong count)
    {
        if (_baseline.Counted(cgroup) is { } counted)
        {
            return counted;
        }

        if (_firstScanIsOver || _baseline.Resumes || count == 0)
        {
            return 0;
        }

        _baseline.Assume(cgroup, podUid, count);
        return count;
    }

    /// <summary>What was counted before those kills. One that was just made may have hit its limit already, for the kill that is to come.</summary>
    private void Begin(Followed cgroup, bool killed, MemoryReading reading)
    {
        if (!killed && !_firstScanIsOver)
        {
            cgroup.Looked(reading, DateTimeOffset.MinValue);
        }
    }

    private void Follow(Container container) => _ = GuardAsync(container.Id, async () =>
    {
        await container.Counter.FollowAsync(
            () =>
            {
                lock (_lock)
                {
                    return Check(container);
                }
            },
            _time,
            container.StopWith(_stop)).ConfigureAwait(false);
        lock (_lock)
        {
            Remove(container);
        }
    });

    private void Follow(Pod pod, OomKillCounter counter) => _ = GuardAsync(pod.Uid, () => counter.FollowAsync(
        () =>
        {
            lock (_lock)
            {
                var count = pod.Count();
                if (!pod.Settles && !Settle(pod, count, isLast: false))
                {
                    pod.Settles = true;
                    _ = GuardAsync(pod.Uid, () => SettleAsync(pod));
                }

                return (count is not null, false);
            }
        },
        _time,
        pod.StopWith(_stop)));

    private async Task GuardAsync(string name, Func<Task> work)
    {
        try
        {
            await Task.Yield();
            await work().ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            // The agent stops.
        }
        catch (ObjectDisposedException)
        {
            // Its cgroup was removed.
        }
        catch (LinuxException e)
        {
            Log.NotWatched(_logger, name, e.Message);
        }
    }

    /// <summary>Looks again when others have had their turn: a container that is new may not have been looked at yet.</summary>
    private async Task SettleAsync(Pod pod)
    {
        await Task.Delay(_podSettles, _time, _stop).ConfigureAwait(false);
        lock (_lock)
        {
            pod.Settles = false;
            _ = Settle(pod, pod.Count(), isLast: true);
        }
    }

    /// <summary>Finds what the pod's count has and no container's had.</summary>
    /// <param name="pod">The pod.</param>
    /// <param name="counted">Its count, as it is now.</param>
    /// <param name="isLast">Whether to tell of it even if it is not clear whose it was.</param>
    /// <returns>Whether all has been told.</returns>
    private bool Settle(Pod pod, ulong? counted, bool isLast)
    {
        // The pod's first: what is counted there was counted for the container before, so all that is still there have it.
        if (counted is not { } count || count <= pod.Counted)
        {
            return true;
        }

        foreach (var container in _containers.Values.Where(c => c.Pod == pod).ToList())
        {
            _ = CheckOrRemove(container);
        }

        if (count <= pod.Counted)
        {
            return true;
        }

        var now = _time.GetUtcNow();
        var gone = pod.Gone.Where(g => now - g.At < _justGone).Select(g => g.Container).ToList();
        var unreported = gone.Where(g => !g.Reported).ToList();
        var isClear = unreported.Count == 1 && CgroupFile.Below(pod.Folder).All(f => PodCgroupName.ContainerId(Path.GetFileName(f)) is not { } id || _containers.ContainsKey(id));
        if (!isClear && !isLast)
        {
            return false;
        }

        var missing = (int)(count - pod.Counted);
        pod.Counted = count;
        var reading = MemoryCgroup.Read(pod.Folder, _unified);
        var before = pod.Before(now);
        pod.Looked(reading, now);
        var groups = (reading.GroupKills ?? 0) > pod.CountedGroups ? (int)(reading.GroupKills!.Value - pod.CountedGroups) : 0;
        pod.CountedGroups = Math.Max(pod.CountedGroups, reading.GroupKills ?? 0);
        if (groups == 0 && gone.Any(g => g is { Reported: true, Reading.DiesWhole: true }))
        {
            // The rest of those that died together. (Not of the sandbox, which goes right after.)
            _baseline.Assume(pod.Uid, pod.Uid, count);
            return true;
        }

        // The kubelet treats all containers alike, where the kernel does not count whole ones.
        var whole = MemoryCgroup.IsGroupKilled(before, reading) ?? _containers.Values.Where(c => c.Pod == pod).Concat(gone).Any(c => c.Reading.DiesWhole == true);
        var candidates = unreported.Count > 0 ? unreported : gone;
        if (candidates.Count == 0 || candidates.Count > Math.Max(groups, 1))
        {
            _seen(new Sighting(pod.Uid, null, missing, MemoryCgroup.Level(new(), new(), before, reading), now)
            {
                Gone = true,
                Container = new MemoryReading { DiesWhole = whole },
                Pod = reading,
                CountedInPod = count,
            });
            return true;
        }

        foreach (var one in candidates)
        {
            one.Reported = true;
            one.Reading = new MemoryReading { DiesWhole = whole }.Over(one.Reading);
            _seen(new Sighting(pod.Uid, one.Id, missing, MemoryCgroup.Level(one.Before(now), one.Reading, before, reading), now)
            {
                Gone = true,
                Container = one.Reading,
                Pod = reading,
                CountedInPod = count,
            });
        }

        return true;
    }

    /// <returns>Whether it is still there.</returns>
    private bool CheckOrRemove(Container container)
    {
        var there = Check(container).There;
        if (!there)
        {
            Remove(container);
        }

        return there;
    }

    private async Task PollAsync(CancellationToken cancellation)
    {
        using var timer = new PeriodicTimer(_poll, _time);
        while (await timer.WaitForNextTickAsync(cancellation).ConfigureAwait(false))
        {
            lock (_lock)
            {
                foreach (var container in _containers.Values.Where(c => !c.Counter.Tells).ToList())
                {
                    _ = CheckOrRemove(container);
                }
            }
        }
    }

    /// <summary>
    /// Looks more often at a container that was just made: for one that is killed right after its start nobody else may tell of it, because
    /// containerd's shim asks the kernel for notices only then.
    /// </summary>
    private async Task PollYoungAsync(Container container)
    {
        for (var age = TimeSpan.Zero; age < _young; age += _youngPoll)
        {
            await Task.Delay(_youngPoll, _time, _stop).ConfigureAwait(false);
            lock (_lock)
            {
                if (!CheckOrRemove(container))
                {
                    return;
                }
            }
        }
    }

    private (bool There, bool Waits) Check(Container container)
    {
        if (container.Counter.Read(out var waits) is not { } count)
        {
            return (false, false);
        }

        if (count > container.Counted)
        {
            var processes = (int)(count - container.Counted);
            container.Counted = count;
            container.Pod.Counted += (ulong)processes;

            var now = _time.GetUtcNow();
            var reading = MemoryCgroup.Read(container.Folder, _unified);
            var pod = MemoryCgroup.Read(container.Pod.Folder, _unified);
            var podBefore = container.Pod.Before(now);
            var level = MemoryCgroup.Level(container.Before(now), reading.Over(container.Reading), podBefore, pod);
            if (reading.DiesWhole is null && MemoryCgroup.IsGroupKilled(podBefore, pod) == true)
            {
                // It is gone, and what it was last read to be may be from before its runtime had set it up.
                reading = reading with { DiesWhole = true };
            }

            container.Reading = reading.Over(container.Reading);
            container.Looked(reading, now);
            container.Pod.Looked(pod, now);
            container.Pod.CountedGroups += container is { Reported: false, Reading.DiesWhole: true } ? 1UL : 0;
            container.Reported = true;
            _seen(new Sighting(container.Pod.Uid, container.Id, processes, level, now)
            {
                Container = container.Reading,
                Pod = pod,
                CountedInContainer = count,
                CountedInPod = container.Pod.Counted,
            });
            if (!container.IsLookedAtAgain)
            {
                container.IsLookedAtAgain = true;
                _ = GuardAsync(container.Id, () => LookAgainAsync(container));
            }
        }

        return (true, waits);
    }

    /// <summary>Notes what was hit after a kill by what was dying of it.</summary>
    private async Task LookAgainAsync(Container container)
    {
        await Task.Delay(_podSettles, _time, _stop).ConfigureAwait(false);
        lock (_lock)
        {
            container.IsLookedAtAgain = false;
            var now = _time.GetUtcNow();
            container.Looked(MemoryCgroup.Read(container.Folder, _unified), now);
            container.Pod.Looked(MemoryCgroup.Read(container.Pod.Folder, _unified), now);
        }
    }

    private void Remove(Container container)
    {
        if (_containers.TryGetValue(container.Id, out var known) && known == container)
        {
            _ = Check(container);
            _ = _containers.Remove(container.Id);
            container.Dispose();
            var now = _time.GetUtcNow();
            _ = container.Pod.Gone.RemoveAll(g => now - g.At > _justGone);

            // What is gone is counted for its pod. If all of that is told, this one is not among those of which a later kill may have been.
            if (container.Reported || container.Pod.Count() > container.Pod.Counted)
            {
                container.Pod.Gone.Add((container, now));
            }
        }
    }

    private string Watch(FolderWatch? folders, string folder)
    {
        try
        {
            _ = folders?.Add(folder);
        }
        catch (LinuxException e)
        {
            Log.NotWatched(_logger, folder, e.Message); // the next look at all finds what is new in it
        }

        return folder;
    }

    private static IEnumerable<string> FindRoots(string folder, int depth)
    {
        foreach (var child in CgroupFile.Below(folder))
        {
            var name = Path.GetFileName(child);
            if (PodCgroupName.IsRoot(name))
            {
                yield return child;
            }
            else if (depth == RootDepth || (depth > 1 && name.StartsWith("kubelet", StringComparison.Ordinal)))
            {
                foreach (var below in FindRoots(child, depth - 1))
                {
                    yield return below;
                }
            }
        }
    }

    private abstract class Followed(string folder) : IDisposable
    {
        private readonly CancellationTokenSource _end = new();
        private readonly List<(MemoryReading Reading, DateTimeOffset At)> _looks = [(new(), DateTimeOffset.MinValue)];
        private CancellationTokenSource? _both;

        public string Folder => folder;

        /// <summary>How many kills have been told of.</summary>
        public ulong Counted { get; set; }

        /// <summary>What it was before a kill that is seen now, and before all kills of the last moments.</summary>
        public MemoryReading Before(DateTimeOffset now)
        {
            _looks.RemoveRange(0, Math.Max(0, _looks.FindLastIndex(l => l.At <= now - _together)));
            return _looks[0].Reading;
        }

        /// <summary>Notes what a look has shown, if it was there to be seen.</summary>
        public void Looked(MemoryReading reading, DateTimeOffset now)
        {
            if (reading.LimitHits is not null)
            {
                _looks.Add((reading, now));
            }
        }

        public CancellationToken StopWith(CancellationToken other) => (_both = CancellationTokenSource.CreateLinkedTokenSource(_end.Token, other)).Token;

        /// <summary>Ends its waits, and closes its files.</summary>
        public virtual void Dispose()
        {
            _end.Cancel();
            _both?.Dispose();
            _end.Dispose();
            GC.SuppressFinalize(this);
        }
    }

    /// <summary>Its counts are those of all its containers.</summary>
    private sealed class Pod(string uid, string folder, OomKillCounter? counter) : Followed(folder)
    {
        public string Uid => uid;

        public bool Settles { get; set; }

        /// <summary>How many containers that were killed whole have been told of.</summary>
        public ulong CountedGroups { get; set; }

        /// <summary>Containers that have just gone, and that were killed or may have been.</summary>
        public List<(Container Container, DateTimeOffset At)> Gone { get; } = [];

        /// <summary>The kernel's count; null on v1, and when the pod is gone.</summary>
        public ulong? Count() => counter?.Read(out _);

        public override void Dispose()
        {
            base.Dispose();
            counter?.Dispose();
        }
    }

    private sealed class Container(string id, Pod pod, string folder, OomKillCounter counter) : Followed(folder)
    {
        public string Id => id;

        public Pod Pod => pod;

        public OomKillCounter Counter => counter;

        public MemoryReading Reading { get; set; } = new();

        /// <summary>Whether a kill of it has been told of.</summary>
        public bool Reported { get; set; }

        public bool IsLookedAtAgain { get; set; }

        public override void Dispose()
        {
            base.Dispose();
            counter.Dispose();
        }
    }

    private static partial class Log
    {
        [LoggerMessage(240, LogLevel.Warning, "a cgroup is not watched for memory kills: name={Name} error={Error}")]
        public static partial void NotWatched(ILogger logger, string name, string error);

        [LoggerMessage(241, LogLevel.Warning, "new cgroups are looked for instead of being told of: error={Error} period={Period}")]
        public static partial void NoInotify(ILogger logger, string error, TimeSpan period);
    }
}
