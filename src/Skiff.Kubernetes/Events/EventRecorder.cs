using System.Threading.Channels;
using Microsoft.Extensions.Logging;

namespace Skiff.Kubernetes.Events;

/// <summary>
/// Writes Events (events.k8s.io/v1). Nobody ever waits for it: events queue here and are dropped, and counted, when there are too many.
/// <list type="bullet">
/// <item>An event that was written a short while ago and happens again is not written again; its series counts it, at most one write in
/// <see cref="SeriesPeriod"/>.</item>
/// <item>Each object has a token bucket, so that one that fails in ever new ways does not flood the cluster.</item>
/// </list>
/// </summary>
public sealed partial class EventRecorder : IAsyncDisposable
{
    /// <summary>The least time between two writes of one series.</summary>
    public static readonly TimeSpan SeriesPeriod = TimeSpan.FromSeconds(30);

    private const int QueueLimit = 1000;
    private const double BucketSize = 20;
    private const int BucketLimit = 10_000;

    private static readonly TimeSpan _tokenPeriod = TimeSpan.FromMinutes(1);
    private static readonly TimeSpan _seriesEnd = TimeSpan.FromMinutes(6);
    private static readonly TimeSpan _writeLimit = TimeSpan.FromSeconds(10);

    private readonly Channel<(KubeEvent Event, DateTimeOffset At)> _queue;
    private readonly Dictionary<KubeEvent, Series> _series = [];
    private readonly Dictionary<ObjectReference, Bucket> _buckets = [];
    private readonly CancellationTokenSource _stop = new();
    private readonly EventWriter _writer;
    private readonly ILogger _logger;
    private readonly TimeProvider _time;
    private readonly Task _writing;
    private long _dropped;
    private long _written;
    private int _disposed;

    /// <summary>Starts to write what is recorded.</summary>
    /// <param name="client">To where.</param>
    /// <param name="controller">What reports, for example runtime.skiff.dev/skiff-operator.</param>
    /// <param name="instance">Which one of those, for example a pod's name.</param>
    /// <param name="logger">Hears of failures.</param>
    /// <param name="time">The clock.</param>
    public EventRecorder(KubeClient client, string controller, string instance, ILogger logger, TimeProvider time)
    {
        ArgumentNullException.ThrowIfNull(client);
        ArgumentNullException.ThrowIfNull(logger);
        ArgumentNullException.ThrowIfNull(time);
        _writer = new EventWriter(client, controller, instance);
        _logger = logger;
        _time = time;
        _queue = Channel.CreateBounded<(KubeEvent, DateTimeOffset)>(
            new BoundedChannelOptions(QueueLimit) { FullMode = BoundedChannelFullMode.DropWrite, SingleReader = true },
            _ => Interlocked.Increment(ref _dropped));
        _writing = WriteAllAsync();
    }

    /// <summary>How many events were not written: too many at once, too many for one object, or refused by the server.</summary>
    public long Dropped => Interlocked.Read(ref _dropped);

    /// <summary>How many writes the server took, of new events and of series.</summary>
    public long Written => Interlocked.Read(ref _written);

    /// <summary>Records an event; returns at once.</summary>
    public void Record(KubeEvent happened)
    {
        ArgumentNullException.ThrowIfNull(happened);
        // A full queue counts by itself; this is one that takes no more.
        if (!_queue.Writer.TryWrite((happened, _time.GetUtcNow())))
        {
            _ = Interlocked.Increment(ref _dropped);
        }
    }

