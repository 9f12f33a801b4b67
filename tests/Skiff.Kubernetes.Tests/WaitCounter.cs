namespace Skiff.Kubernetes.Tests;

/// <summary>A clock that knows how many waits for it are pending. The limit of a request is none: nobody waits until it comes.</summary>
internal sealed class WaitCounter(TimeProvider clock) : TimeProvider
{
    private int _waits;

    public int Waits => Volatile.Read(ref _waits);

    public override long TimestampFrequency => clock.TimestampFrequency;

    public override DateTimeOffset GetUtcNow() => clock.GetUtcNow();

    public override long GetTimestamp() => clock.GetTimestamp();

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
    {
        if (state is CancellationTokenSource)
        {
            return clock.CreateTimer(callback, state, dueTime, period);
        }

        var wait = new Wait(this);
        return wait.Begin(clock.CreateTimer(
            _ =>
            {
                wait.End(); // before the callback, which may begin the next one
                callback(state);
            },
            null,
            dueTime,
            period));
    }

    private sealed class Wait(WaitCounter counter) : ITimer
    {
        private ITimer? _timer;
        private int _over;

        /// <summary>Counts it, now that the clock knows of it; when it is over already, this makes up for its end.</summary>
        public Wait Begin(ITimer timer)
        {
            _timer = timer;
            _ = Interlocked.Increment(ref counter._waits);
            return this;
        }

        public void End()
        {
            if (Interlocked.Exchange(ref _over, 1) == 0)
            {
                _ = Interlocked.Decrement(ref counter._waits);
            }
        }

        public bool Change(TimeSpan dueTime, TimeSpan period) => throw new NotSupportedException("a delay is not changed");

        public void Dispose()
        {
            End();
            _timer!.Dispose();
        }

        public ValueTask DisposeAsync()
        {
            End();
            return _timer!.DisposeAsync();
        }
    }
}
