using System.Collections.Concurrent;
using System.Globalization;
using System.Text;
using Skiff.Kubernetes.Events;
using Skiff.Kubernetes.Leadership;
using Skiff.Kubernetes.Watching;
using Skiff.Linux.Files;
using Skiff.Linux.Processes;
using Skiff.Testing;

namespace Skiff.Kubernetes.Tests;

/// <summary>
/// Against a real kube-apiserver, which Skiff.EndToEnd has: it runs these with its cluster. By hand (-explicit only): SKIFF_E2E_KUBECONFIG names an administrator's kubeconfig, and this process runs where its address is
/// reachable (<c>nsenter --net=/run/netns/kcp</c> for the shared cluster). kubectl is sought on PATH and in <c>../../bin</c> from the
/// kubeconfig's folder, and the server's process id in <c>../run/kube-apiserver.pid</c>, as the shared cluster has them.
/// </summary>
public sealed class RealApiServerTests(ITestOutputHelper output) : IAsyncLifetime
{
    private const string Definition = """
        apiVersion: apiextensions.k8s.io/v1
        kind: CustomResourceDefinition
        metadata: {name: things.skiff.test}
        spec:
          group: skiff.test
          scope: Cluster
          names: {kind: Thing, listKind: ThingList, plural: things, singular: thing}
          versions:
          - name: v1
            served: true
            storage: true
            subresources: {status: {}}
            schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
        """;

    private static readonly TimeSpan _patience = TimeSpan.FromSeconds(180); // a restarted server may need one, and the informer waits up to 30 s between tries
    private static readonly string? _kubeconfig = Environment.GetEnvironmentVariable("SKIFF_E2E_KUBECONFIG");

    private readonly string _id = Guid.NewGuid().ToString("n")[..8];
    private readonly OutputLogger _log = new(output); // a rare failure must tell why
    private KubeClient? _client;

    private KubeClient Client => _client!;

    public async ValueTask InitializeAsync()
    {
        Assert.True(_kubeconfig is not null, "SKIFF_E2E_KUBECONFIG is not set: no API server to test against");
        var connected = KubeClient.Connect(_kubeconfig, "skiff-test/1.0", TimeProvider.System);
        Assert.Null(connected.Error);
        _client = connected.Value;
        _ = await KubectlAsync(Definition, "apply", "-f", "-");
        _ = await KubectlAsync("", "wait", "--for=condition=Established", "crd/things.skiff.test", "--timeout=60s");
        await WaitAsync(async () => (await Client.ListAsync(Thing.Resource, Selection.All, default)).Error is null);
    }

    public ValueTask DisposeAsync()
    {
        _client?.Dispose();
        return ValueTask.CompletedTask;
    }

    [Fact(Explicit = true)]
    public async Task apply_status_conflicts_preconditions_and_errors_are_as_the_client_says()
    {
        var key = ObjectKey.Cluster(_id);
        var first = (await Client.ApplyAsync(Thing.Resource, Thing.Named(_id, 1), "one", force: false, default)).Value!;
        Assert.Equal((1, 1L), (first.Spec!.Size, first.Metadata.Generation));
        Assert.Equal(first, (await Client.ApplyAsync(Thing.Resource, Thing.Named(_id, 1), "one", force: false, default)).Value! with { Metadata = first.Metadata });

        Assert.Equal(ApiErrorKind.Conflict, (await Client.ApplyAsync(Thing.Resource, Thing.Named(_id, 2), "two", force: false, default)).Error!.Kind);
        Assert.Equal(2, (await Client.ApplyAsync(Thing.Resource, Thing.Named(_id, 2), "two", force: true, default)).Value!.Spec!.Size);

        var status = new ThingStatus
        {
            Phase = "On",
            Conditions = [new Condition { Type = "Ready", Status = "True", Reason = "Because", Message = "x", LastTransitionTime = TimeProvider.System.GetUtcNow() }],
        };
        var withStatus = (await Client.ApplyStatusAsync(Thing.Resource, Thing.Named(_id, 99) with { Status = status }, "one", force: true, default)).Value!;
        Assert.Equal((2, "On", 2L), (withStatus.Spec!.Size, withStatus.Status!.Phase, withStatus.Metadata.Generation));
        var again = (await Client.ApplyStatusAsync(Thing.Resource, new Thing { Metadata = new ObjectMeta { Name = _id }, Status = withStatus.Status }, "one", force: true, default)).Value!;
        Assert.Equal(withStatus.Metadata.ResourceVersion, again.Metadata.ResourceVersion);
        var patched = (await Client.MergePatchStatusAsync(Thing.Resource, key, new() { ["status"] = new System.Text.Json.Nodes.JsonObject { ["phase"] = "Off" } }, default)).Value!;
        Assert.Equal(("Off", 1), (patched.Status!.Phase, patched.Status.Conditions!.Count));

        Assert.Equal(ApiErrorKind.Conflict, (await Client.UpdateAsync(Thing.Resource, first, default)).Error!.Kind);
        Assert.Equal(7, (await Client.UpdateAsync(Thing.Resource, patched with { Spec = new ThingSpec { Size = 7 } }, default)).Value!.Spec!.Size);
        Assert.Equal(ApiErrorKind.AlreadyExists, (await Client.CreateAsync(Thing.Resource, Thing.Named(_id), default)).Error!.Kind);
        Assert.Equal(ApiErrorKind.Conflict, (await Client.DeleteAsync(Thing.Resource, key, new DeletePreconditions { Uid = "another" }, default))!.Kind);
        Assert.Null(await Client.DeleteAsync(Thing.Resource, key, new DeletePreconditions { Uid = first.Metadata.Uid }, default));
        Assert.Equal(ApiErrorKind.NotFound, (await Client.GetAsync(Thing.Resource, key, default)).Error!.Kind);
    }

