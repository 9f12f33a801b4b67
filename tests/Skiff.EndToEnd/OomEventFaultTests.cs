using System.Globalization;
using System.Text.Json.Nodes;
using Skiff.Linux;
using Skiff.Linux.Processes;
using Skiff.Testing;

namespace Skiff.EndToEnd;

/// <summary>Memory kills as Events where something goes wrong at the same time.</summary>
[Collection("containerd 1.6")]
[Trait(Cluster.On, "1.6")]
[TestMethodOrderer(typeof(InOrderOfDeclaration))]
public sealed class OomEventFaultTests(ClusterOn16 cluster, ITestOutputHelper output) : KilledPods(cluster, output)
{
    private const int Storm = 5;
    private const int KillsEach = 8;

    private readonly Cluster _cluster = cluster;
    private readonly ITestOutputHelper _output = output;

    [Fact]
    public async Task without_us_a_kill_has_no_event()
    {
        await _cluster.BeAbsentAsync();
        await RunAsync(Pod("plain", 1, "", Container("app", "/grow.native")));
        await EndsAsync("plain");
        Assert.Empty(await EventsAsync("plain"));
    }

    [Fact]
    public async Task a_kill_for_which_neither_the_agent_nor_containerds_shim_had_a_processor_has_its_event()
    {
        await _cluster.BeInstalledAsync();
        var pod = "unseen-1";
        for (var n = 2; !await IsKilledUnseenAsync(pod); n++)
        {
            pod = $"unseen-{n}";
        }

        await HasEventAsync(pod, "OOMKilled", "spec.containers{app}");
    }

    /// <summary>
    /// Has a pod's container killed without a witness but the kernel's log. Of a whole machine that holds 10 kills in 5 s, and others may have had those.
    /// </summary>
    /// <returns>Whether the kill is in the log.</returns>
    private async Task<bool> IsKilledUnseenAsync(string pod)
    {
        await RunAsync(Pod(pod, 1, "", Container("app", "/grow.native", "when", "/go"), Container("beside", "/sleep.native")));
        await _cluster.PodIsReadyAsync(pod);
        var (cgroup, app) = await AppOfAsync(pod);
        var isInLog = false;
        await Cluster.WithoutAsync(_cluster.Nodes[0].Agent()!.Value, async () =>
        {
            await Cluster.WithoutAsync(int.Parse(Status("PPid"), CultureInfo.InvariantCulture), async () =>
            {
                await File.WriteAllTextAsync($"/proc/{app}/root/go", "");
                Assert.True(await Until.HoldsAsync(() => Task.FromResult(Status("State").StartsWith('Z')), Cluster.Patience));

                // As systemd does at once where it is told of empty cgroups: on a machine that is no container.
                Directory.Delete(cgroup);
            });
            await Cluster.UntilAsync($"{pod}'s app has ended", async () => await ReasonAsync() is not "", () => DescribeAsync(pod));
            isInLog = KernelMessages.Read()!.Split('\n').Any(l => l.Contains("oom-kill:", StringComparison.Ordinal) && l.Contains(Path.GetFileName(cgroup), StringComparison.Ordinal));
        });
        Assert.Equal("Error", await ReasonAsync());
        return isInLog;

        Task<string> ReasonAsync() => _cluster.FieldAsync(pod, "{.status.containerStatuses[?(@.name==\"app\")].state.terminated.reason}");

        string Status(string key) => File.ReadLines($"/proc/{app}/status").Single(l => l.StartsWith(key + ":\t", StringComparison.Ordinal))[(key.Length + 2)..];
    }

