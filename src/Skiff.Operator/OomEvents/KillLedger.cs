using System.Text.Json;
using System.Text.Json.Serialization;
using System.Threading.Channels;
using Microsoft.Extensions.Logging;
using Skiff.Kubernetes;
using Skiff.Kubernetes.Events;
using Skiff.Linux.Files;

namespace Skiff.Operator.OomEvents;

/// <summary>An Event that is to be, or is, on the API server, and how many kills it stands for.</summary>
internal sealed record KillSeries
{
    /// <summary>The pod's uid, the container's name, and whether it is told to the pod or to its workload.</summary>
    public required string Subject { get; init; }

    /// <summary>The pod's uid.</summary>
    public required string PodUid { get; init; }

    /// <summary>The Event's name. It is chosen before the first try, so that a try whose outcome was lost can be repeated.</summary>
    public required string Name { get; init; }

    public required ObjectReference Regarding { get; init; }

    public ObjectReference? Related { get; init; }

    public required string Reason { get; init; }

    public required string Note { get; init; }

    public required DateTimeOffset First { get; init; }

    public required DateTimeOffset Last { get; init; }

    public required int Count { get; init; }

    /// <summary>The count that the API server has; 0: it has no Event yet.</summary>
    public int Written { get; init; }

    /// <summary>How often it was written.</summary>
    public int Writes { get; init; }

    public DateTimeOffset WrittenAt { get; init; }
}

/// <summary>Kills of one container of one pod that are near each other in time, for "kill 3 in 10 min".</summary>
internal sealed record KillHistory(int Count, DateTimeOffset First, DateTimeOffset Last);

/// <summary>What is known of a cgroup's kills.</summary>
/// <param name="Counted">The kernel's count, as far as it is told; null when only others told of kills.</param>
/// <param name="Pod">The pod's uid.</param>
/// <param name="Died">Whether it is a container's that died of one.</param>
internal sealed record KnownCgroup(ulong? Counted, string Pod, bool Died = false);

/// <summary>The ledger's file.</summary>
internal sealed record LedgerFile
{
    public required string BootId { get; init; }

    /// <summary>Since when kills are watched for on this node.</summary>
    public required DateTimeOffset Since { get; init; }

    /// <summary>By the container's id or the pod's uid.</summary>
    public IReadOnlyDictionary<string, KnownCgroup> Cgroups { get; init; } = new Dictionary<string, KnownCgroup>();

    /// <summary>By the subject.</summary>
    public IReadOnlyDictionary<string, KillHistory> Histories { get; init; } = new Dictionary<string, KillHistory>();

    public IReadOnlyList<KillSeries> Series { get; init; } = [];
}

/// <summary>
/// Every kill that was seen, until the API server has its Event: in memory, and in a file that outlives the agent. What was counted stays
/// as long as its cgroup, so that an agent that comes back knows which of the kernel's kills are news.
/// </summary>
internal sealed partial class KillLedger : IKillBaseline
{
    /// <summary>The name of the file in its folder.</summary>
    public const string FileName = "oom-events.json";

    /// <summary>A kill this long after the last one is told anew.</summary>
    internal static readonly TimeSpan SeriesEnd = TimeSpan.FromMinutes(10);

    /// <summary>After this long a series is told anew, because a note cannot be changed and gets old.</summary>
    internal static readonly TimeSpan SeriesLength = TimeSpan.FromMinutes(30);

    private const int MostSeries = 1000;
    private const int MostCgroups = 5000;
    private const int Limit = 16 << 20;

    private static readonly TimeSpan _historyEnd = TimeSpan.FromHours(1);

    private readonly Lock _lock = new();
    private readonly Dictionary<string, KnownCgroup> _cgroups = [];
    private readonly Dictionary<string, KillHistory> _histories = [];
    private readonly List<KillSeries> _series = [];
    private readonly Channel<bool> _changed = Channel.CreateBounded<bool>(new BoundedChannelOptions(1) { FullMode = BoundedChannelFullMode.DropWrite });
    private readonly RootedTree _files;
    private readonly string _folder;
    private readonly string _bootId;
    private readonly bool _onWorkload;
    private readonly ILogger _logger;
    private bool _dirty = true;

