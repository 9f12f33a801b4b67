namespace Skiff.Kubernetes.Controllers;

/// <summary>
/// Keys that need work. A key is in it once however often it is added; one that is taken is not given to anybody else until it is
/// <see cref="Done"/>, and when it is added meanwhile it comes again afterwards. Safe for use by many at once.
/// </summary>
/// <typeparam name="TKey">Names what needs work, for example <see cref="ObjectKey"/>.</typeparam>
public sealed class WorkQueue<TKey> : IDisposable
    where TKey : notnull
{
    private readonly Lock _lock = new();
    private readonly Queue<TKey> _ready = new();
    private readonly HashSet<TKey> _wanted = [];      // in _ready, or to be put there when it is done
    private readonly HashSet<TKey> _taken = [];
    private readonly Dictionary<TKey, int> _failures = [];
    private readonly Dictionary<TKey, DateTimeOffset> _due = [];
    private readonly Queue<TaskCompletionSource> _waiting = new();
    private readonly TimeSpan _firstDelay;
    private readonly TimeSpan _longestDelay;
    private readonly TimeProvider _time;
    private readonly ITimer _timer;
    private DateTimeOffset _timerAt = DateTimeOffset.MaxValue;

    /// <summary>Makes an empty queue.</summary>
    /// <param name="firstDelay">After the first failure of a key; doubled with each further one.</param>
    /// <param name="longestDelay">The largest delay after a failure.</param>
    /// <param name="time">The clock.</param>
    public WorkQueue(TimeSpan firstDelay, TimeSpan longestDelay, TimeProvider time)
    {
        ArgumentNullException.ThrowIfNull(time);
        _firstDelay = firstDelay;
        _longestDelay = longestDelay;
        _time = time;
        _timer = time.CreateTimer(static queue => ((WorkQueue<TKey>)queue!).Ripen(), this, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
    }

    /// <summary>How many keys are ready and not taken yet.</summary>
    public int Count
    {
        get
        {
            lock (_lock)
            {
                return _ready.Count;
            }
        }
    }

    /// <summary>How many wait for a key. One that is given a key waits no longer from the moment the key is added.</summary>
    internal int Takers
    {
        get
        {
            lock (_lock)
            {
                return _waiting.Count(w => !w.Task.IsCompleted);
            }
        }
    }

    /// <summary>Adds a key now.</summary>
    public void Add(TKey key)
    {
        lock (_lock)
        {
            AddReady(key);
        }
    }

    /// <summary>Adds a key later; of several times for a key the earliest counts. A key that is added and done meanwhile still comes again then.</summary>
    public void AddAfter(TKey key, TimeSpan delay)
    {
        if (delay <= TimeSpan.Zero)
        {
            Add(key);
            return;
        }

        lock (_lock)
        {
            var at = _time.GetUtcNow() + delay;
            if (!_due.TryGetValue(key, out var before) || at < before)
            {
                _due[key] = at;
                if (at < _timerAt)
                {
                    SetTimer(at);
                }
            }
        }
    }

    /// <summary>Adds a key after a delay that grows with each call, until <see cref="Forgive"/>.</summary>
    /// <returns>The delay.</returns>
    public TimeSpan AddAfterFailure(TKey key)
    {
        int failures;
        lock (_lock)
        {
            failures = _failures[key] = _failures.GetValueOrDefault(key) + 1;
        }

        var delay = Backoff.After(failures, _firstDelay, _longestDelay);
        AddAfter(key, delay);
        return delay;
    }

    /// <summary>Forgets a key's failures.</summary>
    public void Forgive(TKey key)
    {
        lock (_lock)
        {
            _ = _failures.Remove(key);
        }
    }

    /// <summary>Waits for a key and takes it.</summary>
    public async Task<TKey> TakeAsync(CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        while (true)
        {
            // One who was woken looks before it gives up: nobody else was woken for that key.
            TaskCompletionSource waiter;
            lock (_lock)
            {
                if (_ready.TryDequeue(out var key))
                {
                    _ = _wanted.Remove(key);
                    _ = _taken.Add(key);
                    return key;
                }

                waiter = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
                _waiting.Enqueue(waiter);
            }

            try
            {
                await waiter.Task.WaitAsync(cancellation).ConfigureAwait(false);
            }
            catch (OperationCanceledException)
            {
                // It may have been woken for a key at the same moment; then somebody else has to take that key.
                if (!waiter.TrySetCanceled(cancellation))
                {
                    lock (_lock)
                    {
                        WakeOne();
                    }
                }

                throw;
            }
        }
    }

    /// <summary>Gives a taken key back.</summary>
    public void Done(TKey key)
    {
        lock (_lock)
        {
            _ = _taken.Remove(key);
            if (_wanted.Contains(key))
            {
                _ready.Enqueue(key);
                WakeOne();
            }
        }
    }

    /// <summary>Stops the timer; nothing is added later any more.</summary>
    public void Dispose() => _timer.Dispose();

    private void AddReady(TKey key)
    {
        if (_wanted.Add(key) && !_taken.Contains(key))
        {
            _ready.Enqueue(key);
            WakeOne();
        }
    }

    private void WakeOne()
    {
        while (_waiting.TryDequeue(out var waiter) && !waiter.TrySetResult())
        {
            // It gave up waiting; the next one.
        }
    }

    private void Ripen()
    {
        lock (_lock)
        {
            var now = _time.GetUtcNow();
            foreach (var key in _due.Where(d => d.Value <= now).OrderBy(d => d.Value).Select(d => d.Key).ToList())
            {
                _ = _due.Remove(key);
                AddReady(key);
            }

            SetTimer(_due.Count == 0 ? DateTimeOffset.MaxValue : _due.Values.Min());
        }
    }

    private void SetTimer(DateTimeOffset at)
    {
        _timerAt = at;
        var wait = at - _time.GetUtcNow();
        _ = _timer.Change(
            at == DateTimeOffset.MaxValue ? Timeout.InfiniteTimeSpan : wait > TimeSpan.Zero ? wait : TimeSpan.Zero, Timeout.InfiniteTimeSpan);
    }
}
