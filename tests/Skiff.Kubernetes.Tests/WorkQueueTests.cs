using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using Skiff.Kubernetes.Controllers;
using Skiff.Testing;

namespace Skiff.Kubernetes.Tests;

public sealed class WorkQueueTests : IDisposable
{
    private static readonly TimeSpan _patience = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan _second = TimeSpan.FromSeconds(1);

    private readonly FakeTimeProvider _time = new();
    private readonly WorkQueue<string> _queue;

    public WorkQueueTests() => _queue = new WorkQueue<string>(_second, TimeSpan.FromMinutes(1), _time);

    public void Dispose() => _queue.Dispose();

    [Fact]
    public async Task a_key_is_in_it_once_and_the_order_is_that_of_the_first_adds()
    {
        _queue.Add("a");
        _queue.Add("b");
        _queue.Add("a");
        Assert.Equal(2, _queue.Count);
        Assert.Equal(["a", "b"], [await TakeAsync(), await TakeAsync()]);
        Assert.True(NothingReady());
    }

    [Fact]
    public async Task a_key_that_is_added_while_it_is_worked_on_comes_again_only_when_that_is_done()
    {
        _queue.Add("a");
        _ = await TakeAsync();
        _queue.Add("a");
        _queue.Add("a");
        Assert.True(NothingReady());
        _queue.Done("a");
        Assert.Equal("a", await TakeAsync());
        _queue.Done("a");
        Assert.True(NothingReady());
    }

    [Fact]
    public async Task of_several_times_the_earliest_counts()
    {
        _queue.AddAfter("a", 10 * _second);
        _queue.AddAfter("b", 4 * _second);
        _queue.AddAfter("a", 5 * _second);
        _queue.AddAfter("a", 7 * _second);
        _time.Advance(4 * _second);
        Assert.Equal("b", await TakeAsync());
        Assert.True(NothingReady());
        _time.Advance(_second);
        Assert.Equal("a", await TakeAsync());
        _queue.Done("a");
        _time.Advance(100 * _second);
        Assert.True(NothingReady());
    }

    [Fact]
    public async Task a_failing_key_waits_ever_longer_up_to_the_cap_and_is_forgiven_at_once()
    {
        var wanted = 1.0;
        for (var failure = 0; failure < 40; failure++)
        {
            var delay = _queue.AddAfterFailure("a");
            Assert.InRange(delay, wanted / 2 * _second, wanted * _second);
            wanted = Math.Min(60, wanted * 2);
        }

        _queue.Forgive("a");
        Assert.InRange(_queue.AddAfterFailure("a"), _second / 2, _second);
        Assert.InRange(_queue.AddAfterFailure("b"), _second / 2, _second);
        _time.Advance(2 * _second);
        Assert.Equal(["a", "b"], new[] { await TakeAsync(), await TakeAsync() }.Order());
    }

