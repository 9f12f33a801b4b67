using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Skiff.Linux.Files;
using Skiff.Linux.Processes;

namespace Skiff.EndToEnd;

/// <summary>From helm install to helm uninstall on real nodes. Each test brings the cluster to where it begins.</summary>
public abstract partial class InstallTests(Cluster cluster, ITestOutputHelper output)
{
    private const int Tries = 10;
    private const string Ended = "no step";

    // The steps of an install in their order, as its journal names them; all but the last can be taken back.
    private static readonly string[] _steps = ["Binaries", "Configuration", "Validate", "Restart", "Verify", "CleanUp"];

    // systemd gives up on a containerd that sees our handler in its configuration.
    private const string Fault = "[Service]\nExecStartPre=/bin/sh -c '! grep -rqs containerd-shim-skiff /etc/containerd || { echo this node refuses the handler; exit 1; }'\n";

    [Fact]
    public async Task what_the_readme_says_makes_both_nodes_run_wasm_and_disturbs_no_pod()
    {
        await cluster.BeAbsentAsync();
        List<long> gaps = [];
        var begin = Stopwatch.StartNew();
        await using (var first = new SocketWatch(cluster.Nodes[0]))
        await using (var second = new SocketWatch(cluster.Nodes[1]))
        {
            foreach (var line in Readme.Install)
            {
                var said = await cluster.TypeAsync(line);
                if (line.StartsWith("helm install", StringComparison.Ordinal))
                {
                    Report($"helm install --wait, both nodes ready: {begin.ElapsedMilliseconds} ms");
                    foreach (var node in cluster.Nodes)
                    {
                        Assert.Equal("Ready", await cluster.PhaseAsync(node));
                        Assert.Equal("true", await LabelAsync(node));
                    }
                }

                // What the README promises that is seen there.
                switch (line.Split('#')[0].TrimEnd())
                {
                    case "kubectl get shims":
                        Assert.Matches(@"^NAME +NODES +READY +FAILED +AGE *\nskiff +2 +2 +0 ", said);
                        break;
                    case "kubectl get shiminstallations":
                        Assert.Matches(@"^NAME +NODE +PHASE +VERSION +CONTAINERD +ERROR +AGE *\n", said);
                        Assert.Matches($@"\nskiff\.node-1 +node-1 +Ready +\S+ +{Regex.Escape(cluster.Containerd)}\.", said);
                        Assert.Matches($@"\nskiff\.node-2 +node-2 +Ready +\S+ +{Regex.Escape(cluster.Containerd)}\.", said);
                        break;
                    case "kubectl logs hello":
                        Assert.StartsWith("hello from wasm", said, StringComparison.Ordinal);
                        break;
                    default:
                        break;
                }
            }

            gaps.AddRange([.. first.Gaps, .. second.Gaps]);
        }

        Report($"containerd's socket away, per restart: {string.Join(", ", gaps)} ms");
        Assert.Equal(2, gaps.Count);
        await cluster.BystandersAreUntouchedAsync();

        await cluster.ApplyAsync(Pods.Wasm("wasm"));
        await cluster.ApplyAsync(Pods.Mixed("mixed"));
        await cluster.ApplyAsync(Pods.Native("native"));
        foreach (var (pod, container) in (List<(string, string)>)[("wasm", "wasm"), ("mixed", "wasm"), ("mixed", "native"), ("native", "native")])
        {
            await cluster.PodIsReadyAsync(pod);
            await Cluster.UntilAsync(
                $"{container} of {pod} says ready",
                async () => await cluster.LogAsync(pod, container) == "ready\n",
                () => cluster.TryKubectlAsync("describe", "pod", pod));
        }

        var runs = await RunnersAsync();
        Assert.Equal(2, runs.Count(r => r.Contains("/sleep.wasm", StringComparison.Ordinal)));

        _ = await cluster.KubectlAsync("delete", "pod", "wasm", "mixed", "native", "--timeout=180s");
        await Cluster.UntilAsync(
            "no runner is left",
            async () => (await RunnersAsync()).Count == 0,
            () => cluster.InNodeAsync(1, "ps", "ax"));
        await cluster.BystandersAreUntouchedAsync();
        await ReportMemoryAsync();
    }

