using System.Globalization;
using System.Text.Json.Nodes;
using Skiff.Linux.Processes;
using Skiff.Testing;

namespace Skiff.EndToEnd;

/// <summary>
/// Memory kills as Events, on a node with cgroup v1 and one with cgroup v2. On v2 the kubelet lets a container die whole, unless it is told
/// otherwise.
/// </summary>
[Collection("both cgroups")]
[TestMethodOrderer(typeof(InOrderOfDeclaration))]
public sealed class OomEventTests(ClusterOnBoth cluster, ITestOutputHelper output)
{
    private const int Storm = 5;
    private const int KillsEach = 8;

    [Fact]
    public async Task without_us_a_kill_has_no_event()
    {
        await cluster.BeAbsentAsync();
        await RunAsync(Pod("plain", 1, "", Container("app", "/grow.native")));
        await EndsAsync("plain");
        Assert.Empty(await EventsAsync("plain"));
    }

    [Fact]
    public async Task every_kill_has_one_event_whatever_the_runtime_and_whoever_dies()
    {
        await cluster.BeInstalledAsync();
        await EachHasOneEventAsync(wasm: true);

        // What the kernel says of its victims is there where it lets us read it.
        var native = Assert.Single(await EventsAsync("native-2"));
        Assert.Contains(" grow.native (pid ", (string)native["note"]!, StringComparison.Ordinal);
        Assert.Contains("""skiff_oom_kills_total{namespace="default",pod="wasm-1",container="app",level="container"} 1""", await MetricsAsync(cluster.Nodes[0]), StringComparison.Ordinal);
    }

    [Fact]
    public async Task a_kill_for_which_neither_the_agent_nor_containerds_shim_had_a_processor_has_its_event()
    {
        await cluster.BeInstalledAsync();
        await RunAsync(Pod("unseen", 1, "", Container("app", "/grow.native", "when", "/go"), Container("beside", "/sleep.native")));
        await cluster.PodIsReadyAsync("unseen");
        var (cgroup, app) = await AppOfAsync("unseen");
        await Cluster.WithoutAsync(cluster.Nodes[0].Agent()!.Value, async () =>
        {
            await Cluster.WithoutAsync(int.Parse(Status("PPid"), CultureInfo.InvariantCulture), async () =>
            {
                await File.WriteAllTextAsync($"/proc/{app}/root/go", "");
                Assert.True(await Until.HoldsAsync(() => Task.FromResult(Status("State").StartsWith('Z')), Cluster.Patience));

                // As systemd does at once where it is told of empty cgroups: on a machine that is no container.
                Directory.Delete(cgroup);
            });
            await Cluster.UntilAsync("unseen's app has ended", async () => await ReasonAsync() is not "", () => DescribeAsync("unseen"));
        });
        Assert.Equal("Error", await ReasonAsync());
        await HasEventAsync("unseen", "OOMKilled", "spec.containers{app}");

        Task<string> ReasonAsync() => FieldAsync("unseen", "{.status.containerStatuses[?(@.name==\"app\")].state.terminated.reason}");

        string Status(string key) => File.ReadLines($"/proc/{app}/status").Single(l => l.StartsWith(key + ":\t", StringComparison.Ordinal))[(key.Length + 2)..];
    }

    [Fact]
    public async Task where_processes_die_alone_a_child_has_its_own_reason_on_cgroup_v2_as_well()
    {
        await cluster.BeInstalledAsync();
        _ = await cluster.Nodes[1].RunAsync("bash", "-c", "grep -q singleProcessOOMKill /etc/kubernetes/kubelet.yaml || { echo 'singleProcessOOMKill: true' >> /etc/kubernetes/kubelet.yaml; systemctl restart kubelet; }");
        try
        {
            await RunAsync(Pod("alone", 2, "", Container("app", "/grow.native", "child")));
            await HasEventAsync("alone", "ChildOOMKilled", "spec.containers{app}");
            Assert.Equal("Running", await FieldAsync("alone", "{.status.phase}"));
        }
        finally
        {
            _ = await cluster.Nodes[1].RunAsync("bash", "-c", "sed -i /singleProcessOOMKill/d /etc/kubernetes/kubelet.yaml; systemctl restart kubelet");
        }
    }