    private KillLedger(RootedTree files, string folder, string bootId, bool onWorkload, LedgerFile? file, ILogger logger, TimeProvider time)
    {
        _files = files;
        _folder = folder;
        _bootId = bootId;
        _onWorkload = onWorkload;
        _logger = logger;
        Resumes = file is not null;
        Since = file?.Since ?? time.GetUtcNow();
        if (file is null)
        {
            return;
        }

        _series.AddRange(file.Series);
        foreach (var (key, history) in file.Histories)
        {
            _histories[key] = history;
        }

        // After a restart of the node the kernel counts from 0; a container's id does not come again, but a pod's uid does.
        foreach (var (key, known) in file.Cgroups)
        {
            _cgroups[key] = file.BootId == bootId ? known : known with { Counted = known.Counted is null ? null : 0 };
        }
    }

    /// <inheritdoc/>
    public bool Resumes { get; }

    /// <summary>Since when kills are watched for on this node.</summary>
    public DateTimeOffset Since { get; }

    /// <summary>How many kills got no Event, because there were too many or the server refused it.</summary>
    public long Dropped { get; private set; }

    /// <summary>How many kills the API server does not have yet.</summary>
    public int Waiting
    {
        get
        {
            lock (_lock)
            {
                return _series.Sum(s => s.Count - s.Written);
            }
        }
    }

    private string Path => $"{_folder}/{FileName}";

    /// <summary>Reads the ledger of the agent before, or begins one. A file that makes no sense is put aside, and said so.</summary>
    /// <param name="files">The machine.</param>
    /// <param name="folder">The folder on it; made when it is not there.</param>
    /// <param name="bootId">Tells this boot of the node from others.</param>
    /// <param name="onWorkload">Whether what manages the pod gets an Event too.</param>
    /// <param name="logger">Hears of what is wrong.</param>
    /// <param name="time">The clock.</param>
    public static KillLedger Open(RootedTree files, string folder, string bootId, bool onWorkload, ILogger logger, TimeProvider time)
    {
        var path = $"{folder}/{FileName}";
        LedgerFile? file = null;
        try
        {
            files.DeleteLeftovers(path);
            file = files.Read(path, Limit) is { } bytes ? JsonSerializer.Deserialize(bytes, LedgerJson.Default.LedgerFile) : null;
        }
        catch (JsonException e)
        {
            Log.PutAside(logger, path, e.Message);
            try
            {
                files.Rename(path, path + ".bad");
            }
            catch (IOException renaming)
            {
                Log.NotKept(logger, path, renaming.Message);
            }
        }
        catch (IOException e)
        {
            Log.NotKept(logger, path, e.Message);
        }

        return new KillLedger(files, folder, bootId, onWorkload, file, logger, time);
    }

    /// <inheritdoc/>
    public ulong? Counted(string cgroup)
    {
        lock (_lock)
        {
            return _cgroups.GetValueOrDefault(cgroup)?.Counted;
        }
    }

    /// <inheritdoc/>
    public void Assume(string cgroup, string podUid, ulong count)
    {
        lock (_lock)
        {
            Keep(cgroup, new KnownCgroup(count, podUid));
            _dirty = true;
        }

        _ = _changed.Writer.TryWrite(true);
    }

    /// <summary>Whether a kill of this container is known.</summary>
    public bool Knows(string containerId)
    {
        lock (_lock)
        {
            return _cgroups.ContainsKey(containerId);
        }
    }

    /// <summary>Whether a kill of another container of the pod is known.</summary>
    public bool KnowsAnother(string podUid, string containerId)
    {
        lock (_lock)
        {
            return _cgroups.Any(c => c.Value.Pod == podUid && c.Key != podUid && c.Key != containerId && (c.Value.Died || c.Value.Counted > 0));
        }
    }

    /// <summary>Notes how far the kernel's counts are told; for what was seen and is no kill of its own.</summary>
    public void Count(Sighting sighting)
    {
        lock (_lock)
        {
            CountUnderLock(sighting);
        }
    }

