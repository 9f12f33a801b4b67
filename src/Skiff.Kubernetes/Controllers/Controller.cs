using Microsoft.Extensions.Logging;

namespace Skiff.Kubernetes.Controllers;

/// <summary>Takes keys from a queue, one at a time, and has them reconciled.</summary>
/// <typeparam name="TKey">Names what is reconciled.</typeparam>
public sealed partial class Controller<TKey>
    where TKey : notnull
{
    private readonly WorkQueue<TKey> _queue;
    private readonly IReconciler<TKey> _reconciler;
    private readonly ILogger _logger;
    private readonly TimeProvider _time;
    private long _busySince; // a timestamp; 0 while it waits for a key
    private long _runs;
    private long _failures;

    /// <summary>Prepares it.</summary>
    /// <param name="name">For logs and metrics.</param>
    /// <param name="queue">Where keys come from.</param>
    /// <param name="reconciler">What is done with them.</param>
    /// <param name="logger">Hears of failures.</param>
    /// <param name="time">The clock.</param>
    public Controller(string name, WorkQueue<TKey> queue, IReconciler<TKey> reconciler, ILogger logger, TimeProvider time)
    {
        ArgumentNullException.ThrowIfNull(queue);
        ArgumentNullException.ThrowIfNull(reconciler);
        ArgumentNullException.ThrowIfNull(logger);
        ArgumentNullException.ThrowIfNull(time);
        Name = name;
        _queue = queue;
        _reconciler = reconciler;
        _logger = logger;
        _time = time;
    }

    /// <summary>For logs and metrics.</summary>
    public string Name { get; }

    /// <summary>How many times something was reconciled.</summary>
    public long Runs => Interlocked.Read(ref _runs);

    /// <summary>How many of those did not go well.</summary>
    public long Failures => Interlocked.Read(ref _failures);

    /// <summary>How many keys wait.</summary>
    public int Waiting => _queue.Count;

    /// <summary>For how long the present key has been worked on; zero while there is none. A watchdog compares it with what is still sane.</summary>
    public TimeSpan Busy => Interlocked.Read(ref _busySince) is var since and not 0 ? _time.GetElapsedTime(since) : TimeSpan.Zero;

    /// <summary>Works until cancelled, and returns when the present key is finished.</summary>
    public async Task RunAsync(CancellationToken cancellation)
    {
        while (true)
        {
            TKey key;
            try
            {
                key = await _queue.TakeAsync(cancellation).ConfigureAwait(false);
            }
            catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
            {
                return;
            }

            Interlocked.Exchange(ref _busySince, Math.Max(1, _time.GetTimestamp()));
            try
            {
                await HandleAsync(key, cancellation).ConfigureAwait(false);
            }
            finally
            {
                Interlocked.Exchange(ref _busySince, 0);
                _queue.Done(key);
            }
        }
    }

    private async Task HandleAsync(TKey key, CancellationToken cancellation)
    {
        _ = Interlocked.Increment(ref _runs);
        ReconcileResult result;
        try
        {
            result = await _reconciler.ReconcileAsync(key, cancellation).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
            _queue.Add(key); // whoever goes on with this queue finds it unfinished
            return;
        }
        catch (Exception e)
        {
            // One key whose reconciler is at fault must not stop the others.
            _ = Interlocked.Increment(ref _failures);
            Log.Fault(_logger, Name, key.ToString(), _queue.AddAfterFailure(key), e);
            return;
        }

        switch (result)
        {
            case ReconcileResult.RequeueCase again:
                _queue.Forgive(key);
                _queue.AddAfter(key, again.Delay);
                break;
            case ReconcileResult.RetryCase failed:
                _ = Interlocked.Increment(ref _failures);
                Log.Retry(_logger, Name, key.ToString(), failed.Problem, _queue.AddAfterFailure(key));
                break;
            case ReconcileResult.TerminalCase wrong:
                _ = Interlocked.Increment(ref _failures);
                _queue.Forgive(key);
                Log.Terminal(_logger, Name, key.ToString(), wrong.Problem);
                break;
            default:
                _queue.Forgive(key);
                break;
        }
    }

    private static partial class Log
    {
        [LoggerMessage(110, LogLevel.Warning, "reconciling did not work: controller={Controller} key={Key} problem={Problem} again={Again}")]
        public static partial void Retry(ILogger logger, string controller, string? key, string problem, TimeSpan again);

        [LoggerMessage(111, LogLevel.Error, "reconciling needs a change first: controller={Controller} key={Key} problem={Problem}")]
        public static partial void Terminal(ILogger logger, string controller, string? key, string problem);

        [LoggerMessage(112, LogLevel.Error, "a reconciler is at fault: controller={Controller} key={Key} again={Again}")]
        public static partial void Fault(ILogger logger, string controller, string? key, TimeSpan again, Exception exception);
    }
}
