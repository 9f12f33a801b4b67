using System.Net;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using Skiff.Kubernetes.Leadership;
using Skiff.Testing;

namespace Skiff.Kubernetes.Tests;

public sealed class LeaderElectorTests : IAsyncLifetime
{
    private const string LeasePath = "apis/coordination.k8s.io/v1/namespaces/skiff-system/leases/leader";
    private static readonly TimeSpan _patience = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan _second = TimeSpan.FromSeconds(1);

    private readonly MemoryApiServer _server = new();
    private readonly FakeTimeProvider _time = new(DateTimeOffset.UnixEpoch.AddYears(56));
    private readonly List<Candidate> _candidates = [];

    public ValueTask InitializeAsync() => ValueTask.CompletedTask;

    public async ValueTask DisposeAsync()
    {
        _server.Intercept = null;
        foreach (var candidate in _candidates)
        {
            await candidate.StopAsync();
            candidate.Dispose();
        }

        _server.Dispose();
    }

    [Fact]
    public async Task one_of_three_leads_and_goes_on_leading()
    {
        var all = new[] { Start("a"), Start("b"), Start("c") };
        await PassAsync(() => all.Any(c => c.Leads));
        var leader = all.Single(c => c.Leads);
        for (var minute = 0; minute < 120; minute++)
        {
            await StepAsync(_second);
        }

        Assert.True(leader.Leads);
        Assert.Equal(1, all.Sum(c => c.Terms));
        Assert.Equal(leader.Name, Holder);
    }

    [Fact]
    public async Task a_leader_that_stops_gives_the_lease_back_and_the_next_need_not_wait()
    {
        var first = Start("a");
        await PassAsync(() => first.Leads);
        var second = Start("b");
        await RestAsync();
        var before = _time.GetUtcNow();
        await first.StopAsync();
        await WaitAsync(() => second.Leads);
        Assert.Equal(before, _time.GetUtcNow());
        Assert.Equal(1, Transitions);
    }

    [Fact]
    public async Task the_lease_is_given_back_only_when_the_work_has_returned()
    {
        var told = new TaskCompletionSource();
        var hold = new TaskCompletionSource();
        string? holder = null;
        var first = Start("a", async () =>
        {
            told.SetResult();
            await hold.Task;
            holder = Holder;
        });
        await PassAsync(() => first.Leads);
        var second = Start("b");
        await RestAsync();
        var stopping = first.StopAsync();
        await told.Task.WaitAsync(_patience);
        Assert.False(second.Leads);
        hold.SetResult();
        await stopping.WaitAsync(_patience);
        Assert.Equal("a", holder);
        await WaitAsync(() => second.Leads);
    }

    [Fact]
    public async Task a_leader_that_cannot_renew_stops_before_anybody_else_can_lead()
    {
        var first = Start("a");
        await PassAsync(() => first.Leads);
        var second = Start("b");
        await RestAsync();
        _server.Intercept = r => r.Headers.UserAgent.ToString() == "a" ? MemoryApiServer.Status(HttpStatusCode.ServiceUnavailable, "ServiceUnavailable", "no") : null;
        var cut = _time.GetUtcNow();
        DateTimeOffset? stopped = null;
        await PassAsync(() =>
        {
            stopped ??= first.Leads ? null : _time.GetUtcNow();
            Assert.False(first.Leads && second.Leads);
            return second.Leads;
        });
        Assert.InRange(stopped!.Value - cut, 12 * _second, 21 * _second);
        Assert.InRange(_time.GetUtcNow() - cut, 22 * _second, 32 * _second);
        _server.Intercept = null;
        for (var more = 0; more < 30; more++)
        {
            await StepAsync(_second);
        }

        Assert.False(first.Leads);
        Assert.Equal(1, second.Terms);
    }

    [Fact]
    public async Task a_renewal_that_hangs_does_not_hold_up_the_deadline()
    {
        var first = Start("a");
        await PassAsync(() => first.Leads);
        first.Hang = true;
        await PassAsync(() => !first.Leads);
        Assert.InRange(_time.GetUtcNow() - _time.Start, 0 * _second, 30 * _second);
        first.Hang = false;
        await StepAsync(10 * _second); // giving back hangs as well, for a shorter time
        await RestAsync();
    }

    [Fact]
    public async Task an_answer_that_was_lost_does_not_cost_the_lead()
    {
        var first = Start("a");
        await PassAsync(() => first.Leads);

        // As if a renewal had reached the server and its answer had not come back: the version is another, the holder is the same.
        var renewed = _server.Find(LeasePath)!;
        renewed["spec"]!["renewTime"] = "2026-01-01T00:00:01.000000Z";
        _ = _server.Put(LeasePath[..LeasePath.LastIndexOf('/')], renewed.ToJsonString());
        for (var second = 0; second < 60; second++)
        {
            await StepAsync(_second);
        }

        Assert.True(first.Leads);
        Assert.Equal(1, first.Terms);
    }

    [Fact]
    public async Task a_leader_that_finds_another_holder_stops_at_once()
    {
        var first = Start("a");
        await PassAsync(() => first.Leads);
        var stolen = _server.Find(LeasePath)!;
        stolen["spec"]!["holderIdentity"] = "thief";
        _ = _server.Put(LeasePath[..LeasePath.LastIndexOf('/')], stolen.ToJsonString());
        await PassAsync(() => !first.Leads);
        Assert.True(_time.GetUtcNow() - _time.Start < 10 * _second);
        Assert.Equal("thief", Holder);
    }

