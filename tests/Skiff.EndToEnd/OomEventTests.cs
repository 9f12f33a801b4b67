namespace Skiff.EndToEnd;

/// <summary>
/// Memory kills as Events, on a node with cgroup v1 and one with cgroup v2, which is emulated: nothing is here that one of them alone can show.
/// On v2 the kubelet lets a container die whole, unless it is told otherwise.
/// </summary>
[Collection("both cgroups")]
[Trait(Cluster.On, "both")]
[TestMethodOrderer(typeof(InOrderOfDeclaration))]
public sealed class OomEventTests(ClusterOnBoth cluster, ITestOutputHelper output) : KilledPods(cluster, output)
{
    private readonly Cluster _cluster = cluster;
    private readonly ITestOutputHelper _output = output;

    [Fact]
    public async Task every_kill_has_one_event_whatever_the_runtime_and_whoever_dies()
    {
        await _cluster.BeInstalledAsync();
        await EachHasOneEventAsync(wasm: true);

        // What the kernel says of its victims is there where it lets us read it.
        var native = Assert.Single(await EventsAsync("native-2"));
        Assert.Contains(" grow.native (pid ", (string)native["note"]!, StringComparison.Ordinal);
        Assert.Contains("""skiff_oom_kills_total{namespace="default",pod="wasm-1",container="app",level="container"} 1""", await MetricsAsync(_cluster.Nodes[0]), StringComparison.Ordinal);
    }

    [Fact]
    public async Task where_processes_die_alone_a_child_has_its_own_reason_on_cgroup_v2_as_well()
    {
        await _cluster.BeInstalledAsync();
        _ = await _cluster.Nodes[1].RunAsync("bash", "-c", "grep -q singleProcessOOMKill /etc/kubernetes/kubelet.yaml || { echo 'singleProcessOOMKill: true' >> /etc/kubernetes/kubelet.yaml; systemctl restart kubelet; }");
        try
        {
            await RunAsync(Pod("alone", 2, "", Container("app", "/grow.native", "child")));
            await HasEventAsync("alone", "ChildOOMKilled", "spec.containers{app}");

            // The kubelet may say it later than we tell of the kill.
            await Cluster.UntilAsync("alone lives on", async () => await _cluster.FieldAsync("alone", "{.status.phase}") == "Running", () => DescribeAsync("alone"));
        }
        finally
        {
            _ = await _cluster.Nodes[1].RunAsync("bash", "-c", "sed -i /singleProcessOOMKill/d /etc/kubernetes/kubelet.yaml; systemctl restart kubelet");
        }
    }

    [Fact]
    public async Task alone_it_does_the_same_without_any_right_on_the_node()
    {
        await _cluster.BeInstalledWithAsync("mode=OomEventsOnly");
        var pods = await _cluster.AgentPodsAsync();
        Assert.Equal(2, pods.Count);
        Assert.All(pods, p =>
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
        List<string> pods = [];
        for (var node = 1; node <= 2; node++)
        {
            pods.Add(Pod($"native-{node}", node, "", Container("app", "/grow.native")));
            pods.Add(Pod($"child-{node}", node, "", Container("app", "/grow.native", "child")));
            pods.Add(Pod($"limit-{node}", node, "", Container("app", "/grow.native"), Container("beside", "/sleep.native")));
            pods.Add(Pod($"init-{node}", node, "", Container("app", "/sleep.native")) + $"  initContainers:\n{Container("first", "/grow.native")}");
            if (wasm)
            {
                pods.Add(Pod($"wasm-{node}", node, "skiff", Container("app", "/grow.wasm")));
                pods.Add(Pod($"mixed-{node}", node, "skiff", Container("wasm", "/sleep.wasm"), Container("native", "/grow.native")));
                pods.Add(Pod($"full-{node}", node, "skiff", Large("wasm", "/grow.wasm"), Large("native", "/grow.native"))
                    .Replace("  restartPolicy:", "  resources: {requests: {memory: 8Mi}, limits: {memory: 40Mi}}\n  restartPolicy:", StringComparison.Ordinal));
            }
        }

        await RunAsync(string.Join("---\n", pods));
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
                var died = (await _cluster.FieldAsync(pod, "{.status.containerStatuses[?(@.state.terminated.exitCode==137)].name}")).Split(' ', StringSplitOptions.RemoveEmptyEntries);
                return died.Length > 0 && events.Select(e => (string)e["regarding"]!["fieldPath"]!).Order().SequenceEqual(died.Select(d => $"spec.containers{{{d}}}").Order());
            },
            () => DescribeAsync(pod));
        var all = await EventsAsync(pod);
        Assert.All(all, e =>
        {
            _output.WriteLine($"{pod}: {e["note"]}");
            Assert.Equal("OOMKilled", (string)e["reason"]!);
            Assert.Null(e["series"]);
            Assert.StartsWith("the pod used all of its memory limit of 48Mi (40Mi and the RuntimeClass's overhead of 8Mi)", (string)e["note"]!, StringComparison.Ordinal);
        });
    }

    private async Task<string> AgentAddressAsync(ClusterNode node) => (string)(await _cluster.AgentPodsAsync(node))[0]!["status"]!["podIP"]!;

    private async Task<string> MetricsAsync(ClusterNode node) => await node.RunAsync(
        "bash", "-c", $"exec 3<>/dev/tcp/{await AgentAddressAsync(node)}/8080; printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3");
}
