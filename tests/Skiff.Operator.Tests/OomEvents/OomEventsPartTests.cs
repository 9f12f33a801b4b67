using System.Net;
using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging.Abstractions;
using Skiff.Kubernetes;
using Skiff.Kubernetes.Events;
using Skiff.Kubernetes.Watching;
using Skiff.Linux.Files;
using Skiff.Operator.Api;
using Skiff.Operator.OomEvents;
using Skiff.Testing;

namespace Skiff.Operator.Tests.OomEvents;

/// <summary>The part as it runs without access to containerd: real cgroups of this machine, real kills; the API server is in memory.</summary>
public sealed class OomEventsPartTests : IAsyncLifetime
{
    private const string Pods = "api/v1/namespaces/ns/pods";
    private const string Container = "b7dc91347d1a098271e5b87b8c2127a8847b69898ced6778859ab5ca2df00acd";
    private const long Limit = 16 << 20;

    private static readonly TimeSpan _patience = TimeSpan.FromSeconds(90);

    private readonly MemoryApiServer _server = new();
    private readonly DirectoryInfo _spool = Directory.CreateTempSubdirectory("skf-spool-");
    private readonly List<Agent> _agents = [];
    private PodCgroups _cgroups = null!;

    public ValueTask InitializeAsync()
    {
        _cgroups = new PodCgroups();
        return ValueTask.CompletedTask;
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var agent in _agents)
        {
            await agent.StopAsync();
            agent.Dispose();
        }

        if (_cgroups is not null)
        {
            await _cgroups.DisposeAsync();
        }