    [Theory]
    [InlineData(-24)]
    [InlineData(0)]
    [InlineData(24)]
    public async Task what_a_holders_clock_says_does_not_matter(int hours)
    {
        var written = _time.GetUtcNow().AddHours(hours).UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss.ffffff'Z'");
        _ = _server.Put(
            LeasePath[..LeasePath.LastIndexOf('/')],
            $$$"""{"metadata":{"name":"leader","namespace":"skiff-system"},"spec":{"holderIdentity":"dead","leaseDurationSeconds":30,"renewTime":"{{{written}}}","acquireTime":"{{{written}}}"}}""");
        var begun = _time.GetUtcNow();
        var candidate = Start("a");
        await PassAsync(() => candidate.Leads);
        Assert.InRange(_time.GetUtcNow() - begun, 30 * _second, 32 * _second);
    }

    [Fact]
    public async Task work_that_ends_by_itself_ends_the_candidacy()
    {
        var ended = Start("a", () => Task.CompletedTask, endsByItself: true);
        await ended.Running.WaitAsync(_patience);
        Assert.Equal("", Holder);
    }

    [Fact]
    public async Task work_that_throws_gives_the_lease_back_and_the_exception_on()
    {
        var failing = Start("a", () => throw new InvalidOperationException("a fault"), endsByItself: true);
        _ = await Assert.ThrowsAsync<InvalidOperationException>(() => failing.Running.WaitAsync(_patience));
        Assert.Equal("", Holder);
        _candidates.Clear();
    }

    [Fact]
    public void times_that_would_let_two_lead_are_refused()
    {
        using var client = new KubeClient(_server, new Uri("http://api"), null, null, "a", _time);
        var options = new LeaderElectionOptions { Namespace = "n", Name = "l", Identity = "a", RenewDeadline = 30 * _second, LeaseDuration = 30 * _second };
        _ = Assert.Throws<ArgumentException>(() => new LeaderElector(client, options, NullLogger.Instance, _time));
    }

    private string? Holder => (string?)_server.Find(LeasePath)?["spec"]?["holderIdentity"];

    private int? Transitions => (int?)_server.Find(LeasePath)?["spec"]?["leaseTransitions"];

    private Candidate Start(string name, Func<Task>? last = null, bool endsByItself = false)
    {
        var candidate = new Candidate(name, _server, _time, last ?? (() => Task.CompletedTask), endsByItself);
        _candidates.Add(candidate);
        return candidate;
    }

    /// <summary>
    /// Waits until every candidate waits for the clock: what it does when it is woken is done in this time, however slow the machine is.
    /// </summary>
    private Task RestAsync() => WaitAsync(() => _candidates.TrueForAll(c => c.Rests));

    private async Task StepAsync(TimeSpan by)
    {
        _time.Advance(by);
        await RestAsync();
    }

    private static async Task WaitAsync(Func<bool> condition) => Assert.True(await Until.HoldsAsync(() => Task.FromResult(condition()), _patience));

    private async Task PassAsync(Func<bool> condition)
    {
        await RestAsync();
        for (var second = 0; second < 120 && !condition(); second++)
        {
            await StepAsync(_second);
        }

        Assert.True(condition());
    }

    private sealed class Candidate : IDisposable
    {
        private readonly CancellationTokenSource _stop = new();
        private readonly WaitCounter _time;
        private readonly LeaderElector _elector;
        private volatile bool _hangs;

        public Candidate(string name, MemoryApiServer server, TimeProvider clock, Func<Task> last, bool endsByItself)
        {
            Name = name;
            var time = _time = new WaitCounter(clock);
            var client = new KubeClient(new Line(server, this), new Uri("http://api"), null, null, name, time);
            _elector = new LeaderElector(
                client, new LeaderElectionOptions { Namespace = "skiff-system", Name = "leader", Identity = name }, NullLogger.Instance, time);
            Running = _elector.RunAsync(
                async stop =>
                {
                    Terms++;
                    Leads = true;
                    try
                    {
                        if (!endsByItself)
                        {
                            await Task.Delay(Timeout.Infinite, stop);
                        }
                    }
                    finally
                    {
                        await last();
                        Leads = false;
                    }
                },
                _stop.Token);
        }

        public string Name { get; }

        public volatile bool Leads;

        public volatile bool Hang;

        public int Terms { get; private set; }

        public Task Running { get; }

        /// <summary>Whether only the clock, or the end of a request that hangs, brings it on.</summary>
        public bool Rests => Running.IsCompleted || ((_time.Waits > 0 || _hangs) && _elector.Leads == Leads);

        public async Task StopAsync()
        {
            await _stop.CancelAsync();
            await Running.WaitAsync(_patience);
        }

        public void Dispose() => _stop.Dispose();

        /// <summary>A candidate's own way to the server.</summary>
        private sealed class Line(MemoryApiServer server, Candidate candidate) : DelegatingHandler(server)
        {
            protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
            {
                if (candidate.Hang)
                {
                    candidate._hangs = true;
                    await using var ended = cancellationToken.Register(() => candidate._hangs = false);
                    await Task.Delay(Timeout.Infinite, cancellationToken);
                }

                return await base.SendAsync(request, cancellationToken);
            }
        }
    }
}
