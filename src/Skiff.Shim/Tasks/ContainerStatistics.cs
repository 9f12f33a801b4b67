using System.Globalization;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Skiff.Linux.Cgroups;
using V1 = Skiff.Containerd.Cgroups.V1;
using V2 = Skiff.Containerd.Cgroups.V2;

namespace Skiff.Shim.Tasks;

/// <summary>
/// What a container uses, from its cgroup's files, in the messages that containerd reads (containerd/cgroups, cgroup1/stats and
/// cgroup2/stats). The network is not in it: it is the pod's, and CRI reads it for itself.
/// </summary>
internal static class ContainerStatistics
{
    // cpuacct.stat counts in these (USER_HZ), whatever the kernel was built with.
    private const ulong NanosecondsPerTick = 10_000_000;

    /// <summary>Reads them; what a kernel does not count is 0.</summary>
    public static Any Read(ContainerCgroup cgroup) => cgroup.IsUnified
        ? Pack("io.containerd.cgroups.v2.Metrics", ReadV2(cgroup.Folder("")))
        : Pack("io.containerd.cgroups.v1.Metrics", ReadV1(cgroup.Folder));

    /// <summary>From the folders of the v1 controllers.</summary>
    internal static V1.Metrics ReadV1(Func<string, string?> folder)
    {
        var (cpu, cpuacct, memory, pids, blkio, hugetlb) = (folder("cpu"), folder("cpuacct"), folder("memory"), folder("pids"), folder("blkio"), folder("hugetlb"));
        var times = CgroupFile.Pairs(cpuacct, "cpuacct.stat");
        var throttling = CgroupFile.Pairs(cpu, "cpu.stat");
        var oom = CgroupFile.Pairs(memory, "memory.oom_control");
        var metrics = new V1.Metrics
        {
            Pids = new V1.PidsStat { Current = Number(pids, "pids.current"), Limit = Limit(Number(pids, "pids.max")) },
            Cpu = new V1.CPUStat
            {
                Usage = new V1.CPUUsage
                {
                    Total = Number(cpuacct, "cpuacct.usage"),
                    User = times.GetValueOrDefault("user") * NanosecondsPerTick,
                    Kernel = times.GetValueOrDefault("system") * NanosecondsPerTick,
                    PerCpu = { CgroupFile.Numbers(cpuacct, "cpuacct.usage_percpu") },
                },
                Throttling = new V1.Throttle
                {
                    Periods = throttling.GetValueOrDefault("nr_periods"),
                    ThrottledPeriods = throttling.GetValueOrDefault("nr_throttled"),
                    ThrottledTime = throttling.GetValueOrDefault("throttled_time"),
                },
            },
            Memory = MemoryV1(memory),
            MemoryOomControl = new V1.MemoryOomControl
            {
                OomKillDisable = oom.GetValueOrDefault("oom_kill_disable"),
                UnderOom = oom.GetValueOrDefault("under_oom"),
                OomKill = oom.GetValueOrDefault("oom_kill"),
            },
            Blkio = new V1.BlkIOStat
            {
                IoServiceBytesRecursive = { Blocks(blkio, "io_service_bytes") },
                IoServicedRecursive = { Blocks(blkio, "io_serviced") },
            },
        };
        foreach (var size in PageSizes(hugetlb, ".usage_in_bytes"))
        {
            metrics.Hugetlb.Add(new V1.HugetlbStat
            {
                Pagesize = size,
                Usage = Number(hugetlb, $"hugetlb.{size}.usage_in_bytes"),
                Max = Number(hugetlb, $"hugetlb.{size}.max_usage_in_bytes"),
                Failcnt = Number(hugetlb, $"hugetlb.{size}.failcnt"),
            });
        }

        return metrics;

        // containerd's own shim says 0 for "no limit" here, and the largest number on v2.
        static ulong Limit(ulong value) => value == ulong.MaxValue ? 0 : value;
    }

