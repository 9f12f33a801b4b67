using Skiff.Linux.Cgroups;
using Skiff.Linux.Processes;

namespace Skiff.Contract;

/// <summary>The options of the runtime's table do what they do for containerd's own shim.</summary>
public sealed class OptionsTests(Containerds containerds)
{
    [Theory]
    [MemberData(nameof(Containerds.Versions), MemberType = typeof(Containerds))]
    public async Task options_reach_the_oci_runtime_the_shim_and_the_streams(string version)
    {
        var containerd = await containerds.GetAsync(version);
        var name = "options-" + ProgramTests.Id();
        var path = Path.Combine(containerd.Folder, name);
        await File.WriteAllTextAsync(path, $"#!/bin/sh\necho \"$@\" >> {path}.calls\nexec runc \"$@\"\n");
        File.SetUnixFileMode(path, (UnixFileMode)0x1ED);
        await File.WriteAllTextAsync(path + ".toml", $"""
            BinaryName = "{path}"
            Root = "{path}.state"
            NoPivotRoot = true
            NoNewKeyring = true
            ShimCgroup = "/{name}"
            IoUid = 1234
            IoGid = 5678

            """);
        var memory = Directory.Exists("/sys/fs/cgroup/memory") ? "/sys/fs/cgroup/memory/" : "/sys/fs/cgroup/";
        _ = Directory.CreateDirectory(memory + name);
        try
        {
            var fifos = Directory.CreateDirectory(path + ".fifos").FullName;
            await using (var container = await RunningContainer.StartAsync(
                containerd, ["--runtime-config-path", path + ".toml", "--fifo-dir", fifos], "/sleep.native"))
            {
                var create = (await File.ReadAllLinesAsync(path + ".calls")).Single(l => l.Contains(" create ", StringComparison.Ordinal));
                Assert.Contains("--no-pivot", create, StringComparison.Ordinal);
                Assert.Contains("--no-new-keyring", create, StringComparison.Ordinal);
                Assert.True(Directory.Exists($"{path}.state/{containerd.Namespace}/{container.Id}"));

                var shim = await containerd.ShimAsync();
                Assert.Equal(memory + name, ContainerCgroup.Of(shim)!.Folder("memory"));

                var (pid, _) = await container.StateAsync();
                var owner = await Command.RunAsync(
                    new SpawnRequest { Path = "/bin/stat", Arguments = ["stat", "-L", "-c", "%F %u:%g", $"/proc/{pid}/fd/1"] }, RunningContainer.Patience);
                Assert.Equal("fifo 0:5678\n", owner.OutputText); // runc then gives them to the program's user, and leaves the group
            }
        }
        finally
        {
            using var limit = new CancellationTokenSource(RunningContainer.Patience);
            Assert.True(await NamedCgroup.RemoveAsync(name, limit.Token));
        }
    }
}
