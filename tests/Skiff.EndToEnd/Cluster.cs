using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using Skiff.Linux.Processes;
using Skiff.Testing;
using Xunit.v3;

// hack/test runs the clusters beside each other, as processes of their own, each in a world of its own (hack/isolate).
[assembly: Parallelization(Mode = Xunit.Sdk.ParallelMode.None)]

namespace Skiff.EndToEnd;

/// <summary>
/// A Kubernetes cluster of two nodes, each a whole machine with its own systemd and containerd, for all tests of one containerd version. A
/// machine, or a world of hack/isolate, can have one such cluster at a time: a collection of tests begins with its own and ends it.
/// </summary>
/// <param name="containerd">The version of its containerds, such as 1.6.</param>
/// <param name="virtualNodes">How many of the two nodes are virtual machines with cgroup v2; their files cannot be seen from here.</param>
public abstract class Cluster(string containerd, int virtualNodes = 0) : IAsyncLifetime
{
    /// <summary>The trait of a class of tests that says on which cluster it runs; hack/test goes by it.</summary>
    public const string On = "cluster";

    private const string Namespace = "skiff-system";

    /// <summary>Long enough for whatever a test waits for, on a busy machine.</summary>
    public static readonly TimeSpan Patience = TimeSpan.FromMinutes(3);

    private static readonly TimeSpan _typedLimit = TimeSpan.FromMinutes(15); // longer than helm and kubectl are told to wait
    private static readonly TimeSpan _startLimit = TimeSpan.FromMinutes(20);
    private static readonly TimeSpan _commandLimit = TimeSpan.FromMinutes(4);

    private readonly string _folder = Directory.CreateTempSubdirectory("skiff-cluster-").FullName;
    private readonly HashSet<string> _loaded = [];
    private string? _missing;
    private ApiServer? _api;

    /// <summary>Both nodes.</summary>
    public IReadOnlyList<ClusterNode> Nodes { get; private set; } = [];

    /// <summary>The version of its containerds, such as 1.6.</summary>
    public string Containerd => containerd;

    /// <summary>Where the API server says what it was asked, a line each.</summary>
    public string AuditLog => Files + "/log/audit.log";

    /// <summary>What the cluster's scripts write: keys, logs, process ids.</summary>
    private string Files => Path.Combine(_folder, "w", "cluster");

    private static string Scripts => Path.Combine(Repository.Shared, "cluster");

    /// <summary>Skips the test, saying what this machine lacks for a cluster.</summary>
    public void Need()
    {
        if (_missing is not null)
        {
            Assert.Skip(_missing);
        }
    }

