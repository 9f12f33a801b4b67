using Skiff.Linux.Processes;

namespace Skiff.Testing;

/// <summary>
/// Folders for the shared scripts that start clusters and virtual machines, and their emulator. What is made once stays in <c>~/.cache</c>; what
/// a run writes is in folders of its own, so that runs beside each other do not meet and nothing stays of one that is cut off.
/// </summary>
public static class Machines
{
    private const int Tries = 3;
    private const string Emulator = "qemu-system-x86_64";

    // The oldest processor that our programs run on (x86-64-v2). The scripts ask for everything that can be emulated, of which a guest makes use
    // wherever it can: that costs a sixth more of the machine's own processor. A processor that is not emulated is left alone.
    private const string PlainProcessor = $$"""
        #!/bin/bash
        if [[ " $* " == *" -accel tcg"* ]]; then set -- "${@/#max/Nehalem}"; fi
        PATH=${PATH#"$(dirname "$0"):"} exec {{Emulator}} "$@"
        """;

    /// <summary>The HOME of scripts: they keep their caches below it.</summary>
    public static string Home => Environment.GetEnvironmentVariable("HOME") ?? "/root";

    /// <summary>The PATH of scripts.</summary>
    public static string SearchPath => Environment.GetEnvironmentVariable("PATH") + ":/usr/sbin:/sbin";

    /// <summary>What the scripts keep under a name.</summary>
    public static string CachePath(string name) => Path.Combine(Home, ".cache", name);

    /// <summary>PATH for the shared scripts, with a folder before all others that has the emulator as the tests want it.</summary>
    /// <param name="folder">Made where it is not there.</param>
    public static string PathWithEmulator(string folder)
    {
        var program = Path.Combine(Directory.CreateDirectory(folder).FullName, Emulator);
        File.WriteAllText(program, PlainProcessor);
        File.SetUnixFileMode(program, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        return $"{folder}:{SearchPath}";
    }

    /// <summary>
    /// Runs what starts an emulated machine, again if the machine did not start: its kernel gives up when it finds, at its start, that its clock
    /// does not advance as its processor's, as is so where the emulator has to wait for a processor.
    /// </summary>
    public static async Task<T> StartAsync<T>(Func<Task<T>> start, Func<T, bool> started)
    {
        var result = await start();
        for (var tries = 1; tries < Tries && !started(result); tries++)
        {
            result = await start();
        }

        return result;
    }

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
        _ = Directory.CreateDirectory(CachePath(""));
        var result = await Command.RunAsync(
            new SpawnRequest
            {
                Path = "/usr/bin/flock",
                Arguments = ["flock", CachePath("skiff-stations.lock"), "bash", "-ec", line],
                Environment = ["PATH=" + SearchPath, "HOME=" + Home],
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
            var target = Path.Combine(CachePath(cache), name);
            if (Path.Exists(target))
            {
                _ = File.CreateSymbolicLink(Path.Combine(folder, name), target);
            }
        }

        return folder;
    }
}
