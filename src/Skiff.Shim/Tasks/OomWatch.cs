using Microsoft.Extensions.Logging;
using Skiff.Linux;
using Skiff.Linux.Cgroups;
using Skiff.Linux.Processes;

namespace Skiff.Shim.Tasks;

/// <summary>Reports each process of a container that the kernel kills for want of memory: once, and before that process's exit.</summary>
/// <remarks>
/// Two ways lead to a report. The kernel's notice finds the kill of a child while init lives. But it races with the news of an exit, so
/// whoever is about to publish one calls <see cref="Check()"/> first; the count is there by then (<see cref="OomKillCounter"/>). Both take
/// the same lock and compare with the same last count, so a kill is reported once.
/// <para>systemd removes the scope of a container as soon as it is empty, and may be faster than we are. Then the count is gone, but on v2
/// it is still in that of the cgroup above. So what is in that one for others is kept up to date, and <see cref="CheckLast"/> finds a kill
/// that is nobody else's. It does not look for one right after a report: that was init's own, and the rest is of a neighbour that was killed
/// at the same time.</para>
/// </remarks>
internal sealed partial class OomWatch : IAsyncDisposable
{
    // What init exits with when it was killed, or when it is a shell that says so of its child.
    private const uint Killed = 137;

    private const int MostTries = 5;

    private static readonly TimeSpan _justNow = TimeSpan.FromSeconds(2);

    private readonly Lock _lock = new();
    private readonly CancellationTokenSource _stop = new();
    private readonly OomKillCounter _counter;
    private readonly Action _killed;
    private readonly TimeProvider _time;
    private readonly string _container;
    private readonly ILogger _logger;
    private Task _watching = Task.CompletedTask;
    private ulong _reported;
    private long _reportedAt;
    private long? _others; // of the count above (cgroup v2 only), what is not this container's

    private OomWatch(string container, OomKillCounter counter, Action killed, ILogger logger, TimeProvider time)
    {
        _counter = counter;
        _killed = killed;
        _time = time;
        _reported = counter.Read(out _) ?? 0;
        _others = (long?)counter.ReadAbove() - (long)_reported;
        _container = container;
        _logger = logger;
    }

    /// <summary>Opens it; what is killed from now on is reported, but by itself only after <see cref="Begin"/>.</summary>
    /// <param name="container">The container's id, for the log.</param>
    /// <param name="cgroup">Its cgroup.</param>
    /// <param name="killed">Called for each kill, one after another.</param>
    /// <param name="logger">Where it says what it cannot do.</param>
    /// <param name="time">The clock.</param>
    /// <returns>Null where kills are not counted.</returns>
    public static OomWatch? Open(string container, ContainerCgroup cgroup, Action killed, ILogger logger, TimeProvider time)
    {
        var (counter, problem) = OomKillCounter.Open(cgroup);
        if (counter is null)
        {
            Log.NotWatched(logger, container, problem!);
            return null;
        }

        return new OomWatch(container, counter, killed, logger, time);
    }

    /// <summary>Reports by itself from now on: the start of the container has been published, and has to come first.</summary>
    public void Begin() => _watching = WatchAsync();

    /// <summary>Reports what has been counted since the last time.</summary>
    public void Check() => _ = Check(out _);

    /// <summary>The same, when init has ended: its cgroup may be gone.</summary>
    /// <param name="exit">How it ended.</param>
    public void CheckLast(ExitStatus exit)
    {
        lock (_lock)
        {
            if (!Check(out _) && exit.ShellCode == Killed && !ReportedJustNow() && (long?)_counter.ReadAbove() - _others > (long)_reported)
            {
                Report();
            }
        }
    }

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync().ConfigureAwait(false);
        await _watching.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _counter.Dispose();
        _stop.Dispose();
    }

    /// <returns>Whether the cgroup is still there.</returns>
    private bool Check(out bool waits)
    {
        lock (_lock)
        {
            // Both counts at one moment: between two equal readings of the one above nobody was killed.
            ulong? above, count;
            var tries = 0;
            do
            {
                above = _counter.ReadAbove();
                count = _counter.Read(out waits);
            }
            while (count is not null && above != _counter.ReadAbove() && ++tries < MostTries);

            if (count is null)
            {
                return false;
            }

            // The kernel raises the lower count first, so this may come out too low, but never too high; the true number never falls.
            _others = Math.Max(_others ?? 0, (long)(above ?? 0) - (long)count);
            while (_reported < count)
            {
                Report();
            }

            return true;
        }
    }

    private void Report()
    {
        _reported++;
        _reportedAt = _time.GetTimestamp();
        _killed();
    }

    private bool ReportedJustNow() => _reportedAt != 0 && _time.GetElapsedTime(_reportedAt) < _justNow;

    private async Task WatchAsync()
    {
        try
        {
            await _counter.FollowAsync(() => (Check(out var waits), waits), _time, _stop.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            // The container is deleted.
        }
        catch (LinuxException e)
        {
            Log.NotWatched(_logger, _container, e.Message); // exits are still checked
        }
    }

    private static partial class Log
    {
        [LoggerMessage(25, LogLevel.Warning, "Kills for want of memory are not watched: container={Id} error={Error}")]
        public static partial void NotWatched(ILogger logger, string id, string error);
    }
}
