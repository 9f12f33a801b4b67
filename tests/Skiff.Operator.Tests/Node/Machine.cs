using Skiff.Linux.Processes;
using Skiff.Testing;

namespace Skiff.Operator.Tests.Node;

/// <summary>A whole machine: systemd as process 1, containerd as its service, our program in <c>/skiff</c> and the guests' image.</summary>
internal sealed class Machine : IAsyncDisposable
{
    /// <summary>What a sandbox of this machine is made of: a program that sleeps.</summary>
    private const string PauseImage = "skiff.test/pause:1";

    private static readonly TimeSpan _bootLimit = TimeSpan.FromMinutes(8);

    private readonly string _name = "skiff-" + Guid.NewGuid().ToString("n")[..6];
    private readonly string _folder = Directory.CreateTempSubdirectory("skiff-machine-").FullName;

    private Machine()
    {
    }

    /// <summary>What the machine has written, or changed, of its root file system.</summary>
    public string Layer => Path.Combine(
        Environment.GetEnvironmentVariable("W") ?? Machines.CachePath("skiff-machine"),
        "nodes", _name, "layer");

    private static string Scripts => Path.Combine(Repository.Shared, "machine");

    /// <summary>Boots one with this containerd, or skips and says what is missing.</summary>
    public static async Task<Machine> BootAsync(ContainerdVersion version)
    {
        if (Repository.Missing is { } missing)
        {
            Assert.Skip(missing);
        }

        if (!File.Exists(Path.Combine(Repository.Out, "bin", "skiff-operator")))
        {
            Assert.Skip($"no {Repository.Out}/bin/skiff-operator: run hack/build");
        }

        if (!File.Exists(Path.Combine(Scripts, "boot.sh")))
        {
            Assert.Skip($"no {Scripts}/boot.sh: the machine comes from there");
        }

        var (binaries, lacks) = await version.LocateAsync();
        if (binaries is null)
        {
            Assert.Skip(lacks!);
        }

        Machine machine = new();
        try
        {
            await machine.BootAsync(version, binaries);
            return machine;
        }
        catch
        {
            await machine.DisposeAsync();
            throw;
        }
    }

    /// <summary>Runs a script in it.</summary>
    public Task<CommandResult> RunAsync(string script, params string[] arguments) =>
        HostAsync(TimeSpan.FromMinutes(5), [], "enter.sh", [_name, "bash", "-c", script, "bash", .. arguments]);

    /// <summary>Runs a script in it that has to succeed.</summary>
    public async Task<string> DemandAsync(string script)
    {
        var result = await RunAsync("set -e; " + script);
        Assert.True(result.Exit.Success, $"{script}\n{result.Exit} {result.OutputText}{result.Error}");
        return result.OutputText.Trim();
    }

    /// <summary>Runs <c>skiff-operator node …</c> in it.</summary>
    public Task<CommandResult> OperatorAsync(params string[] words) => RunAsync("exec /skiff/bin/skiff-operator node \"$@\"", words);

    /// <summary>Runs <c>skiff-operator node …</c> and kills it after so many seconds, unless it has ended before.</summary>
    public Task<CommandResult> KillOperatorAsync(double seconds, params string[] words) => RunAsync(
        "d=$1; shift; /skiff/bin/skiff-operator node \"$@\" & p=$!; sleep $d; kill -9 $p; wait $p", [seconds.ToString("0.000"), .. words]);

    /// <summary>Runs <c>skiff-operator node …</c> and kills it when the journal is in a step.</summary>
    public Task<CommandResult> KillOperatorInAsync(string step, params string[] words) => RunAsync(
        "s=$1; shift; /skiff/bin/skiff-operator node \"$@\" & p=$!; "
        + "until grep -q \"\\\"step\\\": \\\"$s\\\"\" /var/lib/skiff/journal.json 2>/dev/null || ! kill -0 $p 2>/dev/null; do sleep 0.005; done; kill -9 $p; wait $p", [step, .. words]);

