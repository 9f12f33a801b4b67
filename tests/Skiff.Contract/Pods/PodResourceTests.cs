using System.Text.Json.Nodes;
using Skiff.Linux.Cgroups;
using Skiff.Testing;
using Skiff.Testing.Protocol;

namespace Skiff.Contract.Pods;

/// <summary>What a pod's containers may use, and what they have used.</summary>
public sealed class PodResourceTests(Containerds containerds)
{
    private static readonly string[] _kinds = [".wasm", ".native"];

    public static TheoryData<string> Versions => Containerds.Versions;

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task resources_are_set_and_changed(string version)
    {
        var containerd = await containerds.GetForPodsAsync(version);
        await using var pod = await Pod.RunAsync(containerd);
        foreach (var kind in _kinds)
        {
            var id = await pod.StartAsync(Resources("""{"memory_limit_in_bytes": 67108864, "cpu_period": 100000, "cpu_quota": 50000, "cpu_shares": 512}"""), "/sleep" + kind);
            var cgroup = ContainerCgroup.Of(await pod.PidAsync(id))!;
            Assert.Equal((67108864UL, "50000 100000"), Limits(cgroup));
            _ = (await containerd.CrictlAsync(
                "update", "--memory", "134217728", "--cpu-quota", "20000", "--cpu-period", "100000", "--cpuset-cpus", "0", id)).Demand();
            Assert.Equal((134217728UL, "20000 100000"), Limits(cgroup));
            Assert.Equal("0\n", await File.ReadAllTextAsync(cgroup.Folder("cpuset") + "/cpuset.cpus"));
        }
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task huge_pages_and_unified_settings_reach_the_cgroup_and_change(string version)
    {
        Assert.SkipWhen(Directory.Exists("/sys/fs/cgroup/memory"), "this machine has cgroup v1: unified settings are for v2");
        var containerd = await containerds.GetForPodsAsync(version);
        await using var pod = await Pod.RunAsync(containerd);
        foreach (var kind in _kinds)
        {
            var id = await pod.StartAsync(
                Resources("""{"hugepage_limits": [{"page_size": "2MB", "limit": 4194304}], "unified": {"memory.high": "67108864", "memory.low": "4194304"}}"""),
                "/sleep" + kind);
            var folder = ContainerCgroup.Of(await pod.PidAsync(id))!.Folder("memory");
            Assert.Equal<(ulong?, ulong?, ulong?)>((4194304, 67108864, 4194304), (Value("hugetlb.2MB.max"), Value("memory.high"), Value("memory.low")));

            _ = await containerd.Cri.UpdateContainerResourcesAsync(
                new UpdateContainerResourcesRequest { ContainerId = id, Linux = new LinuxContainerResources { Unified = { ["memory.high"] = "33554432" } } });
            Assert.Equal<(ulong?, ulong?)>((33554432, 4194304), (Value("memory.high"), Value("memory.low")));

            ulong? Value(string file) => CgroupFile.Number(folder, file);
        }
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task statistics_of_containers_and_of_the_pod_agree_with_the_cgroups_files(string version)
    {
        var containerd = await containerds.GetForPodsAsync(version);
        await using var pod = await Pod.RunAsync(containerd);
        foreach (var kind in _kinds)
        {
            var id = await pod.StartAsync(Resources("""{"memory_limit_in_bytes": 67108864}"""), "/sleep" + kind);
            await pod.SaysAsync(id, "ready");
            var cgroup = ContainerCgroup.Of(await pod.PidAsync(id))!;

            // Both change all the time, so each is asked until it lies between the readings around it.
            ContainerStats? stats = null;
            Assert.True(
                await Until.HoldsAsync(
                    async () =>
                    {
                        var (memory, cpu) = Used(cgroup);
                        stats = (await containerd.Cri.ContainerStatsAsync(new ContainerStatsRequest { ContainerId = id })).Stats;
                        var (memoryAfter, cpuAfter) = Used(cgroup);
                        return StatisticsTests.IsBetween(memory, stats.Memory.WorkingSetBytes, memoryAfter)
                            && StatisticsTests.IsBetween(cpu, stats.Cpu.UsageCoreNanoSeconds, cpuAfter);
                    },
                    RunningContainer.Patience),
                $"{stats}\n{Used(cgroup)}");
        }
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task the_pods_own_limit_and_statistics_count(string version)
    {
        var containerd = await containerds.GetForPodsAsync(version);
        var cgroup = new PodCgroup(ProgramTests.Id(), 64 << 20);
        try
        {
            await using var pod = await Pod.RunAsync(containerd, new JsonObject { ["linux"] = new JsonObject { ["cgroup_parent"] = cgroup.Path } });
            var beside = await pod.StartAsync(null, "/sleep.wasm");
            await pod.SaysAsync(beside, "ready");
            PodSandboxStats? stats = null;
            Assert.True(
                await Until.HoldsAsync(
                    async () =>
                    {
                        var before = WorkingSet(cgroup.Folder);
                        stats = (await containerd.Cri.PodSandboxStatsAsync(new PodSandboxStatsRequest { PodSandboxId = pod.Id })).Stats;
                        return StatisticsTests.IsBetween(before, stats.Linux.Memory.WorkingSetBytes, WorkingSet(cgroup.Folder));
                    },
                    RunningContainer.Patience),
                $"{stats}\n{WorkingSet(cgroup.Folder)}");

            foreach (var kind in _kinds)
            {
                var (status, _) = await pod.RunToEndAsync(null, "/grow" + kind);
                Assert.Equal((137, "OOMKilled"), (status.GetProperty("exitCode").GetInt32(), status.GetProperty("reason").GetString()));
            }

            Assert.Equal("CONTAINER_RUNNING", (await pod.StatusAsync(beside)).GetProperty("state").GetString());
        }
        finally
        {
            await cgroup.RemoveAsync();
        }
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task a_container_that_is_killed_for_memory_says_so(string version)
    {
        var containerd = await containerds.GetForPodsAsync(version);
        await using var pod = await Pod.RunAsync(containerd);
        foreach (var kind in _kinds)
        {
            var (status, _) = await pod.RunToEndAsync(Resources("""{"memory_limit_in_bytes": 33554432}"""), "/grow" + kind);
            Assert.Equal((137, "OOMKilled"), (status.GetProperty("exitCode").GetInt32(), status.GetProperty("reason").GetString()));
        }
    }

    [Theory]
    [MemberData(nameof(Versions))]
    [Trait(Containerds.Cgroup, Containerds.Any)]
    public async Task a_guest_with_a_limit_of_its_own_is_refused_memory_and_nobody_is_killed(string version)
    {
        var containerd = await containerds.GetForPodsAsync(version);
        await using var pod = await Pod.RunAsync(
            containerd, new JsonObject { ["annotations"] = new JsonObject { ["skiff.dev/max-memory"] = "64Mi", ["small.skiff.dev/max-memory"] = "16Mi" } });
        foreach (var (name, kind, code, allowed) in (List<(string, string, int, int)>)[
            ("big", ".wasm", 9, 64 << 20), ("small", ".wasm", 9, 16 << 20), ("parts", ".component.wasm", 1, 64 << 20)])
        {
            var (status, log) = await pod.RunToEndAsync(
                new JsonObject { ["metadata"] = new JsonObject { ["name"] = name }, ["linux"] = new JsonObject { ["resources"] = new JsonObject { ["memory_limit_in_bytes"] = 256 << 20 } } },
                "/grow" + kind);
            Assert.Equal((code, "Error"), (status.GetProperty("exitCode").GetInt32(), status.GetProperty("reason").GetString()));
            Assert.Contains($"was refused: the guest has", log, StringComparison.Ordinal);
            Assert.Contains($"skiff.dev/max-memory allows {allowed}", log, StringComparison.Ordinal);
        }

        // The others are as before, and an exec has the same limit.
        var id = await pod.StartAsync(null, "/sleep.wasm");
        Assert.Contains("hello from wasm, 1 arguments", (await containerd.CrictlAsync("exec", "--sync", id, "/hello.wasm")).Text, StringComparison.Ordinal);
        Assert.Contains("was refused", (await containerd.CrictlAsync("exec", "--sync", id, "/grow.wasm")).Text, StringComparison.Ordinal);
    }

    private static JsonObject Resources(string json) => new() { ["linux"] = new JsonObject { ["resources"] = JsonNode.Parse(json) } };

    private static (ulong? Memory, string Cpu) Limits(ContainerCgroup cgroup) => cgroup.IsUnified
        ? (CgroupFile.Number(cgroup.Folder("memory"), "memory.max"), File.ReadAllText(cgroup.Folder("cpu") + "/cpu.max").Trim())
        : (CgroupFile.Number(cgroup.Folder("memory"), "memory.limit_in_bytes"),
            $"{CgroupFile.Number(cgroup.Folder("cpu"), "cpu.cfs_quota_us")} {CgroupFile.Number(cgroup.Folder("cpu"), "cpu.cfs_period_us")}");

    /// <summary>The working set, which is what cannot be given back without paging, and nanoseconds of processor time.</summary>
    private static (ulong? Memory, ulong? Cpu) Used(ContainerCgroup cgroup) => (
        WorkingSet(cgroup.Folder("memory")),
        cgroup.IsUnified ? CgroupFile.Pairs(cgroup.Folder("cpu"), "cpu.stat").GetValueOrDefault("usage_usec") * 1000 : CgroupFile.Number(cgroup.Folder("cpuacct"), "cpuacct.usage"));

    private static ulong? WorkingSet(string? memory)
    {
        var unified = File.Exists(memory + "/memory.current");
        return CgroupFile.Number(memory, unified ? "memory.current" : "memory.usage_in_bytes")
            - CgroupFile.Pairs(memory, "memory.stat").GetValueOrDefault(unified ? "inactive_file" : "total_inactive_file");
    }
}
