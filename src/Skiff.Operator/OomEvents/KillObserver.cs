using Microsoft.Extensions.Logging;
using Skiff.Containerd.Containers;
using Skiff.Operator.Api;

namespace Skiff.Operator.OomEvents;

/// <summary>
/// Makes one kill of what the sources say. The kernel's counts (<see cref="CgroupWatch"/>) are the truth where they can be read; where a cgroup
/// was gone too soon, or nobody watched, others stand in for them: what containerd or the pod's status says of a container that was killed,
/// together with somebody's word that it was for memory (the kernel's log, the status, containerd's event before the exit or after it).
/// </summary>
internal sealed partial class KillObserver
{
    /// <summary>What a first process exits with that was killed.</summary>
    private const int Killed = 137;

    private const string OomKilled = "OOMKilled"; // the reason that the kubelet gives

    // Whether the container dies of it shows in this time.
    private static readonly TimeSpan[] _looks = [.. new[] { 5, 10, 15, 20, 50, 50, 50, 50, 50 }.Select(m => TimeSpan.FromMilliseconds(m))];
    private static readonly TimeSpan _othersTurn = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan _namePatience = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan _noted = TimeSpan.FromMinutes(1);

    private const int MostNoted = 1000;

    private readonly Lock _lock = new();
    private readonly Dictionary<string, Sighting> _settling = []; // by container
    private readonly HashSet<string> _exited = []; // of those that settle
    private readonly HashSet<string> _counted = []; // those that have settled, until the ledger has them
    private readonly Dictionary<string, DateTimeOffset> _told = []; // containers for which memory has run out
    private readonly Dictionary<string, DateTimeOffset> _killed = []; // containers that were killed, and nobody knows why yet
    private readonly HashSet<string> _looking = []; // containers of which a status says so
    private readonly HashSet<(string Id, string? Reason)> _others = []; // containers with a status that is no memory kill of theirs; it may become another yet
    private readonly Dictionary<string, int> _byOthers = []; // kills by pod that were not taken from counts
    private readonly HashSet<Task> _working = [];
    private readonly CgroupWatch _watch;
    private readonly KillLedger _ledger;
    private readonly PodDirectory _directory;
    private readonly KernelLog? _kernel;
    private readonly ContainerCounts _counts;
    private readonly ContainerCounts _incidents;
    private readonly ILogger _logger;
    private readonly TimeProvider _time;
    private readonly CancellationToken _stop;

    /// <summary>Prepares it.</summary>
    /// <param name="watch">The counts.</param>
    /// <param name="ledger">Takes the kills.</param>
    /// <param name="directory">Knows whose a container is.</param>
    /// <param name="kernel">Knows the victims; null when it is not ours to read.</param>
    /// <param name="counts">Counts the kills.</param>
    /// <param name="incidents">Counts what runners say of their guests.</param>
    /// <param name="logger">Hears of each kill.</param>
    /// <param name="time">The clock.</param>
    /// <param name="stop">Ends what is under way.</param>
    public KillObserver(
        Func<KillObserver, CgroupWatch> watch, KillLedger ledger, PodDirectory directory, KernelLog? kernel, ContainerCounts counts, ContainerCounts incidents, ILogger logger, TimeProvider time, CancellationToken stop)
    {
        _ledger = ledger;
        _directory = directory;
        _kernel = kernel;
        _counts = counts;
        _incidents = incidents;
        _logger = logger;
        _time = time;
        _stop = stop;
        _watch = watch(this);
    }

    /// <summary>The watch that it looks at.</summary>
    public CgroupWatch Watch => _watch;

    /// <summary>Takes what the cgroups' counts say.</summary>
    public void Seen(Sighting sighting)
    {
        lock (_lock)
        {
            if (sighting.ContainerId is not { } id)
            {
                Start(() => SettleAsync(sighting));
                return;
            }

            // More of the same kill, or the next one at once.
            if (_settling.TryGetValue(id, out var before))
            {
                _settling[id] = sighting with { Processes = before.Processes + sighting.Processes, At = before.At, Level = before.Level ?? sighting.Level };
                return;
            }

            _settling[id] = sighting;
            Start(() => SettleAsync(id, sighting.PodUid));
        }
    }

