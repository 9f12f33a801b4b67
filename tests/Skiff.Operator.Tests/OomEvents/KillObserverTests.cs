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
    private const string Cgroup = "/kubepods/burstable/pod0764ffc5-fbbf-4d2a-b69d-70aebde3ef57/" + Container;
    private const ulong Limit = 16 << 20;

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("skf-observer-");
    private readonly CountingTime _time = new();
    private readonly CancellationTokenSource _stop = new();
    private readonly MemoryApiServer _server = new();
    private readonly KubeClient _client;
    private readonly Informer<Pod> _pods;
    private readonly PodDirectory _directory;
    private readonly KernelLog _kernel;
    private readonly KillLedger _ledger;
    private readonly KillObserver _observer;
    private readonly Task _running;
    private string _log = "";

    public KillObserverTests()
    {
        _client = new KubeClient(_server, new Uri("http://api"), null, null, "test", TimeProvider.System);
        _pods = new Informer<Pod>(_client, Pod.Resource, new() { Trim = Pod.Trim }, NullLogger.Instance, TimeProvider.System);
        _directory = new PodDirectory(_pods, null, _time);
        _ledger = KillLedger.Open(new RootedTree("/"), _folder.FullName, "boot", onWorkload: false, NullLogger.Instance, _time);
        _kernel = new KernelLog("/dev/null", () => _log, countsAsWe: true, _time);
        _observer = new KillObserver(
            observer => new CgroupWatch(_folder.FullName, null, _ledger, observer.Seen, NullLogger.Instance, _time),
            _ledger,
            _directory,
            _kernel,
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
        _kernel.Dispose();
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

        // 1. It is counted, has settled at 5 ms, and waits for somebody to know the container's name: it asks at 0, 50, 250, 450 … ms.
        _observer.Seen(new Sighting(uid, Container, 1, KillLevel.Container, _time.GetUtcNow())
        {
            Container = new MemoryReading { Limit = Limit, Peak = Limit },
            CountedInContainer = 1,
            CountedInPod = 1,
        });
        await Eventually.HoldsAsync(() => _time.Timers == 2);
        Advance(100);
        Assert.Equal(3, _time.Timers);

        // 2. The status is given two seconds for what counts, and is looked at at 2100 ms; that the name is known to us as well shows between 2050 and 2250 ms.
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
        _ = await PodAsync();
        _observer.Happened(new ContainerExit(Other, 8, 137)); // killed by somebody else
        foreach (var exits in new[] { exitIsFirst, !exitIsFirst })
        {
            if (exits)
            {
                _observer.Happened(new ContainerExit(Container, 7, 137));
            }
            else
            {
                _observer.Happened(new ContainerOom(Container));
            }
        }

        await _observer.CompleteAsync();
        var told = Assert.Single(_ledger.Series());
        Assert.Equal(("OOMKilled", "spec.containers{app}", 1), (told.Reason, told.Regarding.FieldPath, told.Count));

        // Words that come later, of the same.
        _observer.Happened(new ContainerOom(Container));
        _observer.Happened(new ContainerExit(Container, 7, 137));
        await _observer.CompleteAsync();
        Assert.Equal(1, Assert.Single(_ledger.Series()).Count);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public Task what_was_killed_and_nobody_counted_or_told_of_was_killed_for_memory_if_the_kernels_log_says_so(bool weHearOfTheExit) => Task.Run(async () => // where a timer's work is done when it fires
    {
        var pod = await PodAsync();
        _log = $"<6>[   12.3] oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=x,mems_allowed=0,oom_memcg={Cgroup},task_memcg={Cgroup},task=grow,pid=7,uid=0\n"
            + "<3>[   12.4] Memory cgroup out of memory: Killed process 7 (grow) total-vm:9kB, anon-rss:4096kB, file-rss:0kB, shmem-rss:0kB\n";
        foreach (var (id, pid) in new[] { (Container, 7u), (Other, 8u) })
        {
            if (weHearOfTheExit)
            {
                _observer.Happened(new ContainerExit(id, pid, 137));
            }

            _observer.Changed(Ended(pod, id, "Error"));
        }

        await CompleteAsync();
        var told = Assert.Single(_ledger.Series());
        Assert.Equal("spec.containers{app}", told.Regarding.FieldPath);
        Assert.StartsWith("container app used all of its memory limit: the kernel killed its process grow (pid 7, 4Mi), and the container died", told.Note, StringComparison.Ordinal);
    });

    [Fact]
    public Task who_was_told_of_its_neighbours_lack_of_memory_and_is_killed_by_somebody_else_then_is_no_memory_kill() => Task.Run(async () => // where a timer's work is done when it fires
    {
        var pod = await PodAsync();
        _observer.Seen(new Sighting(pod.Metadata.Uid!, Container, 1, KillLevel.Pod, _time.GetUtcNow()) { CountedInContainer = 1, CountedInPod = 1 });
        _observer.Happened(new ContainerOom(Container));
        _observer.Happened(new ContainerOom(Other)); // cgroup v1: the pod's limit was reached
        await CompleteAsync();
        _observer.Happened(new ContainerExit(Other, 8, 137));
        _observer.Changed(Ended(pod, Other, "OOMKilled")); // which containerd makes of its notice
        await CompleteAsync();
        _observer.Changed(Ended(pod, Other, "OOMKilled"));
        Assert.True(_observer.CompleteAsync().IsCompleted, "it is looked at with each change of its pod");
        var told = Assert.Single(_ledger.Series());
        Assert.Equal(("spec.containers{app}", 1), (told.Regarding.FieldPath, told.Count));
    });

    /// <summary>Waits for what is under way, while time goes on.</summary>
    private async Task CompleteAsync()
    {
        var done = _observer.CompleteAsync();
        await Eventually.HoldsAsync(() =>
        {
            Advance(100);
            return done.IsCompleted;
        });
    }

    /// <summary>A pod of two containers that run.</summary>
    private async Task<Pod> PodAsync()
    {
        var uid = (string)_server.Put(Pods, $$$$"""
            {"metadata":{"name":"p","namespace":"ns"},"spec":{"containers":[{"name":"app"},{"name":"side"}]},"status":{"containerStatuses":[
                {"name":"app","containerID":"containerd://{{{{Container}}}}"}, {"name":"side","containerID":"containerd://{{{{Other}}}}"}]}}
            """)["metadata"]!["uid"]!;
        await Eventually.HoldsAsync(() => _directory.Knows(uid));
        return _pods.List().Single();
    }

    private static Pod Ended(Pod pod, string id, string reason) => pod with
    {
        Status = pod.Status! with
        {
            ContainerStatuses = [.. pod.Status.ContainerStatuses!.Select(s => s.ContainerId != "containerd://" + id ? s : s with
            {
                State = new ContainerState { Terminated = new ContainerStateTerminated { Reason = reason, ExitCode = 137, FinishedAt = DateTimeOffset.MaxValue, ContainerId = s.ContainerId } },
            })],
        },
    };

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