    [Fact]
    public async Task an_upgrade_that_does_not_touch_the_nodes_restarts_no_containerd()
    {
        await cluster.BeInstalledAsync();
        List<int> before = [await cluster.Nodes[0].ContainerdAsync(), await cluster.Nodes[1].ContainerdAsync()];
        var uid = await cluster.KubectlAsync("get", "shim", "skiff", "-o", "jsonpath={.metadata.uid}");

        foreach (var change in (string[][])[[], ["--set", "resources.requests.cpu=11m"], ["--set", "shim.removal.timeout=11m"], []])
        {
            _ = (await cluster.TryHelmAsync(["upgrade", "skiff", "charts/skiff", "-n", "skiff-system", "--wait", "--timeout", "10m", .. change])).Demand();
            foreach (var node in cluster.Nodes)
            {
                // The agent has seen this generation of the Shim, so a restart would have been.
                var generation = await cluster.KubectlAsync("get", "shim", "skiff", "-o", "jsonpath={.metadata.generation}");
                await Cluster.UntilAsync(
                    $"{node.Name} has generation {generation}",
                    async () => FieldTemplate.Apply("{.status.observedGeneration}/{.status.phase}", await cluster.FindAsync(
                        "apis/runtime.skiff.dev/v1alpha1/shiminstallations/skiff." + node.Name)) == generation + "/Ready",
                    () => cluster.TryKubectlAsync("get", "shiminstallations", "-o", "yaml"));
            }
        }

        Assert.Equal(before, [await cluster.Nodes[0].ContainerdAsync(), await cluster.Nodes[1].ContainerdAsync()]);
        Assert.Equal(uid, await cluster.KubectlAsync("get", "shim", "skiff", "-o", "jsonpath={.metadata.uid}"));
        await cluster.BystandersAreUntouchedAsync();
    }

    [Fact]
    public async Task a_node_whose_containerd_refuses_is_rolled_back_and_named_and_the_other_is_ready()
    {
        await cluster.BeAbsentAsync();
        var (good, bad) = (cluster.Nodes[0], cluster.Nodes[1]);
        await bad.RunAsync("mkdir", "-p", "/etc/systemd/system/containerd.service.d");
        await File.WriteAllTextAsync(Path.Combine(bad.Root, "etc/systemd/system/containerd.service.d/fault.conf"), Fault);
        try
        {
            _ = await bad.RunAsync("systemctl", "daemon-reload");
            _ = (await cluster.TryHelmAsync("install", "skiff", "charts/skiff", "-n", "skiff-system", "--create-namespace")).Demand();
            await Cluster.UntilAsync(
                "one node is ready and the other has failed",
                async () => await cluster.PhaseAsync(good) == "Ready" && await cluster.PhaseAsync(bad) == "Failed" && await LabelAsync(good) == "true", // last
                () => cluster.TryKubectlAsync("get", "shiminstallations", "-o", "yaml"));

            bad.ConfigurationIsAsItWas();
            Assert.Equal("active", await bad.ContainerdStateAsync());
            Assert.NotEqual("true", await LabelAsync(bad));
            var error = await cluster.KubectlAsync("get", "shiminstallation", "skiff.node-2", "-o", "jsonpath={.status.lastError}");
            Report("the error: " + error.Split('\n')[0]);
            Assert.Contains("containerd", error, StringComparison.Ordinal);
            await Cluster.UntilAsync(
                "the Shim says which node and why",
                async () => await ConditionAsync("Degraded") is { } degraded && (string)degraded["status"]! == "True"
                    && ((string)degraded["message"]!).Contains("node-2", StringComparison.Ordinal)
                    && Regex.IsMatch(await cluster.KubectlAsync("get", "shims"), @"\nskiff +2 +1 +1 "),
                () => cluster.TryKubectlAsync("get", "shims", "-o", "yaml"));

            // The ready node runs Wasm; the other keeps running what it did and starts what it could.
            await cluster.ApplyAsync(Pods.Wasm("after-fault"));
            await cluster.PodIsReadyAsync("after-fault");
            Assert.Equal(good.Name, await cluster.KubectlAsync("get", "pod", "after-fault", "-o", "jsonpath={.spec.nodeName}"));
            await cluster.ApplyAsync(Pods.Native("native-after-fault", bad.Name));
            await cluster.PodIsReadyAsync("native-after-fault");
            await cluster.BystandersAreUntouchedAsync();
        }
        finally
        {
            // The folder stays where the node had it: it may say which containerd runs. Where it did not, it goes: another test compares the node's files.
            _ = await bad.RunAsync("rm", "/etc/systemd/system/containerd.service.d/fault.conf");
            _ = await bad.RunAsync("rmdir", "--ignore-fail-on-non-empty", "/etc/systemd/system/containerd.service.d");
            _ = await bad.RunAsync("systemctl", "daemon-reload");
        }

        // With the cause gone the node gets there by itself.
        await cluster.BothNodesAreReadyAsync();
        await cluster.BystandersAreUntouchedAsync();
    }