    /// <summary>The main process of containerd's service.</summary>
    public Task<string> ContainerdPidAsync() => DemandAsync("systemctl show -p MainPID --value containerd");

    /// <summary>Every file and folder of /etc/containerd with its kind, mode, owner, link and content.</summary>
    public Task<string> ConfigurationAsync() =>
        DemandAsync("cd /etc/containerd; find . -printf '%p %y %m %u %g %l\\n' | sort; find . -type f -print0 | sort -z | xargs -0 sha256sum");

    /// <summary>The files in the machine's layer, but for logs.</summary>
    public IReadOnlyList<string> LayerFiles() => [.. Directory
        .EnumerateFiles(Layer, "*", new EnumerationOptions { RecurseSubdirectories = true, AttributesToSkip = 0 })
        .Select(p => p[Layer.Length..]).Where(p => !p.StartsWith("/var/log/", StringComparison.Ordinal)).Order(StringComparer.Ordinal)];

    public async ValueTask DisposeAsync()
    {
        _ = await HostAsync(TimeSpan.FromMinutes(2), [], "halt.sh", [_name]);
        Directory.Delete(_folder, recursive: true);
    }

    private static Task<CommandResult> HostAsync(TimeSpan limit, string[] environment, string script, string[] arguments) => Command.RunAsync(
        new SpawnRequest
        {
            Path = "/bin/bash",
            Arguments = ["bash", Path.Combine(Scripts, script), .. arguments],
            Environment =
            [
                .. environment,
                "PATH=" + Machines.SearchPath,
                "HOME=" + Machines.Home,
            ],
        },
        limit);

    private async Task BootAsync(ContainerdVersion version, string binaries)
    {
        // 1. What it is to have: our tree, images, a configuration, and this containerd's programs.
        var guests = Path.Combine(_folder, "guests.tar");
        PrivateContainerd.GuestImage().Save(guests);
        var pause = Path.Combine(_folder, "pause.tar");
        new ImageArchive(PauseImage).File("hello.wasm", await File.ReadAllBytesAsync(Path.Combine(Repository.Guests, "sleep.native"))).Save(pause);
        var config = Path.Combine(_folder, "config.toml");
        await File.WriteAllTextAsync(config, version.IsVersion2
            ? $"""
               version = 3
               imports = ["/etc/containerd/conf.d/*.toml"]

               [plugins.'io.containerd.cri.v1.runtime'] # this machine may not lower it
                 restrict_oom_score_adj = true
               [plugins.'io.containerd.cri.v1.images'.pinned_images]
                 sandbox = "{PauseImage}"

               """
            : $"""
               version = 2
               # The owner's own words.
               [plugins]
                 [plugins."io.containerd.grpc.v1.cri"]
                   restrict_oom_score_adj = true
                   sandbox_image = "{PauseImage}"

               """);
        var folder = Directory.CreateDirectory(Path.Combine(_folder, "conf.d")).FullName;
        List<string> copies = [$"{Repository.Out}:/skiff", $"{guests}:/guests.tar", $"{pause}:/pause.tar", $"{config}:/etc/containerd/config.toml"];
        if (version.IsVersion2)
        {
            copies.Add($"{folder}:/etc/containerd/conf.d");
        }

        if (version.Suite is not null)
        {
            copies.AddRange(((string[])["containerd", "ctr", "containerd-shim-runc-v2", "runc"])
                .Where(p => File.Exists(Path.Combine(binaries, p))).Select(p => $"{Path.Combine(binaries, p)}:/usr/{(p == "runc" ? "sbin" : "bin")}/{p}"));
        }

        // 2. Boot, and wait for its containerd.
        var boot = await HostAsync(_bootLimit, [$"COPY={string.Join(' ', copies)}"], "boot.sh", [_name]);
        Assert.True(boot.Exit.Success, boot.OutputText + boot.Error);
        _ = await DemandAsync(
            "for i in $(seq 600); do ctr version >/dev/null 2>&1 && break; sleep 0.2; done; "
            + "ctr images import /guests.tar; ctr -n k8s.io images import /pause.tar");
    }
}