    [Fact]
    public async Task a_pod_that_is_deleted_in_the_second_of_its_kill_has_its_event()
    {
        await cluster.BeInstalledAsync();
        await RunAsync(Pod("deleted", 1, "", Container("app", "/grow.native", "when", "/go")));
        await cluster.PodIsReadyAsync("deleted");
        var uid = await FieldAsync("deleted", "{.metadata.uid}");
        var (_, app) = await AppOfAsync("deleted");
        await Cluster.WithoutAsync(cluster.Nodes[0].Agent()!.Value, async () =>
        {
            await File.WriteAllTextAsync($"/proc/{app}/root/go", "");
            Assert.True(await Until.HoldsAsync(() => Task.FromResult(!File.Exists($"/proc/{app}/root/go")), Cluster.Patience), "it is killed");
            _ = await cluster.KubectlAsync("delete", "pod", "deleted", "--grace-period=0", "--force", "--wait=false");
        });
        await Cluster.UntilAsync("deleted: it has its event", async () => (await EventsOfAsync(uid)).Count > 0, () => DescribeAsync("deleted"));
        var one = Assert.Single(await EventsOfAsync(uid));
        Assert.Equal(("OOMKilled", "spec.containers{app}"), ((string)one["reason"]!, (string)one["regarding"]!["fieldPath"]!));
        Assert.Null(one["series"]);
    }

    [Fact]
    public async Task a_pod_that_crashes_again_and_again_has_one_event_that_counts()
    {
        await cluster.BeInstalledAsync();
        await RunAsync(Pod("loop", 1, "", Container("app", "/grow.native")).Replace("restartPolicy: Never", "restartPolicy: Always", StringComparison.Ordinal));
        await UntilAsync("loop", "the series counts 3", events => events is [var one] && (int?)one["series"]?["count"] >= 3);
    }

    [Fact]
    public async Task in_a_storm_no_kill_is_lost_or_counted_twice_though_containerd_the_agent_and_the_api_server_go_away()
    {
        await cluster.BeInstalledAsync();
        for (var i = 0; i < Storm; i++)
        {
            await RunAsync(Pod($"storm-{i}", 1, "", Container("app", "/grow.native", "child", $"{KillsEach}", "3")));
        }

        var node = cluster.Nodes[0];
        await UntilAsync("storm-0", "the first kill is told", events => events.Count > 0);
        var before = await RequestsAsync();
        var told = Kept(node);
        var containerd = await node.ContainerdAsync();
        _ = await node.RunAsync("kill", "-9", containerd.ToString(CultureInfo.InvariantCulture));
        await Cluster.WithoutTheApiServerAsync(async () =>
        {
            _ = (await Command.RunAsync(new SpawnRequest { Path = "/bin/kill", Arguments = ["kill", "-9", $"{node.Agent()}"] }, Cluster.Patience)).Exit;
            Assert.True(await Until.HoldsAsync(() => Task.FromResult(Kept(node) > told + Storm), Cluster.Patience), "kills go on while nobody can be told");
        });
        for (var i = 0; i < Storm; i++)
        {
            await UntilAsync($"storm-{i}", $"{KillsEach} kills are counted", events => events.Sum(e => (int?)e["series"]?["count"] ?? 1) >= KillsEach);
        }

        for (var i = 0; i < Storm; i++)
        {
            var events = await EventsAsync($"storm-{i}");
            Assert.Equal(KillsEach, events.Sum(e => (int?)e["series"]?["count"] ?? 1));
            Assert.Single(events);
        }

        output.WriteLine($"{Storm * KillsEach} kills: {await RequestsAsync() - before} writes of Events after the first; agent {await MemoryAsync(node)}");
        await cluster.BothNodesAreReadyAsync();
    }

    [Fact]
    public async Task alone_it_does_the_same_without_any_right_on_the_node()
    {
        await cluster.BeInstalledWithAsync("mode=OomEventsOnly");
        var pod = await cluster.GetAsync("pods", "-n", "skiff-system", "-l", "app.kubernetes.io/component=agent");
        Assert.All(pod["items"]!.AsArray(), p =>
        {
            var spec = p!["spec"]!;
            Assert.Null(spec["hostPID"]);
            Assert.Null(spec["hostNetwork"]);
            var security = spec["containers"]![0]!["securityContext"]!;
            Assert.Null(security["privileged"]);
            Assert.True((bool)security["runAsNonRoot"]!);
            Assert.Equal("""["ALL"]""", security["capabilities"]!["drop"]!.ToJsonString());
            Assert.All(spec["volumes"]!.AsArray().Where(v => v!["hostPath"] is not null), v => Assert.Equal("/sys/fs/cgroup", (string)v!["hostPath"]!["path"]!));
            Assert.All(spec["containers"]![0]!["volumeMounts"]!.AsArray().Where(m => (string)m!["name"]! == "cgroups"), m => Assert.True((bool)m!["readOnly"]!));
        });
        await EachHasOneEventAsync(wasm: false);
    }