    [Fact]
    public async Task an_agent_killed_in_any_step_of_an_install_is_followed_by_one_that_ends_it()
    {
        await cluster.BeInstalledAsync();
        var whole = cluster.Nodes.Select(n => n.Configuration()).ToList();

        // Nodes without the label are given up, those with it are installed: so each round is a whole install.
        _ = await cluster.KubectlAsync("patch", "shim", "skiff", "--type=merge", "--patch", """{"spec":{"nodeSelector":{"e2e":"wanted"}}}""");
        try
        {
            foreach (var node in cluster.Nodes)
            {
                await IsGivenUpAsync(node);
            }

            foreach (var (index, step) in _steps.SkipLast(1).Index())
            {
                var at = index % cluster.Nodes.Count;

                // A step of a few milliseconds may be over before the kill arrives: that was a kill in a later one, which is as good, and not the one wanted.
                List<string> hit = [];
                while (hit.Count < Tries && !hit.Contains(step))
                {
                    hit.Add(await KillAsync(cluster.Nodes[at], step, whole[at]));
                }

                Report($"killed in {string.Join(", ", hit)}");
                Assert.Equal(step, hit[^1]);
            }
        }
        finally
        {
            _ = await cluster.KubectlAsync("patch", "shim", "skiff", "--type=merge", "--patch", """{"spec":{"nodeSelector":{"e2e":null}}}""");
            _ = await cluster.KubectlAsync("label", "node", "--all", "e2e-");
        }

        await cluster.BothNodesAreReadyAsync();
        await cluster.BystandersAreUntouchedAsync();
    }

    [Fact]
    public async Task an_uninstall_waits_for_the_pods_and_leaves_nothing()
    {
        await cluster.BeInstalledAsync();
        await cluster.ApplyAsync(Pods.Wasm("in-the-way"));
        await cluster.PodIsReadyAsync("in-the-way");

        var uninstall = cluster.TypeAsync(Readme.Uninstall[0]);
        await Cluster.UntilAsync(
            "the Shim says which pod holds back the removal",
            async () => uninstall.IsCompleted || await ConditionAsync("Degraded") is { } held && (string)held["status"]! == "True"
                && ((string)held["message"]!).Contains("default/in-the-way", StringComparison.Ordinal),
            () => cluster.TryKubectlAsync("get", "shims,shiminstallations", "-o", "yaml"));
        Assert.False(uninstall.IsCompleted, "helm uninstall did not wait for a running pod");
        Report("held back: " + (string)(await ConditionAsync("Degraded"))!["message"]!);
        Assert.Equal("True", await cluster.KubectlAsync("get", "pod", "in-the-way", "-o", """jsonpath={.status.conditions[?(@.type=="Ready")].status}"""));

        _ = await cluster.KubectlAsync("delete", "pod", "in-the-way", "--timeout=180s");
        var rest = Stopwatch.StartNew();
        _ = await uninstall;
        Report($"helm uninstall, after the last pod was gone: {rest.ElapsedMilliseconds} ms");
        foreach (var line in Readme.Uninstall.Skip(1))
        {
            _ = await cluster.TypeAsync(line);
        }

        foreach (var node in cluster.Nodes)
        {
            node.FilesAreAsTheyWere();
            Assert.Equal("active", await node.ContainerdStateAsync());
            Assert.Null(node.Agent());
            Assert.Null(await LabelAsync(node));
        }

        await Cluster.UntilAsync("nothing of ours is in the cluster", async () => await ObjectsAsync() is [], async () => new CommandText("objects", 0, string.Join('\n', await ObjectsAsync() ?? []), ""));
        await cluster.BystandersAreUntouchedAsync();
    }

