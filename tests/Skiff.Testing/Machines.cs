using Skiff.Linux.Processes;

namespace Skiff.Testing;

/// <summary>
/// Folders for the shared scripts that start clusters and virtual machines. What is made once stays in <c>~/.cache</c>; what a run writes is
/// in folders of its own, so that runs beside each other do not meet and nothing stays of one that is cut off.
/// </summary>
public static class Machines
{
    private static string Home => Environment.GetEnvironmentVariable("HOME") ?? "/root";

    /// <summary>A folder for the cluster's scripts (their <c>W</c>), made where it is said.</summary>
    public static async Task<string> ClusterFolderAsync(string folder)
    {
        await MakeAsync("cluster/setup.sh; cluster/helm version");
        return Linked(folder, "skiff-cluster", "bin", "img", "kube.ext4");
    }

    /// <summary>A folder for the virtual machine's scripts (their <c>W</c>, or <c>VMDIR</c>), made where it is said.</summary>
    public static async Task<string> VirtualMachineFolderAsync(string folder)
    {
        await MakeAsync("[ -f ~/.cache/skiff-vm/root.ext4 ] || vm/build.sh");
        return Linked(folder, "skiff-vm", "root.ext4", "vmlinuz", "boot.cpio");
    }

    /// <summary>A folder for the conformance suite's script (its <c>W</c>), made where it is said.</summary>
    public static async Task<string> ConformanceFolderAsync(string folder)
    {
        // The script makes the images on its way; of a run of no test it says that none passed.
        await MakeAsync("[ -f ~/.cache/skiff-conformance/images.done ] || conformance/run.sh images -ginkgo.focus '^$' || [ -f ~/.cache/skiff-conformance/images.done ]");
        return Linked(folder, "skiff-conformance", "bin", "registry", "images.done");
    }

    /// <summary>
    /// Runs a line that makes what is not there yet, in the shared folder; one at a time on this machine, because the scripts there do not
    /// expect each other.
    /// </summary>
    public static async Task MakeAsync(string line)
    {
        _ = Directory.CreateDirectory(Path.Combine(Home, ".cache"));
        var result = await Command.RunAsync(
            new SpawnRequest
            {
                Path = "/usr/bin/flock",
                Arguments = ["flock", Path.Combine(Home, ".cache", "skiff-stations.lock"), "bash", "-ec", line],
                Environment = [$"PATH={Environment.GetEnvironmentVariable("PATH")}:/usr/sbin:/sbin", $"HOME={Home}"],
                WorkingDirectory = Repository.Shared,
            },
            TimeSpan.FromMinutes(8));
        if (!result.Exit.Success)
        {
            throw new InvalidOperationException($"{line}: {result.Exit}: {result.OutputText}{result.Error}");
        }
    }

    private static string Linked(string folder, string cache, params string[] names)
    {
        _ = Directory.CreateDirectory(folder);
        foreach (var name in names)
        {
            var target = Path.Combine(Home, ".cache", cache, name);
            if (Path.Exists(target))
            {
                _ = File.CreateSymbolicLink(Path.Combine(folder, name), target);
            }
        }

        return folder;
    }
}
