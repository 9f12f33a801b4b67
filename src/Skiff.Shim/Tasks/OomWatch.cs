using Microsoft.Extensions.Logging;
using Skiff.Linux;
using Skiff.Linux.Cgroups;

namespace Skiff.Shim.Tasks;

/// <summary>Reports each process of a container that the kernel kills for want of memory: once, and before that process's exit.</summary>
/// <remarks>
/// Two ways lead to a report. The kernel's notice finds the kill of a child while init lives. But it races with the news of an exit, so
/// whoever is about to publish one calls <see cref="Check()"/> first; the count is there by then (<see cref="OomKillCounter"/>). Both take
/// the same lock and compare with the same last count, so a kill is reported once.
/// </remarks>
internal sealed partial class OomWatch : IAsyncDisposable
{
    // On v1 the notice comes before the kill, which takes as long as it takes.
    private static readonly TimeSpan[] _looks =
        [.. new[] { 1, 2, 5, 10, 20, 50, 100, 200 }.Select(m => TimeSpan.FromMilliseconds(m))];

    private readonly Lock _lock = new();
    private readonly CancellationTokenSource _stop = new();
    private readonly OomKillCounter _counter;
    private readonly Action _killed;
    private readonly TimeProvider _time;
    private readonly Task _watching;
    private ulong _reported;

    private OomWatch(string container, OomKillCounter counter, Action killed, ILogger logger, TimeProvider time)
    {
        _counter = counter;
        _killed = killed;
        _time = time;
        _reported = counter.Read(out _) ?? 0;
        _watching = WatchAsync(container, logger);
    }

    /// <summary>Starts it.</summary>
    /// <param name="container">The container's id, for the log.</param>
    /// <param name="cgroup">Its cgroup.</param>
    /// <param name="killed">Called for each kill, one after another.</param>
    /// <param name="logger">Where it says what it cannot do.</param>
    /// <param name="time">The clock.</param>
    /// <returns>Null where kills are not counted.</returns>
    public static OomWatch? Start(string container, ContainerCgroup cgroup, Action killed, ILogger logger, TimeProvider time)
    {
        var (counter, problem) = OomKillCounter.Open(cgroup);
        if (counter is null)
        {
            Log.NotWatched(logger, container, problem!);
            return null;
        }

        return new OomWatch(container, counter, killed, logger, time);
    }

    /// <summary>Reports what has been counted since the last time.</summary>
    public void Check() => _ = Check(out _);

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
            if (_counter.Read(out waits) is not { } count)
            {
                return false;
            }

            for (; _reported < count; _reported++)
            {
                _killed();
            }

            return true;
        }
    }

    private async Task WatchAsync(string container, ILogger logger)
    {
        try
        {
            while (Check(out _))
            {
                await _counter.ChangedAsync(_stop.Token).ConfigureAwait(false);
                for (var look = 0; _counter.IsEarly && look < _looks.Length;)
                {
                    await Task.Delay(_looks[look], _time, _stop.Token).ConfigureAwait(false);
                    _ = Check(out var waits);
                    look += waits && look == _looks.Length - 1 ? 0 : 1;
                }
            }
        }
        catch (OperationCanceledException)
        {
            // The container is deleted.
        }
        catch (LinuxException e)
        {
            Log.NotWatched(logger, container, e.Message); // exits are still checked
        }
    }

    private static partial class Log
    {
        [LoggerMessage(25, LogLevel.Warning, "Kills for want of memory are not watched: container={Id} error={Error}")]
        public static partial void NotWatched(ILogger logger, string id, string error);
    }
}
