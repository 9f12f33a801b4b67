using Microsoft.Extensions.Logging.Abstractions;
using Skiff.Linux.Processes;
using Skiff.Operator.OomEvents;

namespace Skiff.Operator.Tests.OomEvents;

/// <summary>Real cgroups of this machine, and real kills.</summary>
public sealed class CgroupWatchTests : IAsyncLifetime
{
    private const long Limit = 16 << 20;

    private static readonly TimeSpan _patience = TimeSpan.FromSeconds(90);

    private readonly string _uid = Guid.NewGuid().ToString();
    private readonly CancellationTokenSource _stop = new();
    private readonly List<Sighting> _seen = [];
    private readonly Baseline _baseline = new();
    private readonly ShiftedTime _time = new();
    private PodCgroups _cgroups = null!;
    private CgroupWatch _watch = null!;
    private Task _running = Task.CompletedTask;

    public async ValueTask InitializeAsync()
    {
        _cgroups = new PodCgroups();
        _watch = new CgroupWatch(_cgroups.Root, "/proc", _baseline, Take, NullLogger.Instance, _time);
        _running = _watch.RunAsync(_stop.Token);
        await Eventually.HoldsAsync(() => _watch.Watches);
    }

    public async ValueTask DisposeAsync()
    {
        _baseline.Release.Set();
        await _stop.CancelAsync();
        await _running.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _watch?.Dispose();
        if (_cgroups is not null)
        {
            await _cgroups.DisposeAsync();
        }

        _stop.Dispose();
        _baseline.Dispose();
    }