    /// <summary>One pod of each kind on each node, at once.</summary>
    private async Task EachHasOneEventAsync(bool wasm)
    {
        for (var node = 1; node <= 2; node++)
        {
            await RunAsync(Pod($"native-{node}", node, "", Container("app", "/grow.native")));
            await RunAsync(Pod($"child-{node}", node, "", Container("app", "/grow.native", "child")));
            await RunAsync(Pod($"limit-{node}", node, "", Container("app", "/grow.native"), Container("beside", "/sleep.native")));
            await RunAsync(Pod($"init-{node}", node, "", Container("app", "/sleep.native")) + $"  initContainers:\n{Container("first", "/grow.native")}");
            if (wasm)
            {
                await RunAsync(Pod($"wasm-{node}", node, "skiff", Container("app", "/grow.wasm")));
                await RunAsync(Pod($"mixed-{node}", node, "skiff", Container("wasm", "/sleep.wasm"), Container("native", "/grow.native")));
                await RunAsync(Pod($"full-{node}", node, "skiff", Large("wasm", "/grow.wasm"), Large("native", "/grow.native"))
                    .Replace("  restartPolicy:", "  resources: {requests: {memory: 8Mi}, limits: {memory: 40Mi}}\n  restartPolicy:", StringComparison.Ordinal));
            }
        }

        for (var node = 1; node <= 2; node++)
        {
            await HasEventAsync($"native-{node}", "OOMKilled", "spec.containers{app}");
            await HasEventAsync($"child-{node}", node == 1 ? "ChildOOMKilled" : "OOMKilled", "spec.containers{app}");
            await HasEventAsync($"limit-{node}", "OOMKilled", "spec.containers{app}");
            await HasEventAsync($"init-{node}", "OOMKilled", "spec.initContainers{first}");
            if (wasm)
            {
                await HasEventAsync($"wasm-{node}", "OOMKilled", "spec.containers{app}");
                await HasEventAsync($"mixed-{node}", "OOMKilled", "spec.containers{native}");
                await WhoDiesAtThePodsLimitHasOneEventAsync($"full-{node}");
            }
        }
    }

    /// <summary>Two containers, neither of which reaches its own limit, are more than the pod may have. Which one dies is for the kernel to say; it may be both.</summary>
    private async Task WhoDiesAtThePodsLimitHasOneEventAsync(string pod)
    {
        await Cluster.UntilAsync(
            $"{pod}: each container that died has an event",
            async () =>
            {
                var events = await EventsAsync(pod);
                var died = (await FieldAsync(pod, "{.status.containerStatuses[?(@.state.terminated.exitCode==137)].name}")).Split(' ', StringSplitOptions.RemoveEmptyEntries);
                return died.Length > 0 && events.Select(e => (string)e["regarding"]!["fieldPath"]!).Order().SequenceEqual(died.Select(d => $"spec.containers{{{d}}}").Order());
            },
            () => DescribeAsync(pod));
        var all = await EventsAsync(pod);
        Assert.All(all, e =>
        {
            output.WriteLine($"{pod}: {e["note"]}");
            Assert.Equal("OOMKilled", (string)e["reason"]!);
            Assert.Null(e["series"]);
            Assert.StartsWith("the pod used all of its memory limit of 48Mi (40Mi and the RuntimeClass's overhead of 8Mi)", (string)e["note"]!, StringComparison.Ordinal);
        });
    }

    private static string Large(string name, string program) =>
        $"  - {{name: {name}, image: skiff.test/guests:1, command: [{program}, hold, \"26\"], resources: {{requests: {{memory: 4Mi}}, limits: {{memory: 40Mi}}}}}}\n";