    /// <summary>Takes what containerd says.</summary>
    public void Happened(ContainerEvent happened)
    {
        switch (happened)
        {
            case ContainerOom oom:
                // On v1 it comes before the kill, and to its neighbours too: what is counted at the exit decides, if that can be read.
                _ = _watch.CheckNow(oom.ContainerId);
                TakeHalf(oom.ContainerId, _told, _killed);
                break;
            case ContainerExit exit:
                var uncounted = !_watch.CheckNow(exit.ContainerId) && exit.ExitStatus == Killed;
                lock (_lock)
                {
                    _ = _settling.ContainsKey(exit.ContainerId) && _exited.Add(exit.ContainerId);
                    _ = !uncounted && _told.Remove(exit.ContainerId);
                }

                if (uncounted && _kernel?.Tells(exit.ContainerId, exit.Pid) == true)
                {
                    TakeUncounted(exit.ContainerId);
                }
                else if (uncounted)
                {
                    TakeHalf(exit.ContainerId, _killed, _told);
                }

                break;
            case GuestMemoryRefused refused:
                Start(() => TakeAsync(refused, (place, uid, at) => GuestIncident.Of(refused, place, uid, at)));
                break;
            case GuestTrapped trapped:
                Start(() => TakeAsync(trapped, (place, uid, at) => GuestIncident.Of(trapped, place, uid, at)));
                break;
            default:
                break;
        }
    }

    /// <summary>Takes what a pod's status says: of the time when nobody watched, and of cgroups that were gone too soon.</summary>
    public void Changed(Pod pod)
    {
        foreach (var ended in (pod.Status?.All ?? []).SelectMany(s => new[] { s.State?.Terminated, s.LastState?.Terminated }))
        {
            if (ended is not { ExitCode: Killed, ContainerId: { } name } || pod.KubeletUid is not { } uid
                || !(ended.FinishedAt > _ledger.Since) || name[(name.IndexOf("://", StringComparison.Ordinal) + 3)..] is not { Length: > 0 } id || _ledger.Knows(id)
                || IsAnothers(id, ended.Reason) || (ended.Reason != OomKilled && !IsKnownToTheKernel(id, ended.Reason)))
            {
                continue;
            }

            lock (_lock)
            {
                if (_looking.Add(id))
                {
                    Start(async () =>
                    {
                        await Task.Delay(_othersTurn, _time, _stop).ConfigureAwait(false);
                        await TakeAsync(id, uid).ConfigureAwait(false);
                        lock (_lock)
                        {
                            _ = _looking.Remove(id);
                        }
                    });
                }
            }
        }
    }