    [Fact]
    public async Task two_that_die_at_the_pods_limit_before_either_is_looked_at_both_died_of_that()
    {
        var pod = _cgroups.AddPod(_uid, Limit);
        var folders = new[] { await AddAsync(pod, 'a'), await AddAsync(pod, 'b') };

        await BlindAsync(pod);
        foreach (var folder in folders)
        {
            await _cgroups.KillAsync(folder);
        }

        _baseline.Release.Set();
        Assert.Equal([KillLevel.Pod, KillLevel.Pod], await LevelsAsync(2));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task one_that_dies_for_the_nodes_sake_after_one_that_died_at_the_pods_limit_died_of_that(bool isTheSame)
    {
        var pod = _cgroups.AddPod(_uid, Limit);
        var (first, second) = (await AddAsync(pod, 'a'), await AddAsync(pod, 'b'));
        await _cgroups.KillAsync(first);
        Assert.Equal([KillLevel.Pod], await LevelsAsync(1));
        await Eventually.HoldsAsync(() => _time.Waiting == 0);
        _time.Shift(TimeSpan.FromMinutes(1));
        PodCgroups.LimitPod(pod, Limit * 4);
        _cgroups.LimitPods(Limit);
        await _cgroups.KillAsync(isTheSame ? first : second);
        Assert.Equal([KillLevel.Pod, KillLevel.Node], await LevelsAsync(2));
    }

    [Fact]
    public async Task of_a_container_that_is_gone_the_cgroups_above_tell_whose_limit_it_was()
    {
        var pod = _cgroups.AddPod(_uid, Limit * 2);
        await Eventually.HoldsAsync(() => _watch.HasPod(_uid));
        await DieUnseenAsync(Limit);
        Assert.Equal([KillLevel.Container, KillLevel.Container], Levels());
        await DieUnseenAsync(Limit * 4);
        Assert.Equal([KillLevel.Pod, null], Levels());
        PodCgroups.LimitPod(pod, Limit * 8);
        _cgroups.LimitPods(Limit);
        await DieUnseenAsync(Limit * 4);
        _time.Shift(TimeSpan.FromMinutes(1));
        Assert.Equal([null, null], Levels());
        Assert.Equal((null, new MemoryReading()), _watch.LevelOfGone("another", justNow: true));

        KillLevel?[] Levels() => [_watch.LevelOfGone(_uid, justNow: true).Level, _watch.LevelOfGone(_uid, justNow: false).Level];

        async Task DieUnseenAsync(long limit)
        {
            // A name that no container has: a watch that sees it would count its kill.
            var folder = PodCgroups.AddContainer(pod, "unseen", limit);
            await _cgroups.KillAsync(folder);
            await PodCgroups.RemoveAsync(folder);
        }
    }

    [Fact]
    public async Task of_a_container_that_is_gone_before_it_is_looked_at_the_pods_count_is_left_on_cgroup_v2()
    {
        var pod = _cgroups.AddPod(_uid, Limit * 8);
        var folders = new[] { await AddAsync(pod, 'a'), await AddAsync(pod, 'b') };
        await BlindAsync(pod);
        await _cgroups.KillAsync(folders[0]);
        var child = _cgroups.Run(folders[1], "sleep.native");
        await Eventually.HoldsAsync(() => File.ReadAllText(folders[1] + "/cgroup.procs").Length > 0);
        _ = child.Signal(Signals.Kill);
        _ = await child.Exit.WaitAsync(_patience);
        foreach (var folder in folders)
        {
            await PodCgroups.RemoveAsync(folder);
        }

        _baseline.Release.Set();
        await Eventually.HoldsAsync(() => _watch.Watched == 1 && (!PodCgroups.Unified || Seen().Count > 0));
        Assert.Equal(PodCgroups.Unified ? [true] : [], Seen().Select(s => s.Gone));
    }

    [Fact]
    public async Task if_only_one_is_gone_that_may_have_been_killed_it_is_told_of_without_a_wait_on_cgroup_v2()
    {
        var pod = _cgroups.AddPod(_uid, Limit * 8);
        var folders = new[] { await AddAsync(pod, 'a'), await AddAsync(pod, 'b') };
        await PodCgroups.RemoveAsync(folders[0]);
        await Eventually.HoldsAsync(() => _watch.Watched == 1);
        await BlindAsync(pod);
        await _cgroups.KillAsync(folders[1]);
        await PodCgroups.RemoveAsync(folders[1]);
        _time.Stands = true;
        _baseline.Release.Set();
        await Eventually.HoldsAsync(() => _watch.Watched == 1 && (!PodCgroups.Unified || Seen().Count > 0));
        Assert.Equal(PodCgroups.Unified ? [(Id('b'), true)] : [], Seen().Select(s => (s.ContainerId, s.Gone)));
    }

    [Fact]
    public async Task a_container_lives_by_a_process_in_a_cgroup_of_its_own_making_but_not_by_one_that_has_ended_and_is_still_waited_for()
    {
        var pod = _cgroups.AddPod(_uid, Limit * 8);
        var folder = await AddAsync(pod, 'a');
        var below = PodCgroups.AddContainer(folder, "below");
        Assert.False(_watch.Lives(Id('a')));
        var first = _cgroups.Run(below, "sleep.native");
        await Eventually.HoldsAsync(() => _watch.Lives(Id('a')));
        _ = first.Signal(Signals.Kill);
        _ = await first.Exit.WaitAsync(_patience);
        Assert.False(_watch.Lives(Id('a')));

        // Its parent is a program that does not wait for it.
        var parent = _cgroups.RunParent(folder, "sleep.native");
        await Eventually.HoldsAsync(() => Pids().Length > 0);
        Assert.True(_watch.Lives(Id('a')));
        var child = Pids()[0];
        _ = (await Command.RunAsync(new SpawnRequest { Path = "/bin/kill", Arguments = ["kill", "-9", child] }, _patience)).Exit;
        await Eventually.HoldsAsync(() => File.ReadLines($"/proc/{child}/status").Any(l => l.StartsWith("State:\tZ", StringComparison.Ordinal)));
        Assert.False(_watch.Lives(Id('a')));
        _ = parent.Signal(Signals.Kill);
        _ = await parent.Exit.WaitAsync(_patience);

        string[] Pids() => File.ReadAllText(folder + "/cgroup.procs").Split('\n', StringSplitOptions.RemoveEmptyEntries);
    }

    /// <summary>Keeps the watch from looking at anything, as a machine does that has no processor for it: it asks about one more, and gets no answer yet.</summary>
    private async Task BlindAsync(string pod)
    {
        _baseline.Waits = Id('c');
        _ = PodCgroups.AddContainer(pod, Id('c'));
        await Eventually.HoldsAsync(() => _baseline.IsAsked);
    }

    private static string Id(char letter) => new(letter, 64);

    private async Task<string> AddAsync(string pod, char letter)
    {
        var folder = PodCgroups.AddContainer(pod, Id(letter), Limit * 4);
        await Eventually.HoldsAsync(() => _watch.CheckNow(Id(letter)));
        return folder;
    }

    private async Task<IReadOnlyList<KillLevel?>> LevelsAsync(int count)
    {
        await Eventually.HoldsAsync(() => Seen().Count >= count);
        return [.. Seen().Select(s => s.Level)];
    }

    private IReadOnlyList<Sighting> Seen()
    {
        lock (_seen)
        {
            return [.. _seen];
        }
    }

    private void Take(Sighting sighting)
    {
        lock (_seen)
        {
            _seen.Add(sighting);
        }
    }

    /// <summary>Knows nothing, and takes its time to say so of one cgroup.</summary>
    private sealed class Baseline : IKillBaseline, IDisposable
    {
        public ManualResetEventSlim Release { get; } = new();

        public string? Waits { get; set; }

        public bool IsAsked { get; private set; }

        public bool Resumes => false;

        public ulong? Counted(string cgroup)
        {
            if (cgroup == Waits)
            {
                IsAsked = true;
                Release.Wait(_patience);
            }

            return null;
        }

        public void Assume(string cgroup, string podUid, ulong count)
        {
        }

        public void Dispose() => Release.Dispose();
    }

    /// <summary>The system's clock, some time later; and how many wait for it.</summary>
    private sealed class ShiftedTime : TimeProvider
    {
        private TimeSpan _by;
        private int _waiting;

        public int Waiting => Volatile.Read(ref _waiting);

        /// <summary>Whether no wait that begins now ever ends.</summary>
        public bool Stands { get; set; }

        public void Shift(TimeSpan by) => _by += by;

        public override DateTimeOffset GetUtcNow() => base.GetUtcNow() + _by;

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
        {
            _ = Interlocked.Increment(ref _waiting);
            return base.CreateTimer(
                s =>
                {
                    callback(s);
                    _ = Interlocked.Decrement(ref _waiting);
                },
                state,
                Stands ? Timeout.InfiniteTimeSpan : dueTime,
                period);
        }
    }
}
