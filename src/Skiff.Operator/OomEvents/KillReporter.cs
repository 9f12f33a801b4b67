using Microsoft.Extensions.Logging;
using Skiff.Kubernetes;
using Skiff.Kubernetes.Events;

namespace Skiff.Operator.OomEvents;

/// <summary>
/// Brings the ledger's series to the API server: the first kill at once, repeats as a count that is written ever more seldom. A server that
/// is away is asked again until it is back. However many kills there are, a pod gets few Events, and a node's agent writes few in a minute.
/// </summary>
internal sealed partial class KillReporter
{
    /// <summary>How many writes a node may do at once, when it has done none for a while.</summary>
    internal const double NodeBurst = 60;

    /// <summary>How many new Events a pod gets in <see cref="KillLedger.SeriesEnd"/>; more wait.</summary>
    internal const int PodLimit = 10;

    private const string ActionName = "Killing";

    private static readonly TimeSpan _nodeRefill = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan _firstCount = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan _longestCount = TimeSpan.FromMinutes(2);
    private static readonly TimeSpan _firstPause = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan _longestPause = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan _writeLimit = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan _idle = TimeSpan.FromMinutes(1);

    private readonly KillLedger _ledger;
    private readonly EventWriter _writer;
    private readonly Func<string, bool> _isThere;
    private readonly ILogger _logger;
    private readonly TimeProvider _time;
    private double _tokens = NodeBurst;
    private DateTimeOffset _filled;

    /// <summary>Prepares it.</summary>
    /// <param name="ledger">What is to be told.</param>
    /// <param name="writer">To whom.</param>
    /// <param name="isThere">Whether a pod is on the node, by its uid; asked before its counts are forgotten.</param>
    /// <param name="logger">Hears of failures.</param>
    /// <param name="time">The clock.</param>
    public KillReporter(KillLedger ledger, EventWriter writer, Func<string, bool> isThere, ILogger logger, TimeProvider time)
    {
        _ledger = ledger;
        _writer = writer;
        _isThere = isThere;
        _logger = logger;
        _time = time;
        _filled = time.GetUtcNow();
    }

    /// <summary>How many writes the server took.</summary>
    public long Written { get; private set; }

    /// <summary>Writes until cancelled.</summary>
    public async Task RunAsync(CancellationToken cancellation)
    {
        var failures = 0;
        while (true)
        {
            _ledger.Prune(_isThere, _time.GetUtcNow());
            _ledger.Save();
            var unreachable = await WriteDueAsync(all: false, cancellation).ConfigureAwait(false);
            failures = unreachable is null ? 0 : failures + 1;
            _ledger.Save();
            if (unreachable is not null)
            {
                var pause = unreachable.RetryAfter ?? Backoff.After(failures, _firstPause, _longestPause);
                Log.Waits(_logger, _ledger.Waiting, unreachable.Message, pause);
                await Task.Delay(pause, _time, cancellation).ConfigureAwait(false);
            }
            else
            {
                await _ledger.ChangedAsync(NextIn(), _time, cancellation).ConfigureAwait(false);
            }
        }
    }

    /// <summary>Writes what is left, also the counts that would have waited; for the end.</summary>
    public async Task CompleteAsync(CancellationToken cancellation)
    {
        _ledger.Save();
        _ = await WriteDueAsync(all: true, cancellation).ConfigureAwait(false);
        _ledger.Save();
    }

    private async Task<ApiError?> WriteDueAsync(bool all, CancellationToken cancellation)
    {
        foreach (var series in _ledger.Series().Where(s => s.Written < s.Count).OrderBy(s => s.Written > 0).ThenBy(s => s.Last).ToList())
        {
            var now = _time.GetUtcNow();
            if ((!all && DueAt(series, now) > now) || !TakeToken(now))
            {
                continue;
            }

            var error = await WriteAsync(series, cancellation).ConfigureAwait(false);
            switch (error?.Kind)
            {
                case null:
                case ApiErrorKind.AlreadyExists when series.Written == 0: // a try whose outcome was lost
                    Written++;
                    _ledger.Written(series, error is null ? series.Count : 1, now);
                    break;
                case ApiErrorKind.NotFound when series.Written > 0:
                    _ledger.Lost(series); // the server keeps Events for an hour only
                    break;
                case ApiErrorKind.NotFound:
                case ApiErrorKind.Forbidden when error.Message.Contains("being terminated", StringComparison.Ordinal):
                    Log.NamespaceGone(_logger, series.Regarding.Namespace, series.Regarding.Name);
                    _ledger.Drop(series);
                    break;
                case ApiErrorKind.Invalid:
                    Log.Refused(_logger, series.Name, error.Message);
                    _ledger.Drop(series);
                    break;
                default:
                    return error;
            }
        }

        return null;
    }

    private async Task<ApiError?> WriteAsync(KillSeries series, CancellationToken cancellation)
    {
        var key = new ObjectKey(series.Regarding.Namespace, series.Name);
        using var limit = new CancellationTokenSource(_writeLimit, _time);
        using var both = CancellationTokenSource.CreateLinkedTokenSource(cancellation, limit.Token);
        try
        {
            if (series.Written > 0)
            {
                return await _writer.CountAsync(key, series.Count, series.Last, both.Token).ConfigureAwait(false);
            }

            var happened = new KubeEvent
            {
                Regarding = series.Regarding,
                Related = series.Related,
                Reason = series.Reason,
                Action = ActionName,
                Note = series.Note,
                Warning = true,
            };
            return await _writer.CreateAsync(key, happened, series.First, series.Count, series.Last, both.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            return new ApiError(ApiErrorKind.Unreachable, $"no answer within {_writeLimit.TotalSeconds:0} s");
        }
    }

    private DateTimeOffset DueAt(KillSeries series, DateTimeOffset now)
    {
        if (series.Written > 0)
        {
            var pause = _firstCount * Math.Pow(2, Math.Min(series.Writes - 1, 10));
            return series.WrittenAt + (pause < _longestCount ? pause : _longestCount);
        }

        var others = _ledger.Series().Where(s => s.PodUid == series.PodUid && s.Written > 0 && now - s.First < KillLedger.SeriesEnd).ToList();
        return others.Count < PodLimit ? now : others.Min(s => s.First) + KillLedger.SeriesEnd;
    }

    private TimeSpan NextIn()
    {
        var now = _time.GetUtcNow();
        var next = now + _idle;
        foreach (var series in _ledger.Series().Where(s => s.Written < s.Count))
        {
            var due = DueAt(series, now);
            next = due < next ? due : next;
        }

        // What is due and was not written lacks a token.
        return next > now ? next - now : _nodeRefill;
    }

    private bool TakeToken(DateTimeOffset now)
    {
        _tokens = Math.Min(NodeBurst, _tokens + ((now - _filled) / _nodeRefill));
        _filled = now;
        if (_tokens < 1)
        {
            return false;
        }

        _tokens--;
        return true;
    }

    private static partial class Log
    {
        [LoggerMessage(250, LogLevel.Warning, "the API server does not take Events of memory kills; they wait: kills={Kills} error={Error} pause={Pause}")]
        public static partial void Waits(ILogger logger, int kills, string error, TimeSpan pause);

        [LoggerMessage(251, LogLevel.Information, "a memory kill has no Event: its namespace is gone: namespace={Namespace} pod={Pod}")]
        public static partial void NamespaceGone(ILogger logger, string? @namespace, string? pod);

        [LoggerMessage(252, LogLevel.Error, "the API server refused the Event of a memory kill: event={Event} error={Error}")]
        public static partial void Refused(ILogger logger, string @event, string error);
    }
}