    /// <summary>Boots the cluster, puts the images on its nodes and starts on each node a pod that no test touches.</summary>
    public async ValueTask InitializeAsync()
    {
        var up = Path.Combine(Scripts, "up.sh");
        var version = ContainerdVersion.Named(containerd);
        var (binaries, lacking) = await version.LocateAsync();
        _missing = Repository.Missing
            ?? (!File.Exists(up) ? $"no {up}: the cluster's scripts come from there" : lacking)
            ?? (!File.Exists(Path.Combine(Repository.Out, "image.tar")) || !File.Exists(Path.Combine(Repository.Out, "hello.tar"))
                ? $"no {Repository.Out}/image.tar or hello.tar: run hack/image operator hello" : null);
        if (_missing is not null)
        {
            return;
        }

        // kubectl and helm, as a person has them in PATH.
        _ = Directory.CreateDirectory(Path.Combine(_folder, "bin"));
        _ = File.CreateSymbolicLink(Path.Combine(_folder, "bin", "kubectl"), Path.Combine(Scripts, "k"));
        _ = File.CreateSymbolicLink(Path.Combine(_folder, "bin", "helm"), Path.Combine(Scripts, "helm"));

        _ = await Machines.ClusterFolderAsync(Path.Combine(_folder, "w"));
        _ = await Machines.VirtualMachineFolderAsync(Path.Combine(_folder, "vm"));
        string[] settings =
        [
            .. version.Suite is null ? (string[])[] : ["CONTAINERD=" + WithoutRunc(binaries!)],
            // The kubelet's two minutes for a start are too few for pods that start together on an emulated processor.
            .. virtualNodes > 0 ? (string[])["KUBELET_EXTRA=--runtime-request-timeout=15m"] : [],
        ];
        // The script ends what is left of a try before.
        var started = await Machines.StartAsync(
            () => RunAsync(_startLimit, default, settings, up, $"{2 - virtualNodes}", $"{virtualNodes}"), result => result.Status == 0 || virtualNodes == 0);
        _ = started.Demand();
        Nodes = [new ClusterNode(this, 1), new ClusterNode(this, 2)];
        _api = new ApiServer(Files + "/pki");
        var guests = Path.Combine(_folder, "guests.tar");
        PrivateContainerd.GuestImage().Save(guests);
        foreach (var image in (string[])[Path.Combine(Repository.Out, "image.tar"), Path.Combine(Repository.Out, "hello.tar"), guests])
        {
            _ = (await RunAsync(_commandLimit, default, [], Path.Combine(Scripts, "load"), image)).Demand();
        }

        foreach (var node in Nodes)
        {
            var bystander = Pods.Native(Bystander(node), node.Name);
            _ = bystander["metadata"]!.AsObject().Remove("labels");
            await ApplyAsync(bystander);
        }

        foreach (var node in Nodes)
        {
            await PodIsReadyAsync(Bystander(node));
            if (node.Index <= 2 - virtualNodes)
            {
                node.Remember();
            }
        }
    }

