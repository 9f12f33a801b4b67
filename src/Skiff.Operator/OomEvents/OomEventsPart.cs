using Microsoft.Extensions.Logging;
using Skiff.Containerd.Containers;
using Skiff.Kubernetes;
using Skiff.Kubernetes.Events;
using Skiff.Kubernetes.Watching;
using Skiff.Linux;
using Skiff.Linux.Files;
using Skiff.Linux.Processes;
using Skiff.Operator.Api;

namespace Skiff.Operator.OomEvents;

/// <summary>What the part that reports memory kills works with.</summary>
internal sealed record OomEventsOptions
{
    /// <summary>The node's cgroup tree (/sys/fs/cgroup) as this process sees it.</summary>
    public required string Cgroups { get; init; }

    /// <summary>Where the ledger is kept; a path in <see cref="Files"/>.</summary>
    public required string Spool { get; init; }

    /// <summary>The machine that has the ledger.</summary>
    public required RootedTree Files { get; init; }

    /// <summary>The node's /proc; null when this process is not in the node's pid namespace.</summary>
    public string? Processes { get; init; }

    /// <summary>The node's kernel log; null when it is not ours to read.</summary>
    public string? KernelLog { get; init; }

    /// <summary>Null where there is no access to containerd: the cgroups alone do, but the names of new containers come later.</summary>
    public ContainerWatch? Containerd { get; init; }

    /// <summary>Whether what manages a pod gets an Event, too.</summary>
    public bool OnWorkloads { get; init; }
}

/// <summary>The part of the operator that tells of memory kills, for every container of every runtime on its node.</summary>
internal sealed partial class OomEventsPart
{
    private const string BootId = "/proc/sys/kernel/random/boot_id";

    private static readonly TimeSpan _firstPause = TimeSpan.FromMilliseconds(200);
    private static readonly TimeSpan _longestPause = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan _endLimit = TimeSpan.FromSeconds(5);

    private readonly OomEventsOptions _options;
    private readonly Informer<Pod> _pods;
    private readonly PodDirectory _directory;
    private readonly KillLedger _ledger;
    private readonly EventWriter _writer;
    private readonly ILogger _logger;
    private readonly TimeProvider _time;
    private KillObserver? _observer;
    private KillReporter? _reporter;

    /// <summary>Prepares it, and reads what the agent before has left.</summary>
    /// <param name="options">What it works with.</param>
    /// <param name="pods">This node's pods; somebody else runs it, and has not begun.</param>
    /// <param name="writer">Writes the Events.</param>
    /// <param name="logger">Hears of kills, and of what goes wrong.</param>
    /// <param name="time">The clock.</param>
    public OomEventsPart(OomEventsOptions options, Informer<Pod> pods, EventWriter writer, ILogger logger, TimeProvider time)
    {
        _options = options;
        _pods = pods;
        _writer = writer;
        _logger = logger;
        _time = time;
        _directory = new PodDirectory(pods, options.Containerd, time);
        _ledger = KillLedger.Open(options.Files, options.Spool, File.ReadAllText(BootId).Trim(), options.OnWorkloads, logger, time);
        pods.OnChange(change => _observer?.Changed(change.Current));
    }

    /// <summary>How many kills there were.</summary>
    public ContainerCounts Metrics { get; } = new("level");

    /// <summary>How often runners told of their guests.</summary>
    public ContainerCounts Incidents { get; } = new("reason");

    /// <summary>How many kills the API server does not have yet.</summary>
    public int Waiting => _ledger.Waiting;

    /// <summary>How many kills got no Event.</summary>
    public long Dropped => _ledger.Dropped;

    /// <summary>How many writes of Events the API server took.</summary>
    public long Written => _reporter?.Written ?? 0;

    /// <summary>How many containers are watched.</summary>
    public int Watched => _observer?.Watch.Watched ?? 0;

    /// <summary>Why kills are not noticed; null when they are.</summary>
    public string? Problem => _observer?.Watch is not { } watch ? "it has not begun" : watch.Problem ?? (watch.Watches ? null : "the node's cgroups have not been read yet");

    /// <summary>Works until cancelled; then it writes what is left.</summary>
    public async Task RunAsync(CancellationToken cancellation)
    {
        using var kernel = _options.KernelLog is { } path ? new KernelLog(path, KernelMessages.Read, ThisProcess.CountsAsTheKernel, _time) : null;
        var observer = _observer = new KillObserver(
            self => new CgroupWatch(_options.Cgroups, _options.Processes, _ledger, self.Seen, _logger, _time),
            _ledger, _directory, kernel, Metrics, Incidents, _logger, _time, cancellation);
        using var watch = observer.Watch;
        var reporter = _reporter = new KillReporter(_ledger, _writer, IsThere, _logger, _time);
        if (watch.Problem is { } problem)
        {
            Log.NoCgroups(_logger, problem);
        }

        foreach (var pod in _pods.List())
        {
            observer.Changed(pod);
        }

        await Loops.RunAsync(
            cancellation,
            watch.RunAsync,
            stop => kernel?.FollowAsync(stop) ?? Task.Delay(Timeout.Infinite, stop),
            stop => FollowContainerdAsync(observer, stop),
            reporter.RunAsync).ConfigureAwait(false);
        await observer.CompleteAsync().ConfigureAwait(false);
        using var limit = new CancellationTokenSource(_endLimit, _time);
        try
        {
            await reporter.CompleteAsync(limit.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            // The ledger has it.
        }

        bool IsThere(string uid) => !_pods.HasSynced || _directory.Knows(uid) || watch.HasPod(uid);
    }

    /// <summary>Removes the ledger: no agent will come who could use it.</summary>
    public void Forget() => _ledger.Remove();

    /// <summary>containerd's events, again and again: what happened while it was away, the counts and the statuses tell.</summary>
    private async Task FollowContainerdAsync(KillObserver observer, CancellationToken cancellation)
    {
        var failures = 0;
        while (_options.Containerd is { } containerd)
        {
            var begun = _time.GetTimestamp();
            var failure = await containerd.FollowAsync(observer.Happened, cancellation).ConfigureAwait(false);
            failures = _time.GetElapsedTime(begun) > _longestPause ? 1 : failures + 1;
            Log.ContainerdAway(_logger, failure.Message);
            await Task.Delay(Backoff.After(failures, _firstPause, _longestPause), _time, cancellation).ConfigureAwait(false);
        }

        await Task.Delay(Timeout.Infinite, cancellation).ConfigureAwait(false);
    }

    private static partial class Log
    {
        [LoggerMessage(260, LogLevel.Information, "containerd's events are not to be had, the cgroups' counts go on: error={Error}")]
        public static partial void ContainerdAway(ILogger logger, string error);

        [LoggerMessage(261, LogLevel.Error, "cgroups are not watched: error={Error}")]
        public static partial void NoCgroups(ILogger logger, string error);
    }
}
