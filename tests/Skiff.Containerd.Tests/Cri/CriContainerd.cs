using Microsoft.Win32.SafeHandles;
using Skiff.Linux.Mounts;
using Skiff.Linux.Processes;
using Skiff.Testing;

namespace Skiff.Containerd.Tests.Cri;

/// <summary>A containerd with its CRI plugin, everything of it in one folder, and a pause image that only sleeps.</summary>
internal sealed class CriContainerd : IAsyncDisposable
{
    private static readonly TimeSpan _patience = TimeSpan.FromSeconds(90);

    private readonly string _binaries;
    private readonly ContainerdVersion _version;
    private ChildProcess _daemon = null!;

    private CriContainerd(ContainerdVersion version, string binaries, string folder)
    {
        _version = version;
        _binaries = binaries;
        Folder = folder;
    }

    public string Folder { get; }

    public string Socket => Folder + "/c.sock";

    private string Log => File.ReadAllText(Folder + "/log");

    /// <summary>Starts it, with or without CRI, with these tables of runtimes; skips where something is missing.</summary>
    public static async ValueTask<CriContainerd> StartAsync(string name, bool cri = true)
    {
        if (Environment.UserName != "root")
        {
            Assert.Skip("containerd needs root");
        }

        var pause = Path.Combine(Repository.Guests, "sleep.native");
        if (!File.Exists(pause))
        {
            Assert.Skip($"no {pause}: run hack/guests");
        }

        var version = ContainerdVersion.Named(name);
        var (binaries, missing) = await version.LocateAsync();
        if (binaries is null)
        {
            Assert.Skip(missing!);
        }

        var containerd = new CriContainerd(version, binaries, Directory.CreateTempSubdirectory("skc-").FullName);
        await File.WriteAllTextAsync(containerd.Folder + "/config.toml", containerd.Config(cri));
        await containerd.RunDaemonAsync();
        if (cri)
        {
            var image = containerd.Folder + "/pause.tar";
            PrivateContainerd.SandboxImage().Save(image);
            await containerd.CtrAsync("-n", "k8s.io", "images", "import", image);
        }

        return containerd;
    }

    /// <summary>Ends containerd's process and starts another.</summary>
    public async ValueTask RestartAsync()
    {
        await StopAsync();
        await RunDaemonAsync();
    }

    public async ValueTask StopAsync()
    {
        _ = _daemon.Signal(Signals.Terminate);
        _ = await _daemon.Exit.WaitAsync(_patience);
    }

    public async ValueTask DisposeAsync()
    {
        await StopAsync();
        Mounter.UnmountTree(Folder);
        Directory.Delete(Folder, recursive: true);
    }

    private string Config(bool cri)
    {
        var (schema, runtime, images) = _version.IsVersion2
            ? (3, "io.containerd.cri.v1.runtime", $"[plugins.'io.containerd.cri.v1.images'.pinned_images]\nsandbox = \"{PrivateContainerd.PauseImage}\"")
            : (2, "io.containerd.grpc.v1.cri", $"[plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = \"{PrivateContainerd.PauseImage}\"\nrestrict_oom_score_adj = true");
        var disabled = cri ? "" : "\"io.containerd.grpc.v1.cri\", \"io.containerd.cri.v1.runtime\", \"io.containerd.cri.v1.images\"";
        return $"""
            version = {schema}
            root = "{Folder}/root"
            state = "{Folder}/state"
            disabled_plugins = [{disabled}]
            [grpc]
            address = "{Socket}"
            [plugins."io.containerd.internal.v1.opt"]
            path = "{Folder}/opt"
            [plugins."io.containerd.nri.v1.nri"]
            disable = true
            {PrivateContainerd.Timeouts}
            {images}
            {(_version.IsVersion2 ? $"[plugins.'{runtime}']\nrestrict_oom_score_adj = true" : "")}
            [plugins.'{runtime}'.cni]
            conf_dir = "{Folder}/cni"
            [plugins.'{runtime}'.containerd.runtimes.runc]
            runtime_type = "io.containerd.runc.v2"
            [plugins.'{runtime}'.containerd.runtimes.skiff]
            runtime_type = "/opt/skiff/bin/containerd-shim-skiff-v1"
            """;
    }

    private async ValueTask RunDaemonAsync()
    {
        using var log = File.OpenHandle(Folder + "/log", FileMode.Append, FileAccess.Write, FileShare.ReadWrite);
        _daemon = Reaper.Shared.Spawn(new SpawnRequest
        {
            Path = Path.Combine(_binaries, "containerd"),
            Arguments = ["containerd", "--config", Folder + "/config.toml"],
            Environment = SearchPath(),
            Files = new Dictionary<int, SafeFileHandle> { [1] = log, [2] = log },
            NewSession = true,
        });
        if (!await Until.HoldsAsync(async () => !_daemon.Exit.IsCompleted && await IsUpAsync(), _patience))
        {
            _ = _daemon.Signal(Signals.Kill);
            throw new InvalidOperationException($"containerd {_version.Name} did not come up: {Log}");
        }
    }

    private async Task<bool> IsUpAsync() => (await Command.RunAsync(Ctr("version"), _patience)).Exit.Success;

    private async ValueTask CtrAsync(params string[] words)
    {
        var result = await Command.RunAsync(Ctr(words), _patience);
        Assert.True(result.Exit.Success, $"ctr {string.Join(' ', words)}: {result.Error}");
    }

    private SpawnRequest Ctr(params string[] words) => new()
    {
        Path = Path.Combine(_binaries, "ctr"),
        Arguments = ["ctr", "-a", Socket, .. words],
        Environment = SearchPath(),
        WorkingDirectory = Folder,
    };

    private string[] SearchPath() => [$"PATH={_binaries}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];
}