    [GeneratedRegex("skiff", RegexOptions.IgnoreCase)]
    private static partial Regex Ours();

    private void Report(string line) => output.WriteLine($"[containerd {cluster.Containerd}] {line}");

    private async Task ReportMemoryAsync()
    {
        foreach (var node in cluster.Nodes)
        {
            var agent = await RunningAgentAsync(node);
            var lines = await File.ReadAllLinesAsync($"/proc/{agent}/smaps_rollup");
            var resident = Sum(lines, "Rss:");
            var own = Sum(lines, "Private_Clean:") + Sum(lines, "Private_Dirty:");
            Report($"{node.Name}: the agent at rest has {resident / 1024.0:0.0} MiB resident, {own / 1024.0:0.0} MiB private");
        }

        static int Sum(string[] lines, string field) => lines.Where(l => l.StartsWith(field, StringComparison.Ordinal))
            .Sum(l => int.Parse(l.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture));
    }

    /// <summary>The command lines of all runners on both nodes.</summary>
    private async Task<List<string>> RunnersAsync()
    {
        List<string> runners = [];
        foreach (var node in cluster.Nodes)
        {
            runners.AddRange((await node.RunAsync("ps", "axo", "args")).Split('\n').Where(l => l.StartsWith("/.skiff/", StringComparison.Ordinal)));
        }

        return runners;
    }

    /// <summary>The value of the node's label; null when it has none.</summary>
    private async Task<string?> LabelAsync(ClusterNode node) => (string?)(await cluster.FindAsync("api/v1/nodes/" + node.Name))!["metadata"]!["labels"]!["shim.skiff.dev/skiff"];

    private async Task<JsonNode?> ConditionAsync(string type) =>
        (await cluster.FindAsync("apis/runtime.skiff.dev/v1alpha1/shims/skiff"))?["status"]?["conditions"]?.AsArray().FirstOrDefault(c => (string)c!["type"]! == type);

    private Task<string> WantAsync(ClusterNode node, bool wanted) => cluster.KubectlAsync("label", "node", node.Name, wanted ? "e2e=wanted" : "e2e-");

    /// <summary>
    /// Kills the agent of a node when an install has come to a step, and demands that the next agent ends the install, with the same
    /// configuration as an install that nobody disturbed.
    /// </summary>
    /// <returns>In which step it died: what the journal says once it is dead, for only it writes there.</returns>
    private async Task<string> KillAsync(ClusterNode node, string step, IReadOnlyDictionary<string, string> whole)
    {
        using var agent = PidFds.Open(await RunningAgentAsync(node))!;
        var wanted = WantAsync(node, true);
        await ComesToAsync(node, step);
        Assert.True(PidFds.Signal(agent, Signals.Kill), "the agent ended by itself");
        await Readiness.ReadableAsync(agent, TestContext.Current.CancellationToken); // a pidfd is when its process has ended
        var died = node.Step() ?? Ended;
        _ = await wanted;

        // A new pod instead of a restart in the old one: the kubelet would wait longer after each.
        _ = await cluster.KubectlAsync(
            "delete", "pod", "-n", "skiff-system", "-l", "app.kubernetes.io/component=agent", "--field-selector", "spec.nodeName=" + node.Name, "--force", "--grace-period=0");
        await IsReadyAsync(node);
        Assert.Null(node.Step());
        Assert.Equal(whole, node.Configuration());
        Assert.Equal("active", await node.ContainerdStateAsync());
        Assert.Equal("true", await LabelAsync(node));
        _ = await WantAsync(node, false);
        await IsGivenUpAsync(node);
        node.ConfigurationIsAsItWas();
        return died;
    }