    /// <summary>Takes no more events and waits until those queued are written.</summary>
    /// <param name="patience">After this long the rest is given up.</param>
    public async Task CompleteAsync(TimeSpan patience)
    {
        _ = _queue.Writer.TryComplete();
        await _writing.WaitAsync(patience, _time).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await _stop.CancelAsync().ConfigureAwait(false);
        await _writing.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) == 0)
        {
            await CompleteAsync(TimeSpan.Zero).ConfigureAwait(false);
            _stop.Dispose();
        }
    }

    private async Task WriteAllAsync()
    {
        try
        {
            var more = _queue.Reader.WaitToReadAsync(_stop.Token).AsTask();
            while (true)
            {
                // Counted repeats are written when their time has come, also when nothing new happens.
                var wait = _series.Values.Any(s => s.Counted > s.Reported) ? SeriesPeriod / 3 : Timeout.InfiniteTimeSpan;
                await ((Task)more).WaitAsync(wait, _time, _stop.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                _stop.Token.ThrowIfCancellationRequested();
                if (more.IsCompleted)
                {
                    var open = await more.ConfigureAwait(false);
                    while (_queue.Reader.TryRead(out var next))
                    {
                        await HandleAsync(next.Event, next.At).ConfigureAwait(false);
                    }

                    if (!open)
                    {
                        await ReportSeriesAsync(atEnd: true).ConfigureAwait(false);
                        return;
                    }

                    more = _queue.Reader.WaitToReadAsync(_stop.Token).AsTask();
                }

                await ReportSeriesAsync(atEnd: false).ConfigureAwait(false);
            }
        }
        catch (OperationCanceledException)
        {
            // Given up by CompleteAsync.
        }
    }

    private async Task HandleAsync(KubeEvent happened, DateTimeOffset at)
    {
        if (_series.TryGetValue(happened, out var series) && at - series.LastSeen < _seriesEnd)
        {
            series.Counted++;
            series.LastSeen = at;
            return;
        }

        if (!TakeToken(happened.Regarding, at))
        {
            _ = Interlocked.Increment(ref _dropped);
            return;
        }

        var key = EventWriter.KeyFor(happened.Regarding, at);
        var error = await TryAsync(stop => _writer.CreateAsync(key, happened, at, 1, at, stop)).ConfigureAwait(false);
        if (error is null)
        {
            _series[happened] = new Series(key, at);
        }
        else
        {
            _ = Interlocked.Increment(ref _dropped);
            Log.NotWritten(_logger, happened.Reason, error);
        }
    }

    private async Task ReportSeriesAsync(bool atEnd)
    {
        var now = _time.GetUtcNow();
        foreach (var (happened, series) in _series.ToList())
        {
            if (series.Counted > series.Reported && (atEnd || now - series.LastReport >= SeriesPeriod))
            {
                var count = series.Counted;
                var error = await TryAsync(stop => _writer.CountAsync(series.Key, count, series.LastSeen, stop)).ConfigureAwait(false);
                series.LastReport = now;
                series.Reported = count;
                if (error is not null)
                {
                    Log.NotWritten(_logger, happened.Reason, error);
                    _ = _series.Remove(happened); // perhaps expired on the server: the next one is a new event
                }
            }
            else if (now - series.LastSeen >= _seriesEnd)
            {
                _ = _series.Remove(happened);
            }
        }
    }

    /// <summary>Writes, and once more when the server could not be reached.</summary>
    /// <returns>The error; null when it is written.</returns>
    private async Task<string?> TryAsync(Func<CancellationToken, Task<ApiError?>> write)
    {
        for (var attempt = 0; ; attempt++)
        {
            using var limit = new CancellationTokenSource(_writeLimit, _time);
            using var both = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, _stop.Token);
            ApiError error;
            try
            {
                if (await write(both.Token).ConfigureAwait(false) is not { } failure)
                {
                    _ = Interlocked.Increment(ref _written);
                    return null;
                }

                error = failure;
            }
            catch (OperationCanceledException) when (!_stop.IsCancellationRequested)
            {
                error = new ApiError(ApiErrorKind.Unreachable, $"no answer within {_writeLimit.TotalSeconds:0} s");
            }

            if (attempt > 0 || error.Kind is not (ApiErrorKind.Unreachable or ApiErrorKind.Server or ApiErrorKind.TooManyRequests))
            {
                return error.Message;
            }

            await Task.Delay(Backoff.Jitter(error.RetryAfter ?? TimeSpan.FromSeconds(2)), _time, _stop.Token).ConfigureAwait(false);
        }
    }

    private bool TakeToken(ObjectReference regarding, DateTimeOffset at)
    {
        if (_buckets.Count >= BucketLimit)
        {
            // A bucket that is full again says nothing.
            foreach (var (key, old) in _buckets.Where(b => b.Value.At(at) >= BucketSize).ToList())
            {
                _ = _buckets.Remove(key);
            }
        }

        if (!_buckets.TryGetValue(regarding, out var bucket))
        {
            if (_buckets.Count >= BucketLimit)
            {
                return false;
            }

            _buckets[regarding] = bucket = new Bucket(BucketSize, at);
        }

        return bucket.Take(at);
    }

    private sealed class Series(ObjectKey key, DateTimeOffset at)
    {
        public ObjectKey Key => key;

        public int Counted { get; set; } = 1;

        public int Reported { get; set; } = 1;

        public DateTimeOffset LastSeen { get; set; } = at;

        public DateTimeOffset LastReport { get; set; } = at;
    }

    private sealed class Bucket(double tokens, DateTimeOffset filled)
    {
        public double At(DateTimeOffset at) => Math.Min(BucketSize, tokens + ((at - filled) / _tokenPeriod));

        public bool Take(DateTimeOffset at)
        {
            tokens = At(at);
            filled = at;
            if (tokens < 1)
            {
                return false;
            }

            tokens--;
            return true;
        }
    }

    private static partial class Log
    {
        [LoggerMessage(130, LogLevel.Warning, "an event was not written: reason={Reason} error={Error}")]
        public static partial void NotWritten(ILogger logger, string reason, string error);
    }
}