    /// <summary>Ends the cluster, by its own script.</summary>
    public async ValueTask DisposeAsync()
    {
        if (Nodes.Count > 0)
        {
            _api!.Dispose();
            _ = (await RunAsync(_commandLimit, default, [], Path.Combine(Scripts, "down.sh"))).Demand();
        }

        Directory.Delete(_folder, recursive: true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Runs kubectl as the cluster's administrator; it has to succeed.</summary>
    /// <returns>What it wrote to standard output.</returns>
    public async Task<string> KubectlAsync(params string[] words) => (await TryKubectlAsync(words)).Demand().Output;

    /// <summary>Runs kubectl, which may fail.</summary>
    public Task<CommandText> TryKubectlAsync(params string[] words) => RunAsync(_commandLimit, default, [], Path.Combine(Scripts, "k"), words);

    /// <summary>kubectl apply, or another word, with an object on standard input.</summary>
    public Task<CommandText> KubectlWithAsync(JsonNode input, params string[] words) => KubectlWithAsync(input.ToJsonString(), words);

    /// <summary>The same with text, such as YAML.</summary>
    public Task<CommandText> KubectlWithAsync(string input, params string[] words) =>
        RunAsync(_commandLimit, Encoding.UTF8.GetBytes(input), [], Path.Combine(Scripts, "k"), words);

    /// <summary>Applies an object; it has to be accepted.</summary>
    public async Task ApplyAsync(JsonNode document) => (await KubectlWithAsync(document, "apply", "-f", "-")).Demand();

    /// <summary>An object, read without kubectl; null when there is none, or the API server does not answer.</summary>
    /// <param name="path">Such as <c>api/v1/nodes/node-1</c>.</param>
    public Task<JsonNode?> FindAsync(string path) => _api!.FindAsync(path);

    /// <summary>What <c>kubectl get pod -o jsonpath=</c> gives, without kubectl; empty when the pod is not there.</summary>
    public async Task<string> FieldAsync(string pod, string template) => FieldTemplate.Apply(template, await FindAsync(PodPath(pod)));

    /// <summary>The log of a container, without kubectl; empty when it cannot be had.</summary>
    public async Task<string> LogAsync(string pod, string container) => await _api!.TextAsync($"{PodPath(pod)}/log?container={container}") ?? "";

    /// <summary>The pods of the agents: all, or those on a node.</summary>
    public async Task<JsonArray> AgentPodsAsync(ClusterNode? node = null) => (await FindAsync(
        $"api/v1/namespaces/{Namespace}/pods?labelSelector=app.kubernetes.io/component%3Dagent{(node is null ? "" : "&fieldSelector=spec.nodeName%3D" + node.Name)}"))?["items"]?.AsArray() ?? [];

    /// <summary>The Events of a pod.</summary>
    /// <param name="uid">The pod's.</param>
    public async Task<IReadOnlyList<JsonNode>> EventsAsync(string uid) =>
        [.. ((await FindAsync($"apis/events.k8s.io/v1/namespaces/default/events?fieldSelector=regarding.uid%3D{uid}"))?["items"]?.AsArray() ?? []).Select(e => e!)];

    private static string PodPath(string pod) => "api/v1/namespaces/default/pods/" + pod;

    /// <summary>Puts an image on both nodes, unless that has been done.</summary>
    public async Task LoadAsync(ImageArchive image)
    {
        if (!_loaded.Add(image.Name))
        {
            return;
        }

        var path = Path.Combine(_folder, "image.tar");
        image.Save(path);
        _ = (await RunAsync(_commandLimit, default, [], Path.Combine(Scripts, "load"), path)).Demand();
        File.Delete(path);
    }

    /// <summary>Runs helm, which may fail.</summary>
    public Task<CommandText> TryHelmAsync(params string[] words) => RunAsync(_typedLimit, default, [], Path.Combine(Scripts, "helm"), words);

    /// <summary>Runs a line as a person types it at the root of the checkout; it has to succeed.</summary>
    public async Task<string> TypeAsync(string line) =>
        (await RunAsync(_typedLimit, default, [], "-ec", line)).Demand().Output;

    /// <summary>Forwards a port of a pod and asks it something.</summary>
    /// <param name="what">What kubectl forwards to, such as <c>pod/NAME</c>.</param>
    /// <param name="port">Its port.</param>
    /// <param name="ask">A line for bash, which finds the forwarded port in <c>$port</c>.</param>
    /// <returns>What it wrote.</returns>
    public Task<string> ForwardAsync(string what, int port, string ask) => TypeAsync($$"""
        said=$(mktemp)
        kubectl port-forward {{what}} 0:{{port}} > "$said" & forward=$!
        trap 'kill $forward; rm "$said"' EXIT
        for _ in $(seq 3600); do port=$(sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\) .*/\1/p' "$said"); [ -z "$port" ] || break; sleep 0.05; done
        port=$port nsenter --net=/proc/$forward/ns/net bash -c '{{ask}}'
        """);

    /// <summary>Runs a command in a node.</summary>
    public Task<CommandText> InNodeAsync(int node, params string[] words) =>
        RunAsync(_commandLimit, default, [], Path.Combine(Scripts, "in-node"), [node.ToString(), .. words]);

    /// <summary>Runs a program where the API server's address can be reached, with an administrator's kubeconfig in SKIFF_E2E_KUBECONFIG.</summary>
    public Task<CommandText> BesideTheApiServerAsync(params string[] words) => RunAsync(
        _typedLimit,
        default,
        [$"SKIFF_E2E_KUBECONFIG={Files}/pki/admin.kubeconfig", $"DOTNET_ROOT={Environment.GetEnvironmentVariable("DOTNET_ROOT")}"],
        "-c",
        ["exec nsenter --net=/run/netns/kcp \"$@\"", "nsenter", .. words]);

    /// <summary>Brings the cluster to: the release is installed, with default values, both nodes are ready, and no pod of a test is there.</summary>
    public async Task BeInstalledAsync()
    {
        await BeEmptyAsync();
        await BeInstalledBesideOthersAsync();
    }

    /// <summary>The same for a test that only adds pods, whose names are its own: those of others stay.</summary>
    public async Task BeInstalledBesideOthersAsync()
    {
        Need();
        if (await PhaseAsync(Nodes[0]) == "Ready" && await PhaseAsync(Nodes[1]) == "Ready" && (await TryHelmAsync("status", "skiff", "-n", Namespace)).Status == 0)
        {
            return;
        }

        await BeAbsentAsync();
        foreach (var line in Readme.Install.Where(l => l.StartsWith("helm ", StringComparison.Ordinal)))
        {
            _ = await TypeAsync(line);
        }
    }

    /// <summary>Brings the cluster to: the release is installed with these values.</summary>
    public async Task BeInstalledWithAsync(string values)
    {
        await BeAbsentAsync();
        _ = await TypeAsync($"{Readme.Install[0]} --set {values}");
    }

    /// <summary>Stops the API server for as long as something takes; it does not answer then, and loses nothing.</summary>
    public async Task WithoutTheApiServerAsync(Func<Task> work) =>
        await WithoutAsync(int.Parse(await File.ReadAllTextAsync($"{Files}/run/kube-apiserver.pid"), CultureInfo.InvariantCulture), work);

    /// <summary>Stops a process for as long as something takes, as if the machine had no processor for it.</summary>
    /// <param name="pid">Its id on this machine.</param>
    /// <param name="work">What is done meanwhile.</param>
    public static async Task WithoutAsync(int pid, Func<Task> work)
    {
        const int stop = 19;
        const int goOn = 18;
        using var process = PidFds.Open(pid);
        Assert.True(process is not null && PidFds.Signal(process, stop), $"process {pid} has ended");
        try
        {
            await work();
        }
        finally
        {
            _ = PidFds.Signal(process!, goOn);
        }
    }

    /// <summary>Brings the cluster to: nothing of ours is there.</summary>
    public async Task BeAbsentAsync()
    {
        await BeEmptyAsync();
        if ((await TryKubectlAsync("get", "crd", "shims.runtime.skiff.dev")).Status != 0)
        {
            return;
        }

        var released = (await TryHelmAsync("status", "skiff", "-n", Namespace)).Status == 0;
        foreach (var line in Readme.Uninstall.Skip(released ? 0 : 1))
        {
            _ = await TypeAsync(line);
        }
    }

    /// <summary>Waits until both nodes have the Shim.</summary>
    public async Task BothNodesAreReadyAsync()
    {
        foreach (var node in Nodes)
        {
            await UntilAsync($"{node.Name} is ready", async () => await PhaseAsync(node) == "Ready", () => TryKubectlAsync("get", "shiminstallations", "-o", "yaml"));
        }
    }

    /// <summary>The phase of a node's installation; null when there is none.</summary>
    public async Task<string?> PhaseAsync(ClusterNode node) =>
        await FindAsync("apis/runtime.skiff.dev/v1alpha1/shiminstallations/skiff." + node.Name) is { } found ? (string?)found["status"]?["phase"] ?? "" : null;

    /// <summary>Waits until a pod's containers run.</summary>
    public Task PodIsReadyAsync(string pod) => PodAsync(pod, "condition=Ready");

    /// <summary>Waits until a pod is running, ready or not.</summary>
    public Task PodRunsAsync(string pod) => UntilAsync(
        $"{pod} runs", async () => await FieldAsync(pod, "{.status.phase}") == "Running", () => TryKubectlAsync("describe", "pod", pod));

    /// <summary>Waits for something of a pod, and says what its events are when it does not come.</summary>
    public async Task PodAsync(string pod, string state)
    {
        var result = await TryKubectlAsync("wait", "pod/" + pod, "--for=" + state, "--timeout=180s");
        if (result.Status != 0)
        {
            Assert.Fail($"{result}\n{(await TryKubectlAsync("describe", "pod", pod)).Output}");
        }
    }

    /// <summary>Demands that the pods which ran before everything else are the same containers, never restarted.</summary>
    public async Task BystandersAreUntouchedAsync()
    {
        foreach (var node in Nodes)
        {
            var status = (await FindAsync(PodPath(Bystander(node))))!["status"]!["containerStatuses"]![0]!;
            Assert.Equal(0, (int)status["restartCount"]!);
            Assert.NotNull(status["state"]!["running"]);
            node.BystanderContainer ??= (string)status["containerID"]!;
            Assert.Equal(node.BystanderContainer, (string)status["containerID"]!);
        }
    }

    /// <summary>Waits until something holds; when it does not in time, fails and says what is there instead.</summary>
    public static async Task UntilAsync(string what, Func<Task<bool>> holds, Func<Task<CommandText>> instead, TimeSpan? limit = null)
    {
        if (!await Until.HoldsAsync(holds, limit ?? Patience))
        {
            Assert.Fail($"waited in vain until {what}; instead:\n{await instead()}");
        }
    }

    /// <summary>Brings the cluster to: no pods but those that no test touches.</summary>
    private async Task BeEmptyAsync()
    {
        Need();
        _ = await KubectlAsync("delete", "pod", "-l", $"{Pods.Label}={Pods.Passing}", "--timeout=180s");
        _ = await KubectlAsync("delete", "pod", "hello", "--ignore-not-found", "--timeout=180s");
    }

    /// <summary>
    /// The programs of a containerd but for its runc: the nodes keep Debian's. On cgroup v1 with systemd, runc 1.4.3 kills nothing
    /// of a hostPID pod once systemd has moved its processes out of their devices cgroup, with or without us (README, Troubleshooting).
    /// </summary>
    private string WithoutRunc(string binaries)
    {
        var folder = Directory.CreateDirectory(Path.Combine(_folder, "containerd")).FullName;
        foreach (var name in (string[])["containerd", "ctr", "containerd-shim-runc-v2"])
        {
            File.Copy(Path.Combine(binaries, name), Path.Combine(folder, name));
        }

        return folder;
    }

    private static string Bystander(ClusterNode node) => "bystander-" + node.Name;

    private async Task<CommandText> RunAsync(TimeSpan limit, ReadOnlyMemory<byte> input, string[] environment, string script, params string[] words)
    {
        var result = await Command.RunAsync(
            new SpawnRequest
            {
                Path = "/bin/bash",
                Arguments = ["bash", script, .. words],
                Environment = [.. environment, $"W={_folder}/w", $"VMDIR={_folder}/vm", "PATH=" + Machines.PathWithEmulator(_folder + "/bin"), $"HOME={Machines.Home}"],
                WorkingDirectory = Repository.Root,
            },
            limit,
            input);
        return new CommandText(
            $"{Path.GetFileName(script)} {string.Join(' ', words)}", result.TimedOut ? uint.MaxValue : result.Exit.ShellCode, result.OutputText, result.Error);
    }
}

/// <summary>The cluster on Debian's containerd, with schema 2.</summary>
public sealed class ClusterOn16() : Cluster("1.6");

/// <summary>The cluster with a node of cgroup v1 and one of cgroup v2.</summary>
public sealed class ClusterOnBoth() : Cluster("1.6", virtualNodes: 1);

/// <summary>The cluster on a containerd with schema 3.</summary>
public sealed class ClusterOn24() : Cluster("2.4");

[CollectionDefinition("containerd 1.6")]
public sealed class Containerd16 : ICollectionFixture<ClusterOn16>;

[CollectionDefinition("both cgroups")]
public sealed class BothCgroups : ICollectionFixture<ClusterOnBoth>;

[CollectionDefinition("containerd 2.4")]
public sealed class Containerd24 : ICollectionFixture<ClusterOn24>;

/// <summary>What a command gave.</summary>
public sealed record CommandText(string Words, uint Status, string Output, string Error)
{
    /// <summary>Throws unless it went well.</summary>
    public CommandText Demand() => Status == 0 ? this : throw new InvalidOperationException(ToString());

    public override string ToString() => $"{Words}: {(Status == uint.MaxValue ? "out of time" : $"status {Status}")}\n{Output}{Error}";
}