    [Fact(Explicit = true)]
    public async Task a_watch_survives_a_restart_of_the_api_server()
    {
        var pidFile = Path.GetFullPath(Path.Combine(Path.GetDirectoryName(_kubeconfig!)!, "..", "run", "kube-apiserver.pid"));
        Assert.True(File.Exists(pidFile), $"no {pidFile}: it says which process to restart");
        var seen = new ConcurrentDictionary<string, int>();
        var informer = new Informer<Thing>(
            Client, Thing.Resource, new InformerOptions<Thing> { Selection = new Selection { Labels = $"run={_id}" } }, _log, TimeProvider.System);
        informer.OnChange(c => seen.AddOrUpdate($"{c.Kind} {c.Current.Metadata.Name}", 1, (_, n) => n + 1));
        using var stop = new CancellationTokenSource();
        var running = informer.RunAsync(stop.Token);
        await CreateAsync("before");
        await WaitAsync(() => Task.FromResult(informer.Get(ObjectKey.Cluster($"before-{_id}")) is not null));

        var pid = int.Parse(await File.ReadAllTextAsync(pidFile), CultureInfo.InvariantCulture);
        var command = Encoding.UTF8.GetString(await File.ReadAllBytesAsync($"/proc/{pid}/cmdline")).TrimEnd('\0').Split('\0');
        using (var old = PidFds.Open(pid)!)
        {
            // Its command line is gone before its sockets are closed; the descriptor can be read when all of it is, so that the port is free.
            Assert.True(PidFds.Signal(old, Signals.Kill));
            await Readiness.ReadableAsync(old, TestContext.Current.CancellationToken);
        }

        var server = Reaper.Shared.Spawn(new SpawnRequest { Path = command[0], Arguments = command, NewSession = true });
        await File.WriteAllTextAsync(pidFile, $"{server.Pid}\n");

        await CreateAsync("after");
        await WaitAsync(() => Task.FromResult(informer.Get(ObjectKey.Cluster($"after-{_id}")) is not null));
        Assert.Null(await Client.DeleteAsync(Thing.Resource, ObjectKey.Cluster($"before-{_id}"), null, default));
        await WaitAsync(() => Task.FromResult(informer.Get(ObjectKey.Cluster($"before-{_id}")) is null));
        Assert.Equal(
            [$"Added after-{_id} 1", $"Added before-{_id} 1", $"Deleted before-{_id} 1"], seen.Select(s => $"{s.Key} {s.Value}").Order(StringComparer.Ordinal));
        await stop.CancelAsync();
        await running.WaitAsync(_patience);
        Assert.Null(await Client.DeleteAsync(Thing.Resource, ObjectKey.Cluster($"after-{_id}"), null, default));
    }