    /// <summary>From the v2 folder.</summary>
    internal static V2.Metrics ReadV2(string? folder)
    {
        var cpu = CgroupFile.Pairs(folder, "cpu.stat");
        var metrics = new V2.Metrics
        {
            Pids = new V2.PidsStat { Current = Number(folder, "pids.current"), Limit = Number(folder, "pids.max") },
            Cpu = new V2.CPUStat
            {
                UsageUsec = cpu.GetValueOrDefault("usage_usec"),
                UserUsec = cpu.GetValueOrDefault("user_usec"),
                SystemUsec = cpu.GetValueOrDefault("system_usec"),
                NrPeriods = cpu.GetValueOrDefault("nr_periods"),
                NrThrottled = cpu.GetValueOrDefault("nr_throttled"),
                ThrottledUsec = cpu.GetValueOrDefault("throttled_usec"),
                NrBursts = cpu.GetValueOrDefault("nr_bursts"),
                BurstUsec = cpu.GetValueOrDefault("burst_usec"),
                Psi = Pressure(folder, "cpu.pressure"),
            },
            Memory = MemoryV2(folder),
            Io = new V2.IOStat { Psi = Pressure(folder, "io.pressure") },
        };

        var events = CgroupFile.Pairs(folder, "memory.events");
        if (events.Count > 0)
        {
            metrics.MemoryEvents = new V2.MemoryEvents
            {
                Low = events.GetValueOrDefault("low"),
                High = events.GetValueOrDefault("high"),
                Max = events.GetValueOrDefault("max"),
                Oom = events.GetValueOrDefault("oom"),
                OomKill = events.GetValueOrDefault("oom_kill"),
                OomGroupKill = events.GetValueOrDefault("oom_group_kill"),
            };
        }

        foreach (var words in CgroupFile.Lines(folder, "io.stat"))
        {
            if (Device(words[0]) is not var (major, minor))
            {
                continue;
            }

            var values = words[1..].Select(w => w.Split('=', 2)).Where(p => p.Length == 2).ToDictionary(p => p[0], p => p[1]);
            ulong Value(string key) => values.TryGetValue(key, out var text) && ulong.TryParse(text, CultureInfo.InvariantCulture, out var value) ? value : 0;
            metrics.Io.Usage.Add(new V2.IOEntry
            {
                Major = major,
                Minor = minor,
                Rbytes = Value("rbytes"),
                Wbytes = Value("wbytes"),
                Rios = Value("rios"),
                Wios = Value("wios"),
            });
        }

        foreach (var size in PageSizes(folder, ".current"))
        {
            metrics.Hugetlb.Add(new V2.HugeTlbStat
            {
                Pagesize = size,
                Current = Number(folder, $"hugetlb.{size}.current"),
                Max = Number(folder, $"hugetlb.{size}.max"),
                Failcnt = CgroupFile.Pairs(folder, $"hugetlb.{size}.events").GetValueOrDefault("max"),
            });
        }

        return metrics;
    }

    private static V1.MemoryStat MemoryV1(string? folder)
    {
        var stat = CgroupFile.Pairs(folder, "memory.stat");
        ulong Of(string key) => stat.GetValueOrDefault(key);
        V1.MemoryEntry Entry(string name) => new()
        {
            Usage = Number(folder, $"{name}.usage_in_bytes"),
            Max = Number(folder, $"{name}.max_usage_in_bytes"),
            Failcnt = Number(folder, $"{name}.failcnt"),
            Limit = Number(folder, $"{name}.limit_in_bytes"),
        };
        return new V1.MemoryStat
        {
            Cache = Of("cache"),
            Rss = Of("rss"),
            RssHuge = Of("rss_huge"),
            MappedFile = Of("mapped_file"),
            Dirty = Of("dirty"),
            Writeback = Of("writeback"),
            PgPgIn = Of("pgpgin"),
            PgPgOut = Of("pgpgout"),
            PgFault = Of("pgfault"),
            PgMajFault = Of("pgmajfault"),
            InactiveAnon = Of("inactive_anon"),
            ActiveAnon = Of("active_anon"),
            InactiveFile = Of("inactive_file"),
            ActiveFile = Of("active_file"),
            Unevictable = Of("unevictable"),
            HierarchicalMemoryLimit = Of("hierarchical_memory_limit"),
            HierarchicalSwapLimit = Of("hierarchical_memsw_limit"),
            TotalCache = Of("total_cache"),
            TotalRss = Of("total_rss"),
            TotalRssHuge = Of("total_rss_huge"),
            TotalMappedFile = Of("total_mapped_file"),
            TotalDirty = Of("total_dirty"),
            TotalWriteback = Of("total_writeback"),
            TotalPgPgIn = Of("total_pgpgin"),
            TotalPgPgOut = Of("total_pgpgout"),
            TotalPgFault = Of("total_pgfault"),
            TotalPgMajFault = Of("total_pgmajfault"),
            TotalInactiveAnon = Of("total_inactive_anon"),
            TotalActiveAnon = Of("total_active_anon"),
            TotalInactiveFile = Of("total_inactive_file"),
            TotalActiveFile = Of("total_active_file"),
            TotalUnevictable = Of("total_unevictable"),
            Usage = Entry("memory"),
            Swap = Entry("memory.memsw"),
            Kernel = Entry("memory.kmem"),
            KernelTcp = Entry("memory.kmem.tcp"),
        };
    }

