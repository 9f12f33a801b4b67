using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging.Abstractions;
using Skiff.Kubernetes;
using Skiff.Kubernetes.Events;
using Skiff.Operator.Agent;
using Skiff.Operator.Cluster;
using Skiff.Operator.Node;
using Skiff.Testing;

namespace Skiff.Operator.Tests;

/// <summary>An API server in memory, with the operator's parts on it as they run in a cluster; only the nodes' installers are not real.</summary>
internal sealed class World : IAsyncDisposable
{
    public const string Shims = "apis/runtime.skiff.dev/v1alpha1/shims";
    public const string Installations = "apis/runtime.skiff.dev/v1alpha1/shiminstallations";
    public const string RuntimeClasses = "apis/node.k8s.io/v1/runtimeclasses";
    public const string Nodes = "api/v1/nodes";
    public const string Pods = "api/v1/namespaces/default/pods";

    private static readonly TimeSpan _patience = TimeSpan.FromSeconds(60);

    private readonly List<Running> _parts = [];

    public MemoryApiServer Server { get; } = new();

    public KubeClient Client => field ??= new KubeClient(Server, new Uri("http://api"), null, null, "test", TimeProvider.System);

    public void AddNode(string name, string labels = "") => Server.Put(
        Nodes, $$"""{"metadata":{"name":"{{name}}","labels":{"kubernetes.io/os":"linux"{{labels}}} },"status":{"conditions":[{"type":"Ready","status":"True"}]} }""");

    public void AddShim(string spec = "{}", string name = "skiff") => Server.Put(Shims, $$"""{"metadata":{"name":"{{name}}"},"spec":{{spec}} }""");

    public void AddPod(string name, string node, string runtimeClass = "skiff") => Server.Put(
        Pods, $$"""{"metadata":{"name":"{{name}}","namespace":"default"},"spec":{"nodeName":"{{node}}","runtimeClassName":"{{runtimeClass}}"},"status":{"phase":"Running"} }""");

    public Running StartCluster()
    {
        var events = new EventRecorder(Client, "test", "cluster", NullLogger.Instance, TimeProvider.System);
        var part = new ClusterPart(Client, events, NullLoggerFactory.Instance, TimeProvider.System);
        return Start(part.RunAsync, events);
    }

    public Running StartAgent(string node, FakeInstaller installer)
    {
        var events = new EventRecorder(Client, "test", node, NullLogger.Instance, TimeProvider.System);
        var part = new AgentPart(node, "/bundle", "1.2.3", Client, installer, events, NullLogger.Instance, TimeProvider.System);
        return Start(part.RunAsync, events);
    }

    /// <summary>Deletes as kubectl does.</summary>
    public async Task DeleteShimAsync(string name = "skiff") =>
        Assert.Null(await Client.DeleteAsync(Operator.Api.Shim.Resource, ObjectKey.Cluster(name), null, default));

    public string? Phase(string node, string shim = "skiff") => (string?)Server.Find($"{Installations}/{shim}.{node}")?["status"]?["phase"];

    public string? Label(string node, string shim = "skiff") => (string?)Server.Find($"{Nodes}/{node}")?["metadata"]?["labels"]?[$"shim.skiff.dev/{shim}"];

    public JsonNode? Condition(string type, string shim = "skiff") =>
        (Server.Find($"{Shims}/{shim}")?["status"]?["conditions"] as JsonArray)?.FirstOrDefault(c => (string?)c!["type"] == type);

    public IReadOnlyList<string> Events(string kind) =>
    [
        .. Server.All("apis/events.k8s.io/v1").Where(e => (string?)e["regarding"]?["kind"] == kind).Select(e => $"{e["type"]} {e["reason"]}"),
    ];

    public async Task WaitAsync(Func<bool> condition, [System.Runtime.CompilerServices.CallerArgumentExpression(nameof(condition))] string what = "")
    {
        var held = await Until.HoldsAsync(
            () =>
            {
                Assert.All(_parts, p => Assert.False(p.Task.IsFaulted, p.Task.Exception?.ToString()));
                return Task.FromResult(condition());
            },
            _patience);
        Assert.True(held, $"{what}\n{string.Join('\n', Server.All("apis").Select(o => o.ToJsonString()))}");
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var part in _parts)
        {
            await part.StopAsync();
            part.Dispose();
        }

        Client.Dispose();
        Server.Dispose();
    }

    private Running Start(Func<CancellationToken, Task> run, EventRecorder events)
    {
        var part = new Running(run, events);
        _parts.Add(part);
        return part;
    }

    internal sealed class Running(Func<CancellationToken, Task> run, EventRecorder events) : IDisposable
    {
        private readonly CancellationTokenSource _stop = new();

        public Task Task => field ??= run(_stop.Token);

        /// <summary>Ends it as SIGTERM does.</summary>
        public async Task StopAsync()
        {
            await _stop.CancelAsync();
            await Task.WaitAsync(_patience);
            await events.DisposeAsync();
        }

        public void Dispose() => _stop.Dispose();
    }
}

/// <summary>A node's installer that does what a test says.</summary>
internal sealed class FakeInstaller : INodeInstaller
{
    private readonly Lock _lock = new();
    private readonly List<string> _calls = [];
    private int _running;

    public Func<NodeInstallRequest, CancellationToken, Task<InstallOutcome>> Install { get; set; } = (_, _) => Task.FromResult(Outcome(InstallResult.Done));

    public Func<NodeUninstallRequest, Task<InstallOutcome>> Uninstall { get; set; } = _ => Task.FromResult(Outcome(InstallResult.Done));

    /// <summary>Whether two calls were ever under way at once.</summary>
    public bool Overlapped { get; private set; }

    public IReadOnlyList<string> Calls
    {
        get
        {
            lock (_lock)
            {
                return [.. _calls];
            }
        }
    }

    public static InstallOutcome Outcome(InstallResult result, string message = "as wanted", int restarts = 0) => new(result, message)
    {
        Reason = result == InstallResult.Done ? "Installed" : "Because",
        Restarts = restarts,
        Bundle = "abc",
        ContainerdVersion = "2.1.9",
        ConfigPath = "/etc/containerd/config.toml",
    };

    public Task<InstallOutcome> InstallAsync(NodeInstallRequest request, IProgress<InstallStep>? progress, CancellationToken cancellation) =>
        CallAsync($"install {request.Handler}", () => Install(request, cancellation));

    public Task<InstallOutcome> UninstallAsync(NodeUninstallRequest request, IProgress<InstallStep>? progress, CancellationToken cancellation) =>
        CallAsync($"uninstall {request.Handler}{(request.Force ? " by force" : "")}", () => Uninstall(request));

    public Task<NodeStatus> StatusAsync(string handler, CancellationToken cancellation) => throw new NotSupportedException("the agent has no use for it");

    private async Task<InstallOutcome> CallAsync(string call, Func<Task<InstallOutcome>> work)
    {
        lock (_lock)
        {
            _calls.Add(call);
            Overlapped |= _running++ > 0;
        }

        try
        {
            return await work();
        }
        finally
        {
            lock (_lock)
            {
                _running--;
            }
        }
    }
}