        _server.Dispose();
        _spool.Delete(recursive: true);
    }

    [Fact]
    public async Task a_container_that_dies_at_its_limit_has_one_event()
    {
        var uid = AddPod(Container);
        var agent = await StartAsync();
        var folder = PodCgroups.AddContainer(_cgroups.AddPod(uid, Limit * 4), Container, Limit);
        await _cgroups.KillAsync(folder);
        var written = await EventAsync();
        Assert.Equal("OOMKilled", (string)written["reason"]!);
        Assert.Equal("Warning", (string)written["type"]!);
        Assert.Equal("""{"apiVersion":"v1","kind":"Pod","namespace":"ns","name":"p","uid":"UID","fieldPath":"spec.containers{app}"}""".Replace("UID", uid, StringComparison.Ordinal), written["regarding"]!.ToJsonString());
        Assert.StartsWith("container app used all of its memory limit of 16Mi: the kernel killed", (string)written["note"]!, StringComparison.Ordinal);
        await agent.StopAsync();
        Assert.Single(Events());
        Assert.Equal([("namespace=\"ns\",pod=\"p\",container=\"app\",level=\"container\"", 1d)], agent.Part.Metrics.Read());
    }

    [Fact]
    public async Task a_child_that_is_killed_while_init_lives_has_its_own_reason()
    {
        var uid = AddPod(Container);
        _ = await StartAsync();
        var folder = PodCgroups.AddContainer(_cgroups.AddPod(uid), Container, Limit);
        var init = _cgroups.Run(folder, "grow.native", "child");
        Assert.Equal("ChildOOMKilled", (string)(await EventAsync())["reason"]!);
        Assert.False(init.Exit.IsCompleted);
    }

    [Fact]
    public async Task the_pods_limit_is_told_from_the_containers()
    {
        var uid = AddPod(Container);
        _ = await StartAsync();
        var folder = PodCgroups.AddContainer(_cgroups.AddPod(uid, Limit), Container, Limit * 4);
        await _cgroups.KillAsync(folder);
        Assert.StartsWith("the pod used all of its memory limit of 16Mi; container app had used", (string)(await EventAsync())["note"]!, StringComparison.Ordinal);
    }

    [Fact]
    public async Task a_container_without_a_limit_in_a_pod_that_has_one_hit_the_pods()
    {
        var uid = AddPod(Container, """, "resources": {"limits": {"memory": "16Mi"}}""");
        var agent = await StartAsync();
        await _cgroups.KillAsync(PodCgroups.AddContainer(_cgroups.AddPod(uid, Limit * 4), Container, Limit)); // which the kubelet gave it
        var note = (string)(await EventAsync())["note"]!;
        Assert.StartsWith("the pod used all of its memory limit of 16Mi; container app had used 16Mi at most and has no limit of its own", note, StringComparison.Ordinal);
        Assert.EndsWith("Raise spec.resources.limits.memory of the pod, or let its containers use less.", note, StringComparison.Ordinal);
        Assert.Equal([("namespace=\"ns\",pod=\"p\",container=\"app\",level=\"pod\"", 1d)], agent.Part.Metrics.Read());
    }

    [Fact]
    public async Task a_pod_that_is_killed_again_and_again_has_one_event_that_counts()
    {
        var uid = AddPod(Container);
        var agent = await StartAsync();
        var pod = _cgroups.AddPod(uid, Limit * 4);
        for (var i = 0; i < 5; i++)
        {
            var folder = PodCgroups.AddContainer(pod, $"{i}{Container[1..]}", Limit);
            await _cgroups.KillAsync(folder);
            await Eventually.HoldsAsync(() => agent.Part.Metrics.Total == i + 1);
            await PodCgroups.RemoveAsync(folder);
        }

        await agent.StopAsync();
        var written = Assert.Single(Events());
        Assert.Equal(5, (int)written["series"]!["count"]!);
    }

    [Fact]
    public async Task what_was_killed_while_no_agent_ran_is_told_by_the_next_and_only_that()
    {
        var uid = AddPod(Container);
        var pod = _cgroups.AddPod(uid, Limit * 4);
        var folder = PodCgroups.AddContainer(pod, Container, Limit);
        await _cgroups.KillAsync(folder); // nobody had been asked to watch then
        var first = await StartAsync();
        await Eventually.HoldsAsync(() => first.Part.Watched == 1);
        await first.StopAsync();
        Assert.Empty(Events());

        await _cgroups.KillAsync(folder);
        var second = await StartAsync();
        _ = await EventAsync();
        await second.StopAsync();

        var third = await StartAsync();
        await Eventually.HoldsAsync(() => third.Part.Watched == 1);
        await third.StopAsync();
        Assert.Null(Assert.Single(Events())["series"]);
    }

    [Fact]
    public async Task a_server_that_is_away_gets_the_event_once_when_it_is_back_also_from_the_next_agent()
    {
        var uid = AddPod(Container);
        var first = await StartAsync();
        _server.Intercept = request => request.Method == HttpMethod.Get ? null : MemoryApiServer.Status(HttpStatusCode.ServiceUnavailable, "ServiceUnavailable", "soon");
        await _cgroups.KillAsync(PodCgroups.AddContainer(_cgroups.AddPod(uid), Container, Limit));
        await Eventually.HoldsAsync(() => first.Part.Waiting == 1);
        await first.StopAsync();
        _server.Intercept = null;
        Assert.Empty(Events());
        var second = await StartAsync();
        _ = await EventAsync();
        await Eventually.HoldsAsync(() => second.Part.Waiting == 0);
        await second.StopAsync();
        Assert.Single(Events());
    }

    [Fact]
    public async Task a_pod_that_is_deleted_in_the_moment_of_its_kill_still_has_its_event()
    {
        var uid = AddPod(Container);
        var agent = await StartAsync();
        _server.Remove(Pods + "/p");
        await _cgroups.KillAsync(PodCgroups.AddContainer(_cgroups.AddPod(uid), Container, Limit));
        Assert.Equal("p", (string)(await EventAsync())["regarding"]!["name"]!);
    }

    [Fact]
    public async Task a_container_that_the_server_does_not_know_yet_is_found_as_the_only_one_that_it_can_be()
    {
        var uid = AddPod(null);
        _ = await StartAsync();
        await _cgroups.KillAsync(PodCgroups.AddContainer(_cgroups.AddPod(uid), Container, Limit));
        Assert.Equal("spec.containers{app}", (string)(await EventAsync())["regarding"]!["fieldPath"]!);
    }

    [Fact]
    public async Task a_kill_that_only_the_pods_status_knows_is_told()
    {
        _ = await StartAsync();
        _ = _server.Put(Pods, $$$"""
            {"metadata":{"name":"p","namespace":"ns"},"spec":{"nodeName":"node-1","containers":[{"name":"app"}]},
             "status":{"containerStatuses":[{"name":"app","containerID":"containerd://new","state":{"running":{}},
               "lastState":{"terminated":{"reason":"OOMKilled","exitCode":137,"finishedAt":"2999-01-01T00:00:00Z","containerID":"containerd://{{{Container}}}"} } }]} }
            """);
        var written = await EventAsync();
        Assert.Equal("OOMKilled", (string)written["reason"]!);
        Assert.StartsWith("container app was killed for want of memory", (string)written["note"]!, StringComparison.Ordinal);
    }

    [Fact]
    public async Task what_manages_the_pod_has_an_event_too_where_that_is_wanted()
    {
        var uid = AddPod(Container);
        _ = await StartAsync(onWorkloads: true);
        await _cgroups.KillAsync(PodCgroups.AddContainer(_cgroups.AddPod(uid), Container, Limit));
        await Eventually.HoldsAsync(() => Events().Count == 2);
        var workload = Assert.Single(Events(), e => (string)e["regarding"]!["kind"]! == "ReplicaSet");
        Assert.Equal("web", (string)workload["regarding"]!["name"]!);
        Assert.Equal("p", (string)workload["related"]!["name"]!);
        Assert.StartsWith("pod p: container app", (string)workload["note"]!, StringComparison.Ordinal);
    }

    [Fact]
    public async Task a_ledger_that_makes_no_sense_is_put_aside()
    {
        await File.WriteAllTextAsync(Path.Combine(_spool.FullName, KillLedger.FileName), "{\"bootId\":");
        var uid = AddPod(Container);
        _ = await StartAsync();
        await _cgroups.KillAsync(PodCgroups.AddContainer(_cgroups.AddPod(uid), Container, Limit));
        _ = await EventAsync();
        Assert.Equal("{\"bootId\":", await File.ReadAllTextAsync(Path.Combine(_spool.FullName, KillLedger.FileName + ".bad")));
    }

    /// <returns>The uid that the server gives it.</returns>
    private string AddPod(string? container, string spec = "") => (string)_server.Put(Pods, $$$"""
        {"metadata":{"name":"p","namespace":"ns","ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web","uid":"w","controller":true}]},
         "spec":{"nodeName":"node-1","containers":[{"name":"app"}]{{{spec}}}},
         "status":{"phase":"Running","containerStatuses":[{{{(container is null ? "" : $$"""{"name":"app","containerID":"containerd://{{container}}","state":{"running":{} } }""")}}}]} }
        """)["metadata"]!["uid"]!;

    private async Task<Agent> StartAsync(bool onWorkloads = false)
    {
        var agent = new Agent(_server, _cgroups.Root, _spool.FullName, onWorkloads);
        _agents.Add(agent);
        await Eventually.HoldsAsync(() => agent.HasSynced && agent.Part.Problem is null);
        return agent;
    }

    private IReadOnlyList<JsonObject> Events() => _server.All("apis/events.k8s.io/v1");

    private async Task<JsonObject> EventAsync()
    {
        await Eventually.HoldsAsync(() => Events().Count > 0);
        return Events()[0];
    }

    private sealed class Agent : IDisposable
    {
        private readonly CancellationTokenSource _stop = new();
        private readonly KubeClient _client;
        private readonly Informer<Pod> _pods;
        private readonly Task _running;

        public Agent(MemoryApiServer server, string cgroups, string spool, bool onWorkloads)
        {
            var time = TimeProvider.System;
            _client = new KubeClient(server, new Uri("http://api"), null, null, "test", time);
            _pods = new Informer<Pod>(_client, Pod.Resource, new() { Selection = new Selection { Fields = "spec.nodeName=node-1" }, Trim = Pod.Trim }, NullLogger.Instance, time);
            var options = new OomEventsOptions { Cgroups = cgroups, Spool = spool, Files = new RootedTree("/"), Processes = "/proc", OnWorkloads = onWorkloads };
            Part = new OomEventsPart(options, _pods, new EventWriter(_client, "test", "agent"), NullLogger.Instance, time);
            _running = Loops.RunAsync(_stop.Token, _pods.RunAsync, Part.RunAsync);
        }

        public OomEventsPart Part { get; }

        public bool HasSynced => _pods.HasSynced;

        /// <summary>Ends it as SIGTERM does.</summary>
        public async Task StopAsync()
        {
            await _stop.CancelAsync();
            await _running.WaitAsync(_patience);
        }

        public void Dispose()
        {
            _client.Dispose();
            _stop.Dispose();
        }
    }
}
