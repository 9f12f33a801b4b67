using Google.Protobuf.WellKnownTypes;
using Skiff.Linux.Cgroups;
using Skiff.Testing;
using V1 = Skiff.Containerd.Cgroups.V1;
using V2 = Skiff.Containerd.Cgroups.V2;

namespace Skiff.Contract;

/// <summary>What containerd has from the shim of a container's use is what the cgroup's files say.</summary>
public sealed class StatisticsTests(Containerds containerds)
{
    public static TheoryData<string> Versions => Containerds.Versions;

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task metrics_are_those_of_the_cgroups_files(string version)
    {
        var containerd = await containerds.GetAsync(version);
        foreach (var program in (string[])["/sleep.wasm", "/sleep.native"])
        {
            await using var container = await RunningContainer.StartAsync(containerd, ["--memory-limit", "67108864"], program);
            var cgroup = ContainerCgroup.Of((await container.StateAsync()).Pid)!;
            // They change all the time, so each is asked until it lies between two readings of the files around it.
            Assert.True(await Until.HoldsAsync(
                async () =>
                {
                    var before = Files(cgroup);
                    var (limit, used) = Used(await containerd.MetricsAsync(container.Id));
                    var after = Files(cgroup);
                    return limit == 67108864 && IsBetween(before.Memory, used.Memory, after.Memory) && IsBetween(before.Pids, used.Pids, after.Pids)
                        && IsBetween(before.Cpu, used.Cpu, after.Cpu);
                },
                RunningContainer.Patience), $"{await containerd.MetricsAsync(container.Id)}\n{Files(cgroup)}");
            Assert.Contains("67108864", (await containerd.CtrAsync("task", "metrics", "--format", "json", container.Id)).Demand().Output, StringComparison.Ordinal);
        }
    }

    /// <summary>Whether a value that is more than 0 lies between two readings, whichever of them is the larger.</summary>
    internal static bool IsBetween(ulong? reading, ulong? value, ulong? other) =>
        value > 0 && ((value >= reading && value <= other) || (value >= other && value <= reading));

    private static (ulong Limit, (ulong Memory, ulong Pids, ulong Cpu) Used) Used(Any metrics)
    {
        if (metrics.TypeUrl.EndsWith("io.containerd.cgroups.v2.Metrics", StringComparison.Ordinal))
        {
            var v2 = V2.Metrics.Parser.ParseFrom(metrics.Value);
            return (v2.Memory.UsageLimit, (v2.Memory.Usage, v2.Pids.Current, v2.Cpu.UsageUsec));
        }

        Assert.EndsWith("io.containerd.cgroups.v1.Metrics", metrics.TypeUrl, StringComparison.Ordinal);
        var v1 = V1.Metrics.Parser.ParseFrom(metrics.Value);
        return (v1.Memory.Usage.Limit, (v1.Memory.Usage.Usage, v1.Pids.Current, v1.Cpu.Usage.Total));
    }

    private static (ulong? Memory, ulong? Pids, ulong? Cpu) Files(ContainerCgroup cgroup) => (
        CgroupFile.Number(cgroup.Folder("memory"), cgroup.IsUnified ? "memory.current" : "memory.usage_in_bytes"),
        CgroupFile.Number(cgroup.Folder("pids"), "pids.current"),
        cgroup.IsUnified ? CgroupFile.Pairs(cgroup.Folder("cpu"), "cpu.stat").GetValueOrDefault("usage_usec") : CgroupFile.Number(cgroup.Folder("cpuacct"), "cpuacct.usage"));
}