    [Fact]
    public async Task a_pod_that_is_deleted_in_the_second_of_its_kill_has_its_event()
    {
        await _cluster.BeInstalledAsync();
        await RunAsync(Pod("deleted", 1, "", Container("app", "/grow.native", "when", "/go")));
        await _cluster.PodIsReadyAsync("deleted");
        var uid = await _cluster.FieldAsync("deleted", "{.metadata.uid}");
        var (_, app) = await AppOfAsync("deleted");
        await Cluster.WithoutAsync(_cluster.Nodes[0].Agent()!.Value, async () =>
        {
            await File.WriteAllTextAsync($"/proc/{app}/root/go", "");
            Assert.True(await Until.HoldsAsync(() => Task.FromResult(!File.Exists($"/proc/{app}/root/go")), Cluster.Patience), "it is killed");
            _ = await _cluster.KubectlAsync("delete", "pod", "deleted", "--grace-period=0", "--force", "--wait=false");
        });
        await Cluster.UntilAsync("deleted: it has its event", async () => (await EventsOfAsync(uid)).Count > 0, () => DescribeAsync("deleted"));
        var one = Assert.Single(await EventsOfAsync(uid));
        Assert.Equal(("OOMKilled", "spec.containers{app}"), ((string)one["reason"]!, (string)one["regarding"]!["fieldPath"]!));
        Assert.Null(one["series"]);
    }

    [Fact]
    public async Task a_pod_that_crashes_again_and_again_has_one_event_that_counts()
    {
        await _cluster.BeInstalledAsync();
        await RunAsync(Pod("loop", 1, "", Container("app", "/grow.native")).Replace("restartPolicy: Never", "restartPolicy: Always", StringComparison.Ordinal));
        await UntilAsync("loop", "the series counts 3", events => events is [var one] && (int?)one["series"]?["count"] >= 3);
    }

    [Fact]
    public async Task in_a_storm_no_kill_is_lost_or_counted_twice_though_containerd_the_agent_and_the_api_server_go_away()
    {
        await _cluster.BeInstalledAsync();
        for (var i = 0; i < Storm; i++)
        {
            await RunAsync(Pod($"storm-{i}", 1, "", Container("app", "/grow.native", "child", $"{KillsEach}", "3")));
        }

        var node = _cluster.Nodes[0];
        for (var i = 0; i < Storm; i++)
        {
            // containerd, which is killed below, forgets a sandbox that it is only making then, and nobody ends it.
            await _cluster.PodRunsAsync($"storm-{i}");
        }

        await UntilAsync("storm-0", "the first kill is told", events => events.Count > 0);
        var before = await RequestsAsync();
        var told = Kept(node);
        var containerd = await node.ContainerdAsync();
        _ = await node.RunAsync("kill", "-9", containerd.ToString(CultureInfo.InvariantCulture));
        await _cluster.WithoutTheApiServerAsync(async () =>
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

        _output.WriteLine($"{Storm * KillsEach} kills: {await RequestsAsync() - before} writes of Events after the first; agent {await MemoryAsync(node)}");
        await _cluster.BothNodesAreReadyAsync();
    }

    /// <summary>The cgroup and the only process of a pod's container "app", on the first node.</summary>
    private async Task<(string Cgroup, int Process)> AppOfAsync(string pod)
    {
        var id = (await _cluster.FieldAsync(pod, "{.status.containerStatuses[?(@.name==\"app\")].containerID}"))["containerd://".Length..];
        var cgroup = Assert.Single(Directory.GetDirectories("/sys/fs/cgroup/memory", $"*{id}*", SearchOption.AllDirectories));
        return (cgroup, int.Parse(Assert.Single(await File.ReadAllLinesAsync(cgroup + "/cgroup.procs")), CultureInfo.InvariantCulture));
    }

    private Task EndsAsync(string pod) => Cluster.UntilAsync(
        $"{pod} has ended", async () => await _cluster.FieldAsync(pod, "{.status.phase}") == "Failed", () => _cluster.TryKubectlAsync("describe", "pod", pod));

    /// <summary>How many writes of Events the API server has had from agents.</summary>
    private async Task<int> RequestsAsync()
    {
        var count = 0;
        await foreach (var line in File.ReadLinesAsync(_cluster.AuditLog))
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