    /// <summary>Waits until an install on a node is in a step or beyond it.</summary>
    private static async Task ComesToAsync(ClusterNode node, string wanted)
    {
        var end = TimeProvider.System.GetUtcNow() + Cluster.Patience;
        while (node.Step() is not { } step || Array.IndexOf(_steps, step) < Array.IndexOf(_steps, wanted))
        {
            Assert.True(TimeProvider.System.GetUtcNow() < end, $"{node.Name}: the journal stays in {node.Step() ?? Ended}");
            await Task.Yield(); // any pause is longer than the shortest step
        }
    }

    private async Task<int> RunningAgentAsync(ClusterNode node)
    {
        int? agent = null;
        await Cluster.UntilAsync(
            $"{node.Name} has a ready agent",
            async () => (agent = node.Agent()) is not null
                && (await cluster.AgentPodsAsync(node)).Any(p => (bool?)p!["status"]!["containerStatuses"]?[0]!["ready"] == true),
            () => cluster.TryKubectlAsync("get", "pod", "-n", "skiff-system", "-o", "wide"));
        return agent!.Value;
    }

    private Task IsReadyAsync(ClusterNode node) => Cluster.UntilAsync(
        $"{node.Name} is ready",
        async () =>
        {
            Assert.NotEqual("failed", await node.ContainerdStateAsync());
            return await cluster.PhaseAsync(node) == "Ready" && await LabelAsync(node) == "true"; // the agent writes one after the other
        },
        () => cluster.TryKubectlAsync("get", "shiminstallations", "-o", "yaml"));

    private Task IsGivenUpAsync(ClusterNode node) => Cluster.UntilAsync(
        $"{node.Name} has nothing of the Shim",
        async () =>
        {
            Assert.NotEqual("failed", await node.ContainerdStateAsync());
            return await cluster.PhaseAsync(node) is null or "Removed" && await LabelAsync(node) is null;
        },
        () => cluster.TryKubectlAsync("get", "shiminstallations", "-o", "yaml"));

    /// <summary>
    /// Every object of the cluster whose name speaks of us, but for Events: the cluster drops those by itself. None is known while a kind that
    /// has just been deleted is still named.
    /// </summary>
    private async Task<List<string>?> ObjectsAsync()
    {
        var kinds = (await cluster.KubectlAsync("api-resources", "--verbs=list", "-o", "name")).Split('\n', StringSplitOptions.RemoveEmptyEntries)
            .Where(k => !k.StartsWith("events", StringComparison.Ordinal));
        var objects = await cluster.TryKubectlAsync("get", string.Join(',', kinds), "--all-namespaces", "-o", "name", "--ignore-not-found");
        return objects.Status == 0 ? [.. objects.Output.Split('\n').Where(o => Ours().IsMatch(o))] : null;
    }
}

[Collection("containerd 1.6")]
[Trait(Cluster.On, "1.6")]
public sealed class InstallOnContainerd16(ClusterOn16 cluster, ITestOutputHelper output) : InstallTests(cluster, output);

[Collection("containerd 2.4")]
[Trait(Cluster.On, "2.4")]
public sealed class InstallOnContainerd24(ClusterOn24 cluster, ITestOutputHelper output) : InstallTests(cluster, output);
