using System.Net;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using Skiff.Kubernetes;
using Skiff.Kubernetes.Controllers;
using Skiff.Kubernetes.Events;
using Skiff.Operator.Health;
using Skiff.Testing;

namespace Skiff.Operator.Tests.Health;

public sealed class HealthTests : IAsyncLifetime
{
    private static readonly TimeSpan _patience = TimeSpan.FromSeconds(90);

    private readonly FakeTimeProvider _time = new();
    private readonly MemoryApiServer _server = new();
    private readonly KubeClient _client;
    private readonly EventRecorder _events;
    private readonly WorkQueue<string> _queue;
    private readonly CancellationTokenSource _stop = new();
    private readonly Stuck _stuck = new();
    private readonly OperatorState _state;
    private readonly HttpClient _http = new();
    private Task _running = Task.CompletedTask;
    private bool _synced;

    public HealthTests()
    {
        _client = new KubeClient(_server, new Uri("http://api"), null, null, "test", _time);
        _events = new EventRecorder(_client, "test", "test", NullLogger.Instance, _time);
        _queue = new WorkQueue<string>(TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(1), _time);
        var agent = new Controller<string>("agent", _queue, _stuck, NullLogger.Instance, _time);
        _state = new OperatorState
        {
            Version = "1.2.3",
            Agent = agent,
            HasSynced = () => _synced,
            Cluster = () => null,
            Leads = () => false,
            Events = _events,
        };
    }

    public async ValueTask InitializeAsync()
    {
        var port = new TaskCompletionSource<int>();
        _running = Task.WhenAll(HealthServer.RunAsync(0, _state, NullLoggerFactory.Instance, port.SetResult, _stop.Token), _state.Agent.RunAsync(_stop.Token));
        _http.BaseAddress = new Uri($"http://127.0.0.1:{await port.Task.WaitAsync(_patience)}");
    }

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        await _running.WaitAsync(_patience);
        await _events.DisposeAsync();
        _client.Dispose();
        _server.Dispose();
        _queue.Dispose();
        _http.Dispose();
        _stop.Dispose();
    }

    [Fact]
    public async Task it_is_ready_when_the_state_of_the_cluster_is_known()
    {
        Assert.Equal((HttpStatusCode.ServiceUnavailable, "the state of the cluster has not been read yet\n"), await GetAsync("/readyz"));
        _synced = true;
        Assert.Equal((HttpStatusCode.OK, "ok\n"), await GetAsync("/readyz"));
    }

    [Fact]
    public async Task it_is_alive_until_a_loop_hangs()
    {
        Assert.Equal((HttpStatusCode.OK, "ok\n"), await GetAsync("/healthz"));
        _queue.Add("skiff");
        await _stuck.Begun.Task.WaitAsync(_patience);
        _time.Advance(TimeSpan.FromMinutes(19));
        Assert.Equal(HttpStatusCode.OK, (await GetAsync("/healthz")).Status);
        _time.Advance(TimeSpan.FromMinutes(2));
        Assert.Equal((HttpStatusCode.ServiceUnavailable, "the agent has worked on one Shim for 0:21:00\n"), await GetAsync("/healthz"));
    }

    [Fact]
    public async Task the_figures_are_there_from_the_start_and_are_few()
    {
        var (status, text) = await GetAsync("/metrics");
        Assert.Equal(HttpStatusCode.OK, status);
        Assert.Contains("# TYPE skiff_reconcile_total counter\nskiff_reconcile_total{loop=\"agent\"} 0\nskiff_reconcile_total{loop=\"cluster\"} 0\n", text, StringComparison.Ordinal);
        Assert.Contains("skiff_build_info{version=\"1.2.3\"} 1\n", text, StringComparison.Ordinal);
        Assert.InRange(text.Split('\n').Count(l => l.Length > 0 && l[0] != '#'), 10, 20);
    }

    [Fact]
    public async Task there_is_nothing_else() => Assert.Equal(HttpStatusCode.NotFound, (await GetAsync("/debug")).Status);

    private async Task<(HttpStatusCode Status, string Text)> GetAsync(string path)
    {
        using var answer = await _http.GetAsync(path).WaitAsync(_patience);
        return (answer.StatusCode, await answer.Content.ReadAsStringAsync());
    }

    private sealed class Stuck : IReconciler<string>
    {
        public TaskCompletionSource Begun { get; } = new();

        public async Task<ReconcileResult> ReconcileAsync(string key, CancellationToken cancellation)
        {
            Begun.SetResult();
            await Task.Delay(Timeout.Infinite, cancellation);
            return ReconcileResult.Done;
        }
    }
}