    /// <summary>Takes a kill; from here on it is not forgotten.</summary>
    /// <param name="kill">The kill.</param>
    /// <param name="sighting">How far the kernel's counts are told with it; both are in the file, or neither. Null when others told of it.</param>
    /// <returns>
    /// False when the container is known to have died: it dies once, and what is seen after that are the rest of its processes. (The first
    /// sighting may have waited for the container's name longer than the others took to come.)
    /// </returns>
    public bool Record(OomKill kill, Sighting? sighting)
    {
        lock (_lock)
        {
            _dirty = true;
            if (sighting is not null)
            {
                CountUnderLock(sighting);
            }

            if (kill.ContainerId is { } id)
            {
                var known = _cgroups.GetValueOrDefault(id) ?? new KnownCgroup(null, kill.PodUid);
                if (known.Died)
                {
                    return false;
                }

                Keep(id, known with { Died = kill.Died });
            }

            var subject = $"{kill.PodUid}/{kill.Place.Container}";
            var history = _histories.GetValueOrDefault(subject);
            history = history is null || kill.At - history.Last > _historyEnd
                ? new KillHistory(kill.Count, kill.At, kill.At) : history with { Count = history.Count + kill.Count, Last = kill.At };
            _histories[subject] = history;
            var note = KillNote.Of(kill, history.Count, kill.At - history.First);
            Record(kill.Reason, kill.Count, kill.At, kill.PodUid, subject, kill.Place.Regarding, null, note);
            if (_onWorkload && kill.Place.Workload is { } workload)
            {
                Record(kill.Reason, kill.Count, kill.At, kill.PodUid, "workload/" + subject, workload, kill.Place.Regarding, KillNote.OnWorkload(kill.Place.Regarding.Name ?? "", note));
            }
        }

        _ = _changed.Writer.TryWrite(true);
        return true;
    }

    /// <summary>Takes what a WebAssembly guest's runner said.</summary>
    public void Record(GuestIncident incident)
    {
        lock (_lock)
        {
            _dirty = true;
            Record(incident.Reason, 1, incident.At, incident.PodUid, $"{incident.PodUid}/{incident.Place.Container}", incident.Place.Regarding, null, incident.Note);
        }

        _ = _changed.Writer.TryWrite(true);
    }

    /// <summary>Completes when there may be something new to write.</summary>
    /// <param name="limit">Completes after this time in any case.</param>
    /// <param name="time">The clock.</param>
    /// <param name="cancellation">Ends the wait.</param>
    public async Task ChangedAsync(TimeSpan limit, TimeProvider time, CancellationToken cancellation)
    {
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        var changed = _changed.Reader.ReadAsync(either.Token).AsTask();
        await ((Task)changed).WaitAsync(limit, time, cancellation).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await either.CancelAsync().ConfigureAwait(false);
        await ((Task)changed).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        cancellation.ThrowIfCancellationRequested();
    }

    /// <summary>The series as they are now.</summary>
    public IReadOnlyList<KillSeries> Series()
    {
        lock (_lock)
        {
            return [.. _series];
        }
    }

    /// <summary>Notes that the API server has a series with this count.</summary>
    public void Written(KillSeries series, int count, DateTimeOffset at) => Change(series, s => s with { Written = count, Writes = s.Writes + 1, WrittenAt = at });

    /// <summary>Notes that the API server has lost the Event of a series: what is counted later is told anew.</summary>
    public void Lost(KillSeries series) => Change(series, s => s with { Written = 0, Name = EventWriter.KeyFor(s.Regarding, s.Last).Name });

    /// <summary>Gives a series up: the server does not want it.</summary>
    public void Drop(KillSeries series)
    {
        lock (_lock)
        {
            if (Find(series) is >= 0 and var at)
            {
                Dropped += _series[at].Count - _series[at].Written;
                _series.RemoveAt(at);
                _dirty = true;
            }
        }
    }

    /// <summary>Forgets what is over: series that are told and old, and the counts of pods that are gone.</summary>
    /// <param name="isThere">Whether a pod is on the node.</param>
    /// <param name="now">The time.</param>
    public void Prune(Func<string, bool> isThere, DateTimeOffset now)
    {
        List<string> pods;
        lock (_lock)
        {
            _dirty |= _series.RemoveAll(s => s.Written == s.Count && IsOver(s, now)) > 0;
            foreach (var old in _histories.Where(h => now - h.Value.Last > _historyEnd).Select(h => h.Key).ToList())
            {
                _dirty |= _histories.Remove(old);
            }

            pods = [.. _cgroups.Values.Select(c => c.Pod).Distinct()];
        }

        var gone = pods.Where(p => !isThere(p)).ToHashSet(StringComparer.Ordinal); // not under the lock: others have locks of their own
        lock (_lock)
        {
            foreach (var old in _cgroups.Where(c => gone.Contains(c.Value.Pod)).Select(c => c.Key).ToList())
            {
                _dirty |= _cgroups.Remove(old);
            }
        }
    }

