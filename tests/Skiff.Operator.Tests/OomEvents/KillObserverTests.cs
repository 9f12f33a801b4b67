using System.Text.Json;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using Skiff.Containerd.Containers;
using Skiff.Kubernetes;
using Skiff.Kubernetes.Watching;
using Skiff.Linux.Files;
using Skiff.Operator.Api;
using Skiff.Operator.OomEvents;
using Skiff.Testing;

namespace Skiff.Operator.Tests.OomEvents;

public sealed class KillObserverTests : IAsyncDisposable
{
    private const string Pods = "api/v1/namespaces/ns/pods";
    private const string Container = "b7dc91347d1a098271e5b87b8c2127a8847b69898ced6778859ab5ca2df00acd";
    private const string Other = "0123456789012345678901234567890123456789012345678901234567890123";
    private const ulong Limit = 16 << 20;

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("skf-observer-");
    private readonly CountingTime _time = new();
    private readonly CancellationTokenSource _stop = new();
    private readonly MemoryApiServer _server = new();
    private readonly KubeClient _client;
    private readonly Informer<Pod> _pods;
    private readonly PodDirectory _directory;
    private readonly KillLedger _ledger;
    private readonly KillObserver _observer;
    private readonly Task _running;

    public KillObserverTests()
    {
        _client = new KubeClient(_server, new Uri("http://api"), null, null, "test", TimeProvider.System);
        _pods = new Informer<Pod>(_client, Pod.Resource, new() { Trim = Pod.Trim }, NullLogger.Instance, TimeProvider.System);
        _directory = new PodDirectory(_pods, null, _time);
        _ledger = KillLedger.Open(new RootedTree("/"), _folder.FullName, "boot", onWorkload: false, NullLogger.Instance, _time);
        _observer = new KillObserver(
            observer => new CgroupWatch(_folder.FullName, null, _ledger, observer.Seen, observer.RanOut, NullLogger.Instance, _time),
            _ledger,
            _directory,
            new KernelLog(),
            new ContainerCounts("level"),
            new ContainerCounts("reason"),
            NullLogger.Instance,
            _time,
            _stop.Token);
        _running = _pods.RunAsync(_stop.Token);
    }

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        await _running.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await _observer.CompleteAsync();
        _observer.Watch.Dispose();
        _client.Dispose();
        _server.Dispose();
        _stop.Dispose();
        _folder.Delete(recursive: true);
    }

    [Fact]
    public Task what_was_counted_is_told_though_the_pods_status_knows_the_containers_name_first() => Task.Run(async () => // where a timer's work is done when it fires
    {
        var pod = """{"metadata":{"name":"p","namespace":"ns"},"spec":{"containers":[{"name":"app"},{"name":"side"}]},"status":STATUS}""";
        var uid = (string)_server.Put(Pods, pod.Replace("STATUS", "{}", StringComparison.Ordinal))["metadata"]!["uid"]!;
        await Eventually.HoldsAsync(() => _directory.Knows(uid));

        // 1. It is counted, has settled, and waits for somebody to know the container's name: it asks at 5, 55, 255, 455 … ms.
        _observer.Seen(new Sighting(uid, Container, 1, KillLevel.Container, _time.GetUtcNow())
        {
            Container = new MemoryReading { Limit = Limit, Peak = Limit },
            CountedInContainer = 1,
            CountedInPod = 1,
        });
        await Eventually.HoldsAsync(() => _time.Timers == 1);
        Advance(100);
        Assert.Equal(3, _time.Timers);

        // 2. The status is given two seconds for what counts, and is looked at at 2105 ms; that the name is known to us as well shows between 2055 and 2255 ms.
        var ended = pod.Replace("STATUS", $$$$"""
            {"containerStatuses":[{"name":"app","state":{"terminated":{"reason":"OOMKilled","exitCode":137,"finishedAt":"2999-01-01T00:00:00Z","containerID":"containerd://{{{{Container}}}}"}}}]}
            """, StringComparison.Ordinal);
        var changed = JsonSerializer.Deserialize(ended, ApiJson.Default.Pod)!;
        var timers = _time.Timers;
        _observer.Changed(changed with { Metadata = changed.Metadata with { Uid = uid } });
        await Eventually.HoldsAsync(() => _time.Timers == timers + 1);
        Advance(1995);
        _ = _server.Put(Pods, ended);
        await Eventually.HoldsAsync(() => _pods.List() is [var known] && PodDirectory.NameOf(known, Container) == "app");
        Assert.Empty(_ledger.Series());
        Advance(200);
        Assert.StartsWith("container app used all of its memory limit of 16Mi", Assert.Single(_ledger.Series()).Note, StringComparison.Ordinal);
    });

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task an_exit_that_nobody_counted_is_a_memory_kill_when_memory_had_run_out_whichever_is_heard_of_first(bool exitIsFirst)
    {
        var uid = (string)_server.Put(Pods, $$$$"""
            {"metadata":{"name":"p","namespace":"ns"},"spec":{"containers":[{"name":"app"},{"name":"side"}]},"status":{"containerStatuses":[
                {"name":"app","containerID":"containerd://{{{{Container}}}}"}, {"name":"side","containerID":"containerd://{{{{Other}}}}"}]}}
            """)["metadata"]!["uid"]!;
        await Eventually.HoldsAsync(() => _directory.Knows(uid));
        _observer.Happened(new ContainerExit(Other, 137)); // killed by somebody else
        foreach (var exits in new[] { exitIsFirst, !exitIsFirst })
        {
            if (exits)
            {
                _observer.Happened(new ContainerExit(Container, 137));
            }
            else
            {
                _observer.RanOut(Container);
            }
        }

        await _observer.CompleteAsync();
        var told = Assert.Single(_ledger.Series());
        Assert.Equal(("OOMKilled", "spec.containers{app}", 1), (told.Reason, told.Regarding.FieldPath, told.Count));

        // Words that come later, of the same.
        _observer.RanOut(Container);
        _observer.Happened(new ContainerExit(Container, 137));
        await _observer.CompleteAsync();
        Assert.Equal(1, Assert.Single(_ledger.Series()).Count);
    }

    private void Advance(int milliseconds)
    {
        for (var i = 0; i < milliseconds; i += 5)
        {
            _time.Advance(TimeSpan.FromMilliseconds(5));
        }
    }

    /// <summary>Tells when somebody waits.</summary>
    private sealed class CountingTime() : FakeTimeProvider(new DateTimeOffset(2026, 1, 1, 0, 0, 0, TimeSpan.Zero))
    {
        private int _timers;

        public int Timers => Volatile.Read(ref _timers);

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
        {
            var timer = base.CreateTimer(callback, state, dueTime, period);
            _ = Interlocked.Increment(ref _timers);
            return timer;
        }
    }
}
