using System.Globalization;
using System.Text.Json;
using Skiff.Linux.Cgroups;
using Skiff.Testing;

namespace Skiff.Contract;

/// <summary>What <c>ctr task metrics</c> shows is what the cgroup's files say.</summary>
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
            var id = ProgramTests.Id();
            (await containerd.CtrAsync("run", "--detach", "--null-io", "--memory-limit", "67108864", "--runtime", Repository.Shim, PrivateContainerd.Image, id, program)).Demand();
            try
            {
                var pid = (await containerd.CtrAsync("task", "ls")).Output.Split('\n')
                    .Single(l => l.StartsWith(id + " ", StringComparison.Ordinal)).Split(' ', StringSplitOptions.RemoveEmptyEntries)[1];
                var cgroup = ContainerCgroup.Of(int.Parse(pid, CultureInfo.InvariantCulture))!;
                // Both change all the time, so each is asked until two readings of the files around it agree with it.
                Assert.True(await Until.HoldsAsync(
                    async () =>
                    {
                        var before = Files(cgroup);
                        using var shown = JsonDocument.Parse((await containerd.CtrAsync("task", "metrics", "--format", "json", id)).Demand().Output);
                        var after = Files(cgroup);
                        var (limit, used, cpu) = cgroup.IsUnified
                            ? (Value(shown, "memory", "usage_limit"), Value(shown, "memory", "usage"), Value(shown, "cpu", "usage_usec"))
                            : (Value(shown, "memory", "usage", "limit"), Value(shown, "memory", "usage", "usage"), Value(shown, "cpu", "usage", "total"));
                        var pids = Value(shown, "pids", "current");
                        return limit == 67108864 && used == before.Memory && used == after.Memory && pids == before.Pids && pids == after.Pids
                            && cpu >= before.Cpu && cpu <= after.Cpu && cpu > 0;
                    },
                    RunningContainer.Patience), (await containerd.CtrAsync("task", "metrics", "--format", "json", id)).Text);
            }
            finally
            {
                _ = await containerd.CtrAsync("task", "delete", "--force", id);
                _ = await containerd.CtrAsync("container", "rm", id);
            }
        }
    }

    private static ulong Value(JsonDocument shown, params string[] path) =>
        path.Aggregate(shown.RootElement, (element, name) => element.GetProperty(name)).GetUInt64();

    private static (ulong? Memory, ulong? Pids, ulong? Cpu) Files(ContainerCgroup cgroup) => (
        CgroupFile.Number(cgroup.Folder("memory"), cgroup.IsUnified ? "memory.current" : "memory.usage_in_bytes"),
        CgroupFile.Number(cgroup.Folder("pids"), "pids.current"),
        cgroup.IsUnified ? CgroupFile.Pairs(cgroup.Folder("cpu"), "cpu.stat").GetValueOrDefault("usage_usec") : CgroupFile.Number(cgroup.Folder("cpuacct"), "cpuacct.usage"));
}