    /// <summary>Writes the file, when something has changed. What cannot be written is said, and tried again with the next change.</summary>
    public void Save()
    {
        byte[] bytes;
        lock (_lock)
        {
            if (!_dirty)
            {
                return;
            }

            _dirty = false;
            var file = new LedgerFile
            {
                BootId = _bootId,
                Since = Since,
                Cgroups = new Dictionary<string, KnownCgroup>(_cgroups),
                Histories = new Dictionary<string, KillHistory>(_histories),
                Series = [.. _series],
            };
            bytes = JsonSerializer.SerializeToUtf8Bytes(file, LedgerJson.Default.LedgerFile);
        }

        try
        {
            _ = _files.MakeFolder(_folder, 0x1C0); // 0700
            _files.Write(Path, bytes, 0x180); // 0600
        }
        catch (IOException e)
        {
            Log.NotKept(_logger, Path, e.Message);
            lock (_lock)
            {
                _dirty = true;
            }
        }
    }

    /// <summary>Removes the file, and its folder if nothing else is in it: nobody will come who could use it.</summary>
    public void Remove()
    {
        try
        {
            _files.Delete(Path);
            _ = _files.RemoveIfEmpty(_folder);
        }
        catch (IOException e)
        {
            Log.NotKept(_logger, Path, e.Message);
        }
    }

    private static bool IsOver(KillSeries series, DateTimeOffset now) => now - series.Last > SeriesEnd || now - series.First > SeriesLength;

    private void CountUnderLock(Sighting sighting)
    {
        Keep(sighting.PodUid, new KnownCgroup(sighting.CountedInPod, sighting.PodUid));
        if (sighting.ContainerId is { } id)
        {
            Keep(id, new KnownCgroup(sighting.CountedInContainer, sighting.PodUid, _cgroups.GetValueOrDefault(id)?.Died ?? false));
        }

        _dirty = true;
    }

    private void Keep(string cgroup, KnownCgroup known)
    {
        if (_cgroups.Count < MostCgroups || _cgroups.ContainsKey(cgroup))
        {
            _cgroups[cgroup] = known;
        }
    }

    private void Record(string reason, int count, DateTimeOffset seen, string podUid, string subject, ObjectReference regarding, ObjectReference? related, string note)
    {
        var at = _series.FindIndex(s => s.Subject == subject && s.Reason == reason && !IsOver(s, seen));
        if (at >= 0)
        {
            var known = _series[at];
            _series[at] = known with { Count = known.Count + count, Last = seen, Note = known.Written == 0 ? note : known.Note };
            return;
        }

        if (_series.Count >= MostSeries)
        {
            var told = _series.FindIndex(s => s.Written == s.Count);
            if (told < 0)
            {
                Dropped += count;
                return;
            }

            _series.RemoveAt(told);
        }

        _series.Add(new KillSeries
        {
            Subject = subject,
            PodUid = podUid,
            Name = EventWriter.KeyFor(regarding, seen).Name,
            Regarding = regarding,
            Related = related,
            Reason = reason,
            Note = note,
            First = seen,
            Last = seen,
            Count = count,
        });
    }

    private int Find(KillSeries series) => _series.FindIndex(s => s.Name == series.Name && s.Subject == series.Subject);

    private void Change(KillSeries series, Func<KillSeries, KillSeries> change)
    {
        lock (_lock)
        {
            if (Find(series) is >= 0 and var at)
            {
                _series[at] = change(_series[at]);
                _dirty = true;
            }
        }
    }

    private static partial class Log
    {
        [LoggerMessage(245, LogLevel.Error, "the ledger of memory kills makes no sense and is put aside as FILE.bad, a new one is begun: file={File} error={Error}")]
        public static partial void PutAside(ILogger logger, string file, string error);

        [LoggerMessage(246, LogLevel.Warning, "memory kills are kept in memory only: file={File} error={Error}")]
        public static partial void NotKept(ILogger logger, string file, string error);
    }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(LedgerFile))]
internal sealed partial class LedgerJson : JsonSerializerContext;