    /// <summary>Waits for what is under way.</summary>
    public async Task CompleteAsync()
    {
        List<Task> working;
        lock (_lock)
        {
            working = [.. _working];
        }

        await Task.WhenAll(working).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    /// <summary>Whether a container that was killed was so for memory, though its status does not say so: containerd's shim had heard of it too late, or not at all.</summary>
    private bool IsKnownToTheKernel(string id, string? reason)
    {
        var known = _kernel?.Tells(id, pid: null) == true;
        if (!known)
        {
            LeaveToOthers(id, reason);
        }

        return known;
    }

    private bool IsAnothers(string id, string? reason)
    {
        lock (_lock)
        {
            return _others.Contains((id, reason));
        }
    }

    /// <summary>A container that was killed, but not for its want of memory, is not looked at again with each change of its pod.</summary>
    private void LeaveToOthers(string id, string? reason)
    {
        lock (_lock)
        {
            if (_others.Count >= MostNoted)
            {
                _others.Clear(); // they are looked at again
            }

            _ = _others.Add((id, reason));
        }
    }

    /// <summary>Takes one half of a kill that was not counted: that a container was killed, or that memory had run out for it. With the other half it is a kill.</summary>
    /// <param name="id">The container.</param>
    /// <param name="half">Those of which this half is known; it is kept there for a while.</param>
    /// <param name="other">Those of which the other is.</param>
    private void TakeHalf(string id, Dictionary<string, DateTimeOffset> half, Dictionary<string, DateTimeOffset> other)
    {
        lock (_lock)
        {
            if (!other.Remove(id))
            {
                var now = _time.GetUtcNow();
                foreach (var old in half.Where(h => now - h.Value > _noted).Select(h => h.Key).ToList())
                {
                    _ = half.Remove(old);
                }

                if (half.Count < MostNoted)
                {
                    half[id] = now;
                }

                return;
            }
        }

        TakeUncounted(id);
    }

    private void TakeUncounted(string id) => Start(async () =>
    {
        await Task.Delay(_watch.CountsCome, _time, _stop).ConfigureAwait(false);
        await TakeAsync(id, null).ConfigureAwait(false);
    });

    /// <summary>Waits until it shows whether the container dies, and takes all that was killed meanwhile as one.</summary>
    private async Task SettleAsync(string id, string pod)
    {
        var finding = _directory.FindAsync(pod, id, _namePatience, _stop);
        var died = false;
        for (var look = 0; !died && look < _looks.Length; look++)
        {
            await Task.Delay(_looks[look], _time, _stop).ConfigureAwait(false);
            lock (_lock)
            {
                died = _exited.Contains(id);
            }

            died |= !_watch.Lives(id);
        }

        Sighting seen;
        lock (_lock)
        {
            _ = _exited.Remove(id);
            _ = _settling.Remove(id, out seen!);
            _ = _told.Remove(id);
            _ = _counted.Add(id);
        }

        try
        {
            var whole = seen.Container.DiesWhole == true;
            var victims = _kernel?.TakeOf(id) ?? [];
            await TakeAsync(seen, id, finding, whole || seen.Gone ? 1 : seen.Processes, died || whole, victims).ConfigureAwait(false);
        }
        finally
        {
            lock (_lock)
            {
                _ = _counted.Remove(id);
            }
        }
    }

    /// <summary>Takes kills in a pod of which nobody knows the container, unless others have told of them.</summary>
    private async Task SettleAsync(Sighting seen)
    {
        var kills = seen.Container.DiesWhole == true ? 1 : seen.Processes;
        for (var waited = TimeSpan.Zero; kills > 0 && waited < _namePatience; waited += _othersTurn)
        {
            await Task.Delay(_othersTurn, _time, _stop).ConfigureAwait(false);
            lock (_lock)
            {
                kills -= _byOthers.GetValueOrDefault(seen.PodUid);
                _ = _byOthers.Remove(seen.PodUid);
            }
        }

        if (kills <= 0)
        {
            _ledger.Count(seen);
            return;
        }

        await TakeAsync(seen, null, _directory.FindAsync(seen.PodUid, null, _namePatience, _stop), kills, died: true, []).ConfigureAwait(false);
    }

    private async Task TakeAsync(Sighting seen, string? containerId, Task<KillPlace?> finding, int count, bool died, IReadOnlyList<Victim> victims)
    {
        if (await finding.ConfigureAwait(false) is not { } place)
        {
            Log.Nobodys(_logger, seen.PodUid, containerId);
            _ledger.Count(seen);
            return;
        }

        Take(
            new OomKill
            {
                PodUid = seen.PodUid,
                ContainerId = containerId,
                Place = place,
                Count = count,
                Processes = seen.Processes,
                Level = seen.Level,
                Died = died,
                Container = seen.Container,
                Pod = seen.Pod,
                At = seen.At,
            },
            victims,
            seen);
    }

    /// <summary>Says whose limit it was by all that is known: the kernel's log, which is certain, and the manifest where the cgroups could not be read any more.</summary>
    private static OomKill Attribute(OomKill kill, IReadOnlyList<Victim> victims)
    {
        var place = kill.Place;
        var level = victims is [{ Level: { } known }, ..] ? known : kill.Level;
        var container = kill.Container with { Limit = kill.Container.Limit ?? place.Limit };
        var pod = kill.Pod with { Limit = kill.Pod.Limit ?? place.PodLimit };
        if (place.HasThePodsLimit)
        {
            if (level == KillLevel.Container)
            {
                // Its own cgroup has the pod's limit; the pod's has that and the overhead of the runtime class.
                level = KillLevel.Pod;
                pod = pod with { Limit = container.Limit ?? place.PodLimit - (place.Overhead ?? 0) };
            }

            container = container with { Limit = null };
        }
        else if (level == KillLevel.Pod && place.PodLimit is null && pod.Limit == container.Limit)
        {
            // The pod's limit is the sum of its containers', and this one has all of it: the sandbox's few pages made the pod's be hit first.
            level = KillLevel.Container;
        }

        return kill with { Level = level, Container = container, Pod = pod, Victim = victims.Count > 0 ? victims[0] : null };
    }

    /// <summary>Takes a kill that was not counted.</summary>
    /// <param name="id">The container.</param>
    /// <param name="pod">The pod whose status says so, some time later; null when containerd said so, just now.</param>
    private async Task TakeAsync(string id, string? pod)
    {
        var at = _time.GetUtcNow();
        if (_ledger.Knows(id) || await _directory.FindAsync(pod, id, pod is null ? _namePatience : TimeSpan.Zero, _stop).ConfigureAwait(false) is not { } place
            || (pod ?? place.Regarding.Uid) is not { } podUid || _ledger.Knows(id))
        {
            return;
        }

        lock (_lock)
        {
            // It was counted meanwhile, and may wait for its name: that kill says more.
            if (_settling.ContainsKey(id) || _counted.Contains(id))
            {
                return;
            }
        }

        // What containerd says of memory, and the status after it, may be another's: then this one, the sandbox for one, was killed by somebody else.
        var victims = _kernel?.TakeOf(id) ?? [];
        if (victims.Count == 0 && _watch.NeighboursAreTold && (place.Container is null || _ledger.KnowsAnother(podUid, id)))
        {
            LeaveToOthers(id, OomKilled);
            return;
        }

        lock (_lock)
        {
            if (_byOthers.Count < MostNoted)
            {
                _byOthers[podUid] = _byOthers.GetValueOrDefault(podUid) + 1;
            }
        }

        var (level, reading) = _watch.LevelOfGone(podUid, justNow: pod is null);
        Take(
            new OomKill
            {
                PodUid = podUid,
                ContainerId = id,
                Place = place,
                Count = 1,
                Level = level,
                Died = true,
                Pod = reading,
                At = at,
            },
            victims,
            sighting: null);
    }

    /// <summary>Takes what a guest's runner said.</summary>
    private async Task TakeAsync(ContainerEvent said, Func<KillPlace, string, DateTimeOffset, GuestIncident> incident)
    {
        var at = _time.GetUtcNow();
        if (await _directory.FindAsync(null, said.ContainerId, _namePatience, _stop).ConfigureAwait(false) is { Regarding.Uid: { } uid } place)
        {
            var taken = incident(place, uid, at);
            _ledger.Record(taken);
            _incidents.Add(place, taken.Reason, 1);
            Log.Incident(_logger, taken.Reason, place.Regarding.Namespace, place.Regarding.Name, place.Container);
        }
    }

    private void Take(OomKill taken, IReadOnlyList<Victim> victims, Sighting? sighting)
    {
        var kill = Attribute(taken, victims);
        if (!_ledger.Record(kill, sighting))
        {
            return;
        }

        _counts.Add(kill.Place, kill.Level switch { KillLevel.Container => "container", KillLevel.Pod => "pod", KillLevel.Node => "node", _ => "unknown" }, kill.Count);
        Log.Kill(_logger, kill.Reason, kill.Place.Regarding.Namespace, kill.Place.Regarding.Name, kill.Place.Container, kill.Level, kill.Count);
    }

    private void Start(Func<Task> work)
    {
        var running = GuardAsync(work);
        lock (_lock)
        {
            if (!running.IsCompleted)
            {
                _ = _working.Add(running);
            }
        }
    }

    private async Task GuardAsync(Func<Task> work)
    {
        await Task.Yield(); // whoever told us goes on
        try
        {
            await work().ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            // What is not in the ledger yet is found again by the next agent.
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            Log.Failed(_logger, e.Message);
        }
        finally
        {
            lock (_lock)
            {
                _ = _working.RemoveWhere(t => t.IsCompleted);
            }
        }
    }

    private static partial class Log
    {
        [LoggerMessage(255, LogLevel.Information, "memory kill: reason={Reason} namespace={Namespace} pod={Pod} container={Container} level={Level} count={Count}")]
        public static partial void Kill(ILogger logger, string reason, string? @namespace, string? pod, string? container, KillLevel? level, int count);

        [LoggerMessage(258, LogLevel.Information, "a WebAssembly guest: reason={Reason} namespace={Namespace} pod={Pod} container={Container}")]
        public static partial void Incident(ILogger logger, string reason, string? @namespace, string? pod, string? container);

        [LoggerMessage(257, LogLevel.Error, "a memory kill could not be looked at: error={Error}")]
        public static partial void Failed(ILogger logger, string error);

        [LoggerMessage(256, LogLevel.Warning, "memory kill in a pod that neither the API server nor containerd knows: uid={Uid} container={Container}")]
        public static partial void Nobodys(ILogger logger, string uid, string? container);
    }
}
