using Skiff.Linux.Processes;
using Skiff.Testing;

namespace Skiff.Operator.Tests.OomEvents;

/// <summary>A corner of this machine's own memory hierarchy, laid out as a kubelet with the cgroupfs driver does.</summary>
internal sealed class PodCgroups : IAsyncDisposable
{
    /// <summary>Whether this machine's hierarchy is v2.</summary>
    public static readonly bool Unified = File.Exists("/sys/fs/cgroup/cgroup.controllers");

    private static readonly bool _machineSwaps = File.ReadLines("/proc/swaps").Count() > 1;

    private readonly string _name = $"skf-{Guid.NewGuid():n}"[..16];
    private readonly DirectoryInfo _view = Directory.CreateTempSubdirectory("skf-cgroups-");
    private readonly List<ChildProcess> _children = [];
    private readonly string _top;

    public PodCgroups()
    {
        _top = (Unified ? "/sys/fs/cgroup/" : "/sys/fs/cgroup/memory/") + _name;
        try
        {
            Make(_top);
            Make(_top + "/kubepods");
            Make(_top + "/kubepods/burstable");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            Assert.Skip($"no memory cgroups can be made here: {e.Message}");
        }

        if (!File.Exists(Path.Combine(Repository.Guests, "grow.native")))
        {
            Assert.Skip("no guests: run hack/guests");
        }

        if (!Unified)
        {
            _ = File.CreateSymbolicLink(Path.Combine(_view.FullName, "memory"), _top);
        }
    }

    /// <summary>What stands for /sys/fs/cgroup.</summary>
    public string Root => Unified ? _top : _view.FullName;

    /// <summary>Makes a pod's cgroup.</summary>
    public string AddPod(string uid, long? limit = null)
    {
        var folder = $"{_top}/kubepods/burstable/pod{uid}";
        Make(folder);
        LimitPod(folder, limit);
        return folder;
    }

    /// <summary>Makes a container's cgroup in a pod's.</summary>
    public static string AddContainer(string pod, string id, long? limit = null)
    {
        var folder = $"{pod}/{id}";
        _ = Directory.CreateDirectory(folder);
        SetLimit(folder, limit, swaps: true);
        return folder;
    }

    /// <summary>Limits all pods together, as a kubelet does that keeps some of the node for itself.</summary>
    public void LimitPods(long limit) => LimitPod($"{_top}/kubepods", limit);

    /// <summary>Sets a pod's limit; that of swap the kubelet leaves alone, and so do we where there is none.</summary>
    public static void LimitPod(string folder, long? limit) => SetLimit(folder, limit, _machineSwaps);

    /// <summary>Runs a guest in a cgroup.</summary>
    public ChildProcess Run(string folder, params string[] words) => RunShell(Within(folder), words);

    /// <summary>The same with a parent elsewhere, which is a guest as well and does not wait for it.</summary>
    public ChildProcess RunParent(string folder, params string[] words) => RunShell($"sh -c '{Within(folder)}' sh \"$@\" & exec \"$@\" > /dev/null", words);

    /// <summary>Runs what is killed at the limit, and waits for that.</summary>
    public async Task KillAsync(string folder)
    {
        var exit = await Run(folder, "grow.native").Exit.WaitAsync(TimeSpan.FromSeconds(60));
        Assert.Equal(137u, exit.ShellCode);
    }

    /// <summary>Removes a cgroup in which nothing runs any more.</summary>
    public static async Task RemoveAsync(string folder) => Assert.True(await Until.HoldsAsync(
        () =>
        {
            try
            {
                Directory.Delete(folder);
            }
            catch (IOException)
            {
                // The kernel is not done with its processes.
            }

            return Task.FromResult(!Directory.Exists(folder));
        },
        TimeSpan.FromSeconds(60)));

    public async ValueTask DisposeAsync()
    {
        foreach (var child in _children.Where(c => !c.Exit.IsCompleted))
        {
            _ = child.Signal(Signals.Kill);
            _ = await child.Exit;
        }

        _ = await Linux.Cgroups.NamedCgroup.RemoveAsync(_name, new CancellationTokenSource(TimeSpan.FromSeconds(60)).Token);
        _view.Delete(recursive: true);
    }

    private static string Within(string folder) => $"echo $$ > {folder}/cgroup.procs; exec \"$@\" > /dev/null";

    private ChildProcess RunShell(string line, string[] words)
    {
        var child = Reaper.Shared.Spawn(new SpawnRequest { Path = "/bin/sh", Arguments = ["sh", "-c", line, "sh", Path.Combine(Repository.Guests, words[0]), .. words[1..]], Environment = [] });
        _children.Add(child);
        return child;
    }

    private static void Make(string folder)
    {
        _ = Directory.CreateDirectory(folder);
        if (Unified)
        {
            File.WriteAllText(folder + "/cgroup.subtree_control", "+memory");
        }
    }

    private static void SetLimit(string folder, long? limit, bool swaps)
    {
        if (limit is not { } bytes)
        {
            return;
        }

        // v1 takes no limit of memory above that of memory and swap.
        var swap = folder + (Unified ? "/memory.swap.max" : "/memory.memsw.limit_in_bytes");
        swaps &= File.Exists(swap);
        if (swaps && !Unified)
        {
            File.WriteAllText(swap, "-1");
        }

        File.WriteAllText(folder + (Unified ? "/memory.max" : "/memory.limit_in_bytes"), $"{bytes}");
        if (swaps)
        {
            File.WriteAllText(swap, Unified ? "0" : $"{bytes}");
        }
    }
}