    [Fact]
    public async Task one_who_gives_up_waiting_takes_no_key_with_it()
    {
        using var stop = new CancellationTokenSource();
        var first = _queue.TakeAsync(stop.Token);
        var second = _queue.TakeAsync(default);
        await stop.CancelAsync();
        _queue.Add("a");
        _ = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => first);
        Assert.Equal("a", await second.WaitAsync(_patience));
    }

    [Fact]
    public async Task one_who_gives_up_at_the_moment_of_an_add_leaves_the_key_to_the_next()
    {
        for (var round = 0; round < 20_000; round++)
        {
            using var queue = new WorkQueue<int>(_second, _second, _time);
            using var stop = new CancellationTokenSource();
            var first = queue.TakeAsync(stop.Token);
            var second = queue.TakeAsync(default);
            var adding = Task.Run(() => queue.Add(round));
            await stop.CancelAsync();
            await adding;
            _ = await Task.WhenAny(first).WaitAsync(_patience);
            Assert.Equal(round, await (first.IsCompletedSuccessfully ? first : second).WaitAsync(_patience));
        }
    }

    [Fact]
    public async Task a_key_is_never_worked_on_twice_at_once_and_its_last_add_is_always_seen()
    {
        const int Keys = 5;
        const int Adds = 4000;
        using var queue = new WorkQueue<int>(_second, _second, TimeProvider.System);
        var working = new int[Keys];
        var added = new int[Keys];
        var seen = new int[Keys];
        var overlaps = 0;
        using var stop = new CancellationTokenSource();
        var workers = Enumerable.Range(0, 4).Select(_ => Task.Run(async () =>
        {
            while (true)
            {
                var key = await queue.TakeAsync(stop.Token);
                if (Interlocked.Increment(ref working[key]) > 1)
                {
                    _ = Interlocked.Increment(ref overlaps);
                }

                Volatile.Write(ref seen[key], Volatile.Read(ref added[key]));
                await Task.Yield();
                _ = Interlocked.Decrement(ref working[key]);
                queue.Done(key);
            }
        })).ToArray();
        await Parallel.ForAsync(0, Adds, (i, none) =>
        {
            _ = Interlocked.Increment(ref added[i % Keys]);
            queue.Add(i % Keys);
            return ValueTask.CompletedTask;
        });
        Assert.True(await Until.HoldsAsync(() => Task.FromResult(seen.All(s => s == Adds / Keys)), _patience));
        await stop.CancelAsync();
        foreach (var worker in workers)
        {
            _ = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => worker);
        }

        Assert.Equal(0, overlaps);
    }

    [Fact]
    public async Task every_result_of_a_reconciler_leads_to_what_it_says()
    {
        var results = new Queue<ReconcileResult>(
        [
            ReconcileResult.RequeueAfter(10 * _second), ReconcileResult.Retry("not yet"), ReconcileResult.Retry("not yet"),
            ReconcileResult.Terminal("never"), ReconcileResult.Done,
        ]);
        await using var run = new Run(_queue, _time, _ => results.Dequeue());
        _queue.Add("a");
        await run.HasRunAsync(1);
        _time.Advance(9 * _second);
        await run.HasRunAsync(1);
        _time.Advance(_second);
        await run.HasRunAsync(2); // RequeueAfter
        _time.Advance(_second);
        await run.HasRunAsync(3); // Retry: at most a second
        _time.Advance(_second * 0.9);
        await run.HasRunAsync(3); // Retry again: at least a second
        _time.Advance(_second * 1.1);
        await run.HasRunAsync(4);
        _time.Advance(TimeSpan.FromHours(1));
        await run.HasRunAsync(4); // Terminal
        _queue.Add("a");
        await run.HasRunAsync(5); // a change wakes it
        Assert.Equal(3, run.Controller.Failures);
    }

    [Fact]
    public async Task a_reconciler_that_throws_stops_nobody_and_is_called_again()
    {
        await using var run = new Run(_queue, _time, key => key == "bad" ? throw new InvalidOperationException("a fault") : ReconcileResult.Done);
        _queue.Add("bad");
        _queue.Add("good");
        await run.HasRunAsync(2);
        Assert.Equal(1, run.Controller.Failures);
        _time.Advance(_second);
        await run.HasRunAsync(3);
        Assert.Equal(["bad", "good", "bad"], run.Keys);
    }

    [Fact]
    public async Task a_controller_that_is_stopped_returns_after_its_present_key_and_leaves_the_rest()
    {
        var inside = new TaskCompletionSource();
        var run = new Run(_queue, _time, async (_, stop) =>
        {
            inside.SetResult();
            await Task.Delay(Timeout.Infinite, stop);
            return ReconcileResult.Done;
        });
        _queue.Add("a");
        _queue.Add("b");
        await inside.Task.WaitAsync(_patience);
        _time.Advance(3 * _second);
        Assert.Equal(3 * _second, run.Controller.Busy);
        await run.DisposeAsync();
        Assert.Equal(TimeSpan.Zero, run.Controller.Busy);
        Assert.Equal(["b", "a"], [await TakeAsync(), await TakeAsync()]);
    }

    private Task<string> TakeAsync() => _queue.TakeAsync(default).WaitAsync(_patience);

    private bool NothingReady() => _queue.Count == 0;

    private sealed class Run : IReconciler<string>, IAsyncDisposable
    {
        private readonly CancellationTokenSource _stop = new();
        private readonly Func<string, CancellationToken, Task<ReconcileResult>> _reconcile;
        private readonly List<string> _keys = [];
        private readonly WorkQueue<string> _queue;
        private readonly Task _running;

        public Run(WorkQueue<string> queue, TimeProvider time, Func<string, ReconcileResult> reconcile)
            : this(queue, time, (key, _) => Task.FromResult(reconcile(key)))
        {
        }

        public Run(WorkQueue<string> queue, TimeProvider time, Func<string, CancellationToken, Task<ReconcileResult>> reconcile)
        {
            _reconcile = reconcile;
            _queue = queue;
            Controller = new Controller<string>("test", queue, this, NullLogger.Instance, time);
            _running = Controller.RunAsync(_stop.Token);
        }

        public Controller<string> Controller { get; }

        public IReadOnlyList<string> Keys
        {
            get
            {
                lock (_keys)
                {
                    return [.. _keys];
                }
            }
        }

        public Task<ReconcileResult> ReconcileAsync(string key, CancellationToken cancellation)
        {
            lock (_keys)
            {
                _keys.Add(key);
            }

            return _reconcile(key, cancellation);
        }

        /// <summary>
        /// Waits until all is done that the queue has a key for, and demands that it was so many runs in all. It is when the controller waits for
        /// a key: a run's result is with the queue before that, and nothing but an add or the clock, which both are the test's, gives it another.
        /// </summary>
        public async Task HasRunAsync(int count)
        {
            Assert.True(await Until.HoldsAsync(() => Task.FromResult(_queue.Takers == 1 || _running.IsCompleted), _patience));
            Assert.Equal(count, Controller.Runs);
        }

        public async ValueTask DisposeAsync()
        {
            await _stop.CancelAsync();
            await _running.WaitAsync(_patience);
            _stop.Dispose();
        }
    }
}