    private static string Container(string name, params string[] command) =>
        $"  - {{name: {name}, image: skiff.test/guests:1, command: [{string.Join(", ", command.Select(c => $"\"{c}\""))}], resources: {{limits: {{memory: 32Mi}}}}}}\n";

    private static string Pod(string name, int node, string runtimeClass, params string[] containers) => $$$"""
        apiVersion: v1
        kind: Pod
        metadata: {name: {{{name}}}, labels: {end-to-end: passing}}
        spec:
          nodeName: node-{{{node}}}
          runtimeClassName: {{{(runtimeClass.Length > 0 ? runtimeClass : "null")}}}
          restartPolicy: Never
          terminationGracePeriodSeconds: 1
          automountServiceAccountToken: false
          containers:

        """ + string.Concat(containers);

    private async Task RunAsync(string yaml) => (await cluster.KubectlWithAsync(yaml, "apply", "-f", "-")).Demand();

    private async Task<string> FieldAsync(string pod, string path) => (await cluster.TryKubectlAsync("get", "pod", pod, "-o", "jsonpath=" + path)).Output;

    /// <summary>The cgroup and the only process of a pod's container "app", on the first node.</summary>
    private async Task<(string Cgroup, int Process)> AppOfAsync(string pod)
    {
        var id = (await FieldAsync(pod, "{.status.containerStatuses[?(@.name==\"app\")].containerID}"))["containerd://".Length..];
        var cgroup = Assert.Single(Directory.GetDirectories("/sys/fs/cgroup/memory", $"*{id}*", SearchOption.AllDirectories));
        return (cgroup, int.Parse(Assert.Single(await File.ReadAllLinesAsync(cgroup + "/cgroup.procs")), CultureInfo.InvariantCulture));
    }

    private Task EndsAsync(string pod) => Cluster.UntilAsync(
        $"{pod} has ended", async () => await FieldAsync(pod, "{.status.phase}") == "Failed", () => cluster.TryKubectlAsync("describe", "pod", pod));

    /// <summary>The Events of memory kills that the present pod of this name has.</summary>
    private async Task<IReadOnlyList<JsonNode>> EventsAsync(string pod) => await EventsOfAsync(await FieldAsync(pod, "{.metadata.uid}"));

    private async Task<IReadOnlyList<JsonNode>> EventsOfAsync(string uid)
    {
        var all = await cluster.GetAsync("events.events.k8s.io", "--field-selector", "regarding.uid=" + uid);
        return [.. all["items"]!.AsArray().Where(e => ((string)e!["reason"]!).Contains("OOM", StringComparison.Ordinal)).Select(e => e!)];
    }

    private Task UntilAsync(string pod, string what, Func<IReadOnlyList<JsonNode>, bool> holds) => Cluster.UntilAsync(
        $"{pod}: {what}", async () => holds(await EventsAsync(pod)), () => DescribeAsync(pod), TimeSpan.FromMinutes(3));

    /// <summary>What the cluster says of a pod, and what the agents have seen.</summary>
    private async Task<CommandText> DescribeAsync(string pod)
    {
        var described = await cluster.TryKubectlAsync("describe", "pod", pod);
        var logs = await cluster.TryKubectlAsync("logs", "-n", "skiff-system", "-l", "app.kubernetes.io/component=agent", "--prefix", "--tail=40");
        return described with { Output = described.Output + logs.Output };
    }

    private async Task HasEventAsync(string pod, string reason, string part)
    {
        await UntilAsync(pod, $"it has an event {reason}", events => events.Count > 0);
        var one = Assert.Single(await EventsAsync(pod));
        Assert.Equal(reason, (string)one["reason"]!);
        Assert.Equal("Warning", (string)one["type"]!);
        Assert.Equal(part, (string)one["regarding"]!["fieldPath"]!);
        Assert.Null(one["series"]);
        output.WriteLine($"{pod}: {one["note"]}");
    }

    private async Task<string> AgentAddressAsync(ClusterNode node) => await cluster.KubectlAsync(
        "get", "pods", "-n", "skiff-system", "-l", "app.kubernetes.io/component=agent", "--field-selector", "spec.nodeName=" + node.Name, "-o", "jsonpath={.items[0].status.podIP}");

    private async Task<string> MetricsAsync(ClusterNode node) => await node.RunAsync(
        "bash", "-c", $"exec 3<>/dev/tcp/{await AgentAddressAsync(node)}/8080; printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3");

    /// <summary>How many writes of Events the API server has had from agents.</summary>
    private static async Task<int> RequestsAsync()
    {
        var count = 0;
        await foreach (var line in File.ReadLinesAsync(Cluster.AuditLog))
        {
            count += line.Contains("\"userAgent\":\"skiff-operator", StringComparison.Ordinal) && line.Contains("\"resource\":\"events\"", StringComparison.Ordinal) ? 1 : 0;
        }

        return count;
    }

    /// <summary>How many kills the ledger of a node has.</summary>
    private static int Kept(ClusterNode node) =>
        JsonNode.Parse(File.ReadAllText(node.Root + "/var/lib/skiff/oom-events.json"))!["series"]!.AsArray().Sum(s => (int)s!["count"]!);

    private static async Task<string> MemoryAsync(ClusterNode node)
    {
        var lines = await File.ReadAllLinesAsync($"/proc/{node.Agent()}/smaps_rollup");
        return string.Join(", ", lines.Where(l => l.StartsWith("Pss:", StringComparison.Ordinal) || l.StartsWith("Private_Dirty:", StringComparison.Ordinal)).Select(l => string.Join(' ', l.Split(' ', StringSplitOptions.RemoveEmptyEntries))));
    }
}
