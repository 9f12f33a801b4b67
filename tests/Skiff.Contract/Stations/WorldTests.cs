using Microsoft.Win32.SafeHandles;
using Skiff.Linux.Mounts;
using Skiff.Linux.Processes;
using Skiff.Testing;

namespace Skiff.Contract.Stations;

/// <summary>hack/isolate, in which all tests run: whatever happens to it, nothing of what it was for is left.</summary>
[Trait(Containerds.Runs, Containerds.Once)]
public sealed class WorldTests
{
    private static readonly string _worlds = Environment.GetEnvironmentVariable("SKIFF_WORLD") is null ? "/var/tmp/skiff-worlds" : "/tmp/skiff-worlds";

    // What tests leave when they are cut off: processes that nobody waits for, cgroups, mounts, network namespaces, files.
    private const string Clutter = """
        echo left > /tmp/left
        mkdir /tmp/mount; mount -t tmpfs none /tmp/mount
        ip netns add left
        for memory in /sys/fs/cgroup/memory /sys/fs/cgroup; do [ ! -e $memory/cgroup.procs ] || break; done
        mkdir -p $memory/left/deeper
        (echo 0 > $memory/left/deeper/cgroup.procs; trap '' TERM; exec setsid sleep "$1") < /dev/null > /dev/null 2>&1 &
        until grep -qs left/deeper /proc/$!/cgroup && grep -qs sleep /proc/$!/comm; do :; done
        echo $SKIFF_WORLD
        """;

    [Theory]
    [InlineData("ends")]
    [InlineData("is told to end")]
    [InlineData("is killed")]
    public async Task nothing_of_a_world_is_left_when_it(string end)
    {
        using var folder = new TemporaryFolder("skiff-world-");
        var sign = Path.Combine(folder.Path, "name");
        var mark = $"{1000 + Random.Shared.Next(1_000_000)}.5";
        using var output = File.OpenHandle(sign, FileMode.Create, FileAccess.Write, FileShare.ReadWrite); // which the world cannot see
        var isolate = Reaper.Shared.Spawn(
            Isolated("bash", "-ec", Clutter + (end == "ends" ? "" : "\nexec sleep 1000"), "bash", mark) with { Files = new Dictionary<int, SafeFileHandle> { [1] = output } });
        Assert.True(await Until.HoldsAsync(() => Task.FromResult(File.ReadAllText(sign).EndsWith('\n')), RunningContainer.Patience));
        var name = (await File.ReadAllTextAsync(sign)).Trim();
        if (end != "ends")
        {
            Assert.True(isolate.Signal(end == "is killed" ? Signals.Kill : Signals.Terminate));
        }

        Assert.Equal(end switch { "ends" => 0u, "is killed" => 137u, _ => 143u }, (await isolate.Exit.WaitAsync(RunningContainer.Patience)).ShellCode);
        Assert.True(await Until.HoldsAsync(() => Task.FromResult(!Processes().Any(c => c.Contains(mark, StringComparison.Ordinal))), RunningContainer.Patience));
        if (end == "is killed")
        {
            Assert.True(Directory.Exists(Path.Combine(_worlds, name)));
            Assert.True((await Command.RunAsync(Isolated("true"), RunningContainer.Patience)).Exit.Success); // the next one cleans up
        }

        Assert.False(Directory.Exists(Path.Combine(_worlds, name)));
        Assert.Equal([], MountTable.Read().Where(m => m.Type is "cgroup" or "cgroup2").Select(m => Path.Combine(m.Target, name)).Where(Directory.Exists));
        Assert.False(Path.Exists("/run/netns/left"));
        Assert.False(Path.Exists("/tmp/left"));
    }

    [Fact]
    public async Task a_world_sees_nothing_of_another_and_hands_on_its_commands_status()
    {
        var result = await Command.RunAsync(
            Isolated("bash", "-c", "ls /tmp /run/netns /run/containerd; ps axo args= | grep -vE '^(ps|grep|bash) '; cut -d: -f3 /proc/self/cgroup | sort -u; exit 42"), RunningContainer.Patience);
        Assert.Equal(42u, result.Exit.ShellCode);
        Assert.Matches("^/run/containerd:\n\n/run/netns:\n\n/tmp:\n(/\n)?(/tests\n)?$", result.OutputText);
    }

    private static SpawnRequest Isolated(params string[] command) => new()
    {
        Path = "/bin/bash",
        Arguments = ["bash", Path.Combine(Repository.Root, "hack", "isolate"), "--", .. command],
        Environment =
        [
            "PATH=" + Machines.SearchPath,
            .. Environment.GetEnvironmentVariable("SKIFF_WORLD") is { } outer ? (string[])["SKIFF_WORLD=" + outer] : [],
        ],
        WorkingDirectory = Repository.Root,
        NewSession = true,
    };

    private static IEnumerable<string> Processes()
    {
        foreach (var folder in Directory.EnumerateDirectories("/proc").Where(f => int.TryParse(Path.GetFileName(f), out _)))
        {
            string command;
            try
            {
                command = File.ReadAllText(folder + "/cmdline");
            }
            catch (IOException)
            {
                continue; // it has ended
            }

            yield return command;
        }
    }
}
