using Skiff.Shim.Tasks;

namespace Skiff.Shim.Tests;

public sealed class ContainerStatisticsTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("skiff-cgroup-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void a_v2_cgroup_is_read()
    {
        Put("pids.current", "3\n");
        Put("pids.max", "max\n");
        Put("cpu.stat", "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnr_periods 7\nnr_throttled 2\nthrottled_usec 90\nnr_bursts 1\nburst_usec 4\n");
        Put("cpu.pressure", "some avg10=1.50 avg60=0.25 avg300=0.00 total=12345\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=6\n");
        Put("memory.current", "1048576\n");
        Put("memory.max", "67108864\n");
        Put("memory.peak", "2097152\n");
        Put("memory.swap.current", "0\n");
        Put("memory.swap.max", "max\n");
        Put("memory.stat", "anon 4096\nfile 8192\nslab_reclaimable 17\npgfault 99\nworkingset_refault_file 5\nsomething_new 1\n");
        Put("memory.events", "low 0\nhigh 1\nmax 20\noom 3\noom_kill 2\noom_group_kill 1\n");
        Put("io.stat", "8:0 rbytes=1000 wbytes=2000 rios=3 wios=4 dbytes=0 dios=0\n253:16 rbytes=5\n");
        Put("hugetlb.2MB.current", "0\n");
        Put("hugetlb.2MB.max", "max\n");
        Put("hugetlb.2MB.rsvd.current", "0\n");
        Put("hugetlb.2MB.events", "max 4\n");

        var metrics = ContainerStatistics.ReadV2(_folder);

        Assert.Equal((3UL, ulong.MaxValue), (metrics.Pids.Current, metrics.Pids.Limit));
        Assert.Equal((1500UL, 1000UL, 500UL), (metrics.Cpu.UsageUsec, metrics.Cpu.UserUsec, metrics.Cpu.SystemUsec));
        Assert.Equal((7UL, 2UL, 90UL, 1UL, 4UL), (metrics.Cpu.NrPeriods, metrics.Cpu.NrThrottled, metrics.Cpu.ThrottledUsec, metrics.Cpu.NrBursts, metrics.Cpu.BurstUsec));
        Assert.Equal((1.5, 0.25, 12345UL, 6UL), (metrics.Cpu.Psi.Some.Avg10, metrics.Cpu.Psi.Some.Avg60, metrics.Cpu.Psi.Some.Total, metrics.Cpu.Psi.Full.Total));
        Assert.Null(metrics.Memory.Psi);
        Assert.Equal((1048576UL, 67108864UL, 2097152UL), (metrics.Memory.Usage, metrics.Memory.UsageLimit, metrics.Memory.MaxUsage));
        Assert.Equal((0UL, ulong.MaxValue), (metrics.Memory.SwapUsage, metrics.Memory.SwapLimit));
        Assert.Equal((4096UL, 8192UL, 17UL, 99UL, 5UL), (metrics.Memory.Anon, metrics.Memory.File, metrics.Memory.SlabReclaimable, metrics.Memory.Pgfault, metrics.Memory.WorkingsetRefaultFile));
        Assert.Equal((1UL, 20UL, 3UL, 2UL, 1UL), (metrics.MemoryEvents.High, metrics.MemoryEvents.Max, metrics.MemoryEvents.Oom, metrics.MemoryEvents.OomKill, metrics.MemoryEvents.OomGroupKill));
        Assert.Equal([(8UL, 0UL, 1000UL, 4UL), (253UL, 16UL, 5UL, 0UL)], metrics.Io.Usage.Select(e => (e.Major, e.Minor, e.Rbytes, e.Wios)));
        var pages = Assert.Single(metrics.Hugetlb);
        Assert.Equal(("2MB", 0UL, ulong.MaxValue, 4UL), (pages.Pagesize, pages.Current, pages.Max, pages.Failcnt));
    }

    [Fact]
    public void a_v1_cgroup_is_read()
    {
        Put("pids.current", "2\n");
        Put("pids.max", "max\n");
        Put("cpuacct.usage", "123456789\n");
        Put("cpuacct.stat", "user 7\nsystem 3\n");
        Put("cpuacct.usage_percpu", "100000000 23456789 \n");
        Put("cpu.stat", "nr_periods 5\nnr_throttled 1\nthrottled_time 777\n");
        Put("memory.usage_in_bytes", "4096\n");
        Put("memory.max_usage_in_bytes", "8192\n");
        Put("memory.limit_in_bytes", "9223372036854771712\n");
        Put("memory.failcnt", "6\n");
        Put("memory.stat", "cache 10\nrss 20\npgpgin 30\nhierarchical_memsw_limit 40\ntotal_rss 50\ntotal_inactive_file 60\n");
        Put("memory.oom_control", "oom_kill_disable 0\nunder_oom 1\noom_kill 4\n");
        Put("blkio.throttle.io_service_bytes_recursive", "8:0 Read 4096\n8:0 Write 512\n8:0 Total 4608\nTotal 4608\n");
        Put("hugetlb.1GB.usage_in_bytes", "0\n");
        Put("hugetlb.1GB.max_usage_in_bytes", "1073741824\n");
        Put("hugetlb.1GB.rsvd.usage_in_bytes", "0\n");

        var metrics = ContainerStatistics.ReadV1(_ => _folder);

        Assert.Equal((2UL, 0UL), (metrics.Pids.Current, metrics.Pids.Limit));
        Assert.Equal((123456789UL, 70_000_000UL, 30_000_000UL), (metrics.Cpu.Usage.Total, metrics.Cpu.Usage.User, metrics.Cpu.Usage.Kernel));
        Assert.Equal([100000000UL, 23456789UL], metrics.Cpu.Usage.PerCpu);
        Assert.Equal((5UL, 1UL, 777UL), (metrics.Cpu.Throttling.Periods, metrics.Cpu.Throttling.ThrottledPeriods, metrics.Cpu.Throttling.ThrottledTime));
        Assert.Equal((4096UL, 8192UL, 9223372036854771712UL, 6UL), (metrics.Memory.Usage.Usage, metrics.Memory.Usage.Max, metrics.Memory.Usage.Limit, metrics.Memory.Usage.Failcnt));
        Assert.Equal((10UL, 20UL, 30UL, 40UL, 50UL, 60UL), (metrics.Memory.Cache, metrics.Memory.Rss, metrics.Memory.PgPgIn, metrics.Memory.HierarchicalSwapLimit, metrics.Memory.TotalRss, metrics.Memory.TotalInactiveFile));
        Assert.Equal((1UL, 4UL), (metrics.MemoryOomControl.UnderOom, metrics.MemoryOomControl.OomKill));
        Assert.Equal([(8UL, "Read", 4096UL), (8UL, "Write", 512UL), (8UL, "Total", 4608UL)], metrics.Blkio.IoServiceBytesRecursive.Select(e => (e.Major, e.Op, e.Value)));
        Assert.Equal(("1GB", 1073741824UL), (Assert.Single(metrics.Hugetlb).Pagesize, metrics.Hugetlb[0].Max));
    }

    [Fact]
    public void controllers_that_are_not_there_count_nothing()
    {
        Assert.Equal(0UL, ContainerStatistics.ReadV1(_ => null).Memory.Usage.Usage);
        Assert.Null(ContainerStatistics.ReadV2(_folder + "/gone").MemoryEvents);
    }

    private void Put(string file, string text) => File.WriteAllText(Path.Combine(_folder, file), text);
}