    private static V2.MemoryStat MemoryV2(string? folder)
    {
        var stat = CgroupFile.Pairs(folder, "memory.stat");
        ulong Of(string key) => stat.GetValueOrDefault(key);
        return new V2.MemoryStat
        {
            Anon = Of("anon"),
            File = Of("file"),
            KernelStack = Of("kernel_stack"),
            Slab = Of("slab"),
            Sock = Of("sock"),
            Shmem = Of("shmem"),
            FileMapped = Of("file_mapped"),
            FileDirty = Of("file_dirty"),
            FileWriteback = Of("file_writeback"),
            AnonThp = Of("anon_thp"),
            InactiveAnon = Of("inactive_anon"),
            ActiveAnon = Of("active_anon"),
            InactiveFile = Of("inactive_file"),
            ActiveFile = Of("active_file"),
            Unevictable = Of("unevictable"),
            SlabReclaimable = Of("slab_reclaimable"),
            SlabUnreclaimable = Of("slab_unreclaimable"),
            Pgfault = Of("pgfault"),
            Pgmajfault = Of("pgmajfault"),
            WorkingsetRefault = Of("workingset_refault"),
            WorkingsetActivate = Of("workingset_activate"),
            WorkingsetNodereclaim = Of("workingset_nodereclaim"),
            WorkingsetRefaultAnon = Of("workingset_refault_anon"),
            WorkingsetRefaultFile = Of("workingset_refault_file"),
            WorkingsetActivateAnon = Of("workingset_activate_anon"),
            WorkingsetActivateFile = Of("workingset_activate_file"),
            Pgrefill = Of("pgrefill"),
            Pgscan = Of("pgscan"),
            Pgsteal = Of("pgsteal"),
            Pgactivate = Of("pgactivate"),
            Pgdeactivate = Of("pgdeactivate"),
            Pglazyfree = Of("pglazyfree"),
            Pglazyfreed = Of("pglazyfreed"),
            ThpFaultAlloc = Of("thp_fault_alloc"),
            ThpCollapseAlloc = Of("thp_collapse_alloc"),
            Usage = Number(folder, "memory.current"),
            UsageLimit = Number(folder, "memory.max"),
            MaxUsage = Number(folder, "memory.peak"),
            SwapUsage = Number(folder, "memory.swap.current"),
            SwapLimit = Number(folder, "memory.swap.max"),
            SwapMaxUsage = Number(folder, "memory.swap.peak"),
            Psi = Pressure(folder, "memory.pressure"),
        };
    }

    /// <summary>Lines like <c>8:0 Read 4096</c>. Only the throttling policy counts for every disk; what it shows is the whole subtree's.</summary>
    private static IEnumerable<V1.BlkIOEntry> Blocks(string? folder, string name)
    {
        foreach (var words in CgroupFile.Lines(folder, $"blkio.throttle.{name}_recursive"))
        {
            if (words.Length == 3 && Device(words[0]) is var (major, minor) && ulong.TryParse(words[2], CultureInfo.InvariantCulture, out var value))
            {
                yield return new V1.BlkIOEntry { Major = major, Minor = minor, Op = words[1], Value = value, Device = DeviceName(words[0]) };
            }
        }
    }

    /// <summary>Lines like <c>some avg10=0.00 avg60=0.00 avg300=0.00 total=0</c>; null where the kernel does not measure it.</summary>
    private static V2.PSIStats? Pressure(string? folder, string file)
    {
        V2.PSIStats? pressure = null;
        foreach (var words in CgroupFile.Lines(folder, file))
        {
            var data = new V2.PSIData();
            foreach (var (key, text) in words[1..].Select(w => w.Split('=', 2)).Where(p => p.Length == 2).Select(p => (p[0], p[1])))
            {
                _ = double.TryParse(text, CultureInfo.InvariantCulture, out var value);
                switch (key)
                {
                    case "avg10":
                        data.Avg10 = value;
                        break;
                    case "avg60":
                        data.Avg60 = value;
                        break;
                    case "avg300":
                        data.Avg300 = value;
                        break;
                    case "total":
                        data.Total = (ulong)value;
                        break;
                }
            }

            pressure ??= new V2.PSIStats();
            if (words[0] == "some")
            {
                pressure.Some = data;
            }
            else if (words[0] == "full")
            {
                pressure.Full = data;
            }
        }

        return pressure;
    }

    /// <summary>The sizes that files like <c>hugetlb.2MB.current</c> are there for; reservations have files of their own.</summary>
    private static IEnumerable<string> PageSizes(string? folder, string end) => CgroupFile.Names(folder, "hugetlb.", end)
        .Select(n => n["hugetlb.".Length..^end.Length]).Where(s => !s.Contains('.')).Order(StringComparer.Ordinal);

    private static (ulong Major, ulong Minor)? Device(string text) => text.Split(':') is [var a, var b]
        && ulong.TryParse(a, CultureInfo.InvariantCulture, out var major) && ulong.TryParse(b, CultureInfo.InvariantCulture, out var minor) ? (major, minor) : null;

    private static string DeviceName(string numbers) =>
        new FileInfo($"/sys/dev/block/{numbers}").LinkTarget is { } target ? "/dev/" + Path.GetFileName(target) : "";

    private static ulong Number(string? folder, string file) => CgroupFile.Number(folder, file) ?? 0;

    private static Any Pack(string type, IMessage metrics) => new() { TypeUrl = type, Value = metrics.ToByteString() };
}