    [Fact(Explicit = true)]
    public async Task a_lease_is_taken_over_at_once_when_it_is_given_back_and_after_its_time_when_it_is_not()
    {
        var (a, stopA) = Candidate("a");
        await WaitAsync(() => Task.FromResult(a.Elector.Leads));
        var (b, stopB) = Candidate("b");
        await stopA.CancelAsync();
        await a.Running.WaitAsync(_patience);
        await WaitAsync(() => Task.FromResult(b.Elector.Leads));

        // As if the machine of b were gone: nobody gives the lease back, and nobody renews it.
        using var cut = KubeClient.Connect(_kubeconfig, "skiff-test/1.0", TimeProvider.System).Value!;
        var held = (await cut.GetAsync(Lease.Resource, new ObjectKey("default", $"skiff-{_id}"), default)).Value!;
        await stopB.CancelAsync();
        await b.Running.WaitAsync(_patience);
        var given = (await cut.GetAsync(Lease.Resource, new ObjectKey("default", $"skiff-{_id}"), default)).Value!;
        Assert.Equal("", given.Spec!.HolderIdentity ?? "");
        Assert.NotNull((await cut.UpdateAsync(Lease.Resource, given with { Spec = held.Spec }, default)).Value);
        var begun = TimeProvider.System.GetTimestamp();
        var (c, stopC) = Candidate("c");
        await WaitAsync(() => Task.FromResult(c.Elector.Leads));
        Assert.True(TimeProvider.System.GetElapsedTime(begun) > TimeSpan.FromSeconds(5));
        await stopC.CancelAsync();
        await c.Running.WaitAsync(_patience);

        ((LeaderElector Elector, Task Running) Candidate, CancellationTokenSource Stop) Candidate(string identity)
        {
            var stop = new CancellationTokenSource();
            var elector = new LeaderElector(
                Client,
                new LeaderElectionOptions
                {
                    Namespace = "default",
                    Name = $"skiff-{_id}",
                    Identity = identity,
                    LeaseDuration = TimeSpan.FromSeconds(6),
                    RenewDeadline = TimeSpan.FromSeconds(4),
                    RenewPeriod = TimeSpan.FromSeconds(1),
                },
                _log,
                TimeProvider.System);
            return ((elector, elector.RunAsync(lost => Task.Delay(Timeout.Infinite, lost), stop.Token)), stop);
        }
    }

    [Fact(Explicit = true)]
    public async Task events_are_seen_by_kubectl_describe_with_their_count()
    {
        var thing = (await Client.CreateAsync(Thing.Resource, Thing.Named(_id), default)).Value!;
        await using (var recorder = new EventRecorder(Client, "skiff.test/tests", "pod-1", _log, TimeProvider.System))
        {
            for (var i = 0; i < 5; i++)
            {
                recorder.Record(new KubeEvent { Regarding = Thing.Resource.Refer(thing), Reason = "TestReason", Action = "Test", Note = $"it happened to {_id}", Warning = true });
            }

            await recorder.CompleteAsync(_patience);
            Assert.Equal(0, recorder.Dropped);
        }

        var described = await KubectlAsync("", "describe", "things.skiff.test", _id);
        Assert.Matches($@"Warning\s+TestReason\s+\S+ \(x5 over \S+\)\s+skiff\.test/tests\s+it happened to {_id}", described);
        Assert.Null(await Client.DeleteAsync(Thing.Resource, ObjectKey.Cluster(_id), null, default));
    }

    private static async Task WaitAsync(Func<Task<bool>> condition) => Assert.True(await Until.HoldsAsync(condition, _patience));

    private static Task<CommandResult> RunAsync(string path, string input, IReadOnlyList<string> arguments) =>
        Command.RunAsync(new SpawnRequest { Path = path, Arguments = arguments }, _patience, Encoding.UTF8.GetBytes(input));

    private static async Task<string> KubectlAsync(string input, params string[] arguments)
    {
        var folders = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Append(Path.Combine(Path.GetDirectoryName(_kubeconfig!)!, "..", "..", "bin"));
        if (folders.Select(f => Path.Combine(f, "kubectl")).FirstOrDefault(File.Exists) is not { } kubectl)
        {
            throw new InvalidOperationException("no kubectl on PATH");
        }

        var result = await RunAsync(kubectl, input, ["kubectl", "--kubeconfig", _kubeconfig!, .. arguments]);
        Assert.True(result.Exit.Success, result.Error);
        return result.OutputText;
    }

    /// <summary>Creates a thing, as soon as the server takes it.</summary>
    private Task CreateAsync(string name) => WaitAsync(async () =>
    {
        var thing = Thing.Named($"{name}-{_id}");
        var created = await Client.CreateAsync(
            Thing.Resource, thing with { Metadata = thing.Metadata with { Labels = new Dictionary<string, string> { ["run"] = _id } } }, default);
        return created.Error is null or { Kind: ApiErrorKind.AlreadyExists };
    });
}
