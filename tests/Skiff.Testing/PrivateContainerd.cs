using System.Net.Sockets;
using System.Text.RegularExpressions;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Grpc.Net.Client;
using Microsoft.Win32.SafeHandles;
using Skiff.Linux.Files;
using Skiff.Linux.Mounts;
using Skiff.Linux.Processes;
using Skiff.Linux.Terminals;
using Skiff.Testing.Protocol;

namespace Skiff.Testing;

/// <summary>One containerd with root, state, socket and namespace of its own, and the image of all guests in it.</summary>
public sealed partial class PrivateContainerd : IAsyncDisposable
{
    /// <summary>The image that holds every guest, and files that are no programs.</summary>
    public const string Image = "skiff.test/guests:1";

    /// <summary>The image of pods' sandboxes, which only sleeps.</summary>
    public const string PauseImage = "skiff.test/pause:1";

    private static readonly TimeSpan _patience = TimeSpan.FromSeconds(60);

    // What a node's kubelet is usually set to; a station sets it where systemd is process 1.
    private static readonly bool _systemd = Environment.GetEnvironmentVariable("SKIFF_CGROUP_DRIVER") == "systemd";

    private readonly string _binaries;
    private readonly HashSet<string> _before;
    private readonly bool _cri;
    private readonly GrpcChannel _channel;
    private ChildProcess _daemon;

    private PrivateContainerd(ContainerdVersion version, string binaries, string folder, bool cri)
    {
        Version = version;
        _binaries = binaries;
        _cri = cri;
        Folder = folder;
        Name = Path.GetFileName(folder);
        Namespace = cri ? "k8s.io" : Name;
        Socket = Path.Combine(folder, "c.sock");
        _before = SharedFiles();
        _channel = OpenChannel();
        _daemon = null!;
    }

    /// <summary>The table of a test's config.toml with which a busy machine is only slow: of these, 5, 3 and 2 seconds are usual.</summary>
    public const string Timeouts = """
        [timeouts]
        "io.containerd.timeout.shim.cleanup" = "2m"
        "io.containerd.timeout.shim.load" = "2m"
        "io.containerd.timeout.shim.shutdown" = "2m"
        "io.containerd.timeout.task.state" = "2m"
        """;

    /// <summary>Which one it is.</summary>
    public ContainerdVersion Version { get; }

    /// <summary>Where everything of it is.</summary>
    public string Folder { get; }

    /// <summary>What no other containerd of this machine is called: its folder, the cgroup of its containers and, with CRI, its network namespace.</summary>
    public string Name { get; }

    /// <summary>Where its containers are.</summary>
    public string Namespace { get; }

    /// <summary>Its gRPC socket.</summary>
    public string Socket { get; }

    /// <summary>Its log, with the shims' in it.</summary>
    public string Log => File.ReadAllText(Path.Combine(Folder, "log"));

    private string SystemdOptions => Path.Combine(Folder, "systemd.toml");

    private string StateFolder => Path.Combine(Folder, "state");

    /// <summary>Starts it.</summary>
    /// <param name="version">Which one.</param>
    /// <param name="binaries">Where it is.</param>
    /// <param name="cri">With its CRI plugin, in a network namespace of its own with a bridge for pods.</param>
    /// <param name="inMemory">With a file system of its own, a tmpfs: the one below /tmp may be unable to map owners for a user namespace.</param>
    public static async Task<PrivateContainerd> StartAsync(ContainerdVersion version, string binaries, bool cri = false, bool inMemory = false)
    {
        var folder = "/tmp/skf-" + Guid.NewGuid().ToString("n")[..8];
        _ = Directory.CreateDirectory(folder);
        if (inMemory)
        {
            Mounter.Mount("tmpfs", "tmpfs", folder, ["mode=0755"]);
        }

        var containerd = new PrivateContainerd(version, binaries, folder, cri);
        await File.WriteAllTextAsync(Path.Combine(folder, "config.toml"), containerd.Config());
        if (cri)
        {
            await containerd.PrepareNetworkAsync();
        }

        await containerd.RunDaemonAsync();
        try
        {
            var archive = Path.Combine(folder, "image.tar");
            GuestImage().Save(archive);
            await File.WriteAllTextAsync(containerd.SystemdOptions, "SystemdCgroup = true\n");
            _ = (await containerd.CtrAsync("images", "import", archive)).Demand();
            if (cri)
            {
                SandboxImage().Save(archive);
                _ = (await containerd.CtrAsync("images", "import", archive)).Demand();
            }

            return containerd;
        }
        catch
        {
            _ = containerd._daemon.Signal(Signals.Kill);
            throw;
        }
    }

    private string Config()
    {
        var head = $"""
            version = {(Version.IsVersion2 ? 3 : 2)}
            root = "{Folder}/root"
            state = "{Folder}/state"
            [grpc]
              address = "{Socket}"
            [debug]
              level = "debug"
            [plugins."io.containerd.internal.v1.opt"]
              path = "{Folder}/opt"
            {Timeouts}

            """;
        if (!_cri)
        {
            var plugins = Version.IsVersion2 ? "\"io.containerd.cri.v1.images\", \"io.containerd.cri.v1.runtime\", \"io.containerd.grpc.v1.cri\"" : "\"io.containerd.grpc.v1.cri\"";
            return $"disabled_plugins = [{plugins}]\n{head}";
        }

        // As it pulls by itself, 2.4 unpacks only images of the machine's own platform (README, Limits).
        var localPull = Version.Name == "2.4";
        var (table, image) = Version.IsVersion2
            ? ("io.containerd.cri.v1.runtime", $"[plugins.'io.containerd.cri.v1.images']\nuse_local_image_pull = {(localPull ? "true" : "false")}\npinned_images.sandbox = \"{PauseImage}\"\n")
            : ("io.containerd.grpc.v1.cri", "");
        return $"""
            {head}
            [plugins."io.containerd.nri.v1.nri"]
              disable = true
            {image}
            [plugins.'{table}']
              restrict_oom_score_adj = true
              disable_hugetlb_controller = false
              {(Version.IsVersion2 ? "" : $"sandbox_image = \"{PauseImage}\"")}
            [plugins.'{table}'.cni]
              {(Version.IsVersion2 ? "bin_dirs = [\"/usr/lib/cni\"]" : "bin_dir = \"/usr/lib/cni\"")}
              conf_dir = "{Folder}/cni"
            [plugins.'{table}'.containerd.runtimes.skiff]
              runtime_type = "{Repository.Shim}"
              pod_annotations = ["skiff.dev/*", "*.skiff.dev/*"]
            [plugins.'{table}'.containerd.runtimes.runc]
              runtime_type = "io.containerd.runc.v2"
            """;
    }

    /// <summary>A network namespace for it and, behind a bridge in there, one for each of its pods.</summary>
    private async Task PrepareNetworkAsync()
    {
        await IpAsync("netns", "add", Name);
        await IpAsync("-n", Name, "link", "set", "lo", "up");
        _ = Directory.CreateDirectory(Folder + "/cni");
        await File.WriteAllTextAsync(Folder + "/cni/10-pods.conflist", $$$"""
            {"cniVersion": "0.4.0", "name": "pods", "plugins": [
              {"type": "bridge", "bridge": "pods", "isGateway": true,
               "ipam": {"type": "host-local", "dataDir": "{{{Folder}}}/addresses", "ranges": [[{"subnet": "10.89.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
            """);
    }

    private static async Task IpAsync(params string[] words)
    {
        var result = await Command.RunAsync(
            new SpawnRequest { Path = "/usr/bin/env", Arguments = ["env", "ip", .. words], Environment = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"] }, _patience);
        if (!result.Exit.Success)
        {
            throw new InvalidOperationException($"ip {string.Join(' ', words)}: {result.Error}");
        }
    }

    /// <summary>Runs ctr.</summary>
    public Task<CtrResult> CtrAsync(params string[] words) => CtrAsync(default, words);

    /// <summary>Runs ctr with input.</summary>
    public async Task<CtrResult> CtrAsync(ReadOnlyMemory<byte> input, params string[] words)
    {
        var result = await Command.RunAsync(Ctr(words), TimeSpan.FromMinutes(2), input);
        return new CtrResult(result.Exit.ShellCode, result.OutputText, WithoutWarnings(result.Error), result.TimedOut, string.Join(' ', words));
    }

    /// <summary>ctr run with our shim, to the container's end.</summary>
    public Task<CtrResult> RunAsync(string id, params string[] arguments) => RunAsync(default, [], id, arguments);

    /// <summary>ctr run with our shim, input and more flags.</summary>
    public Task<CtrResult> RunAsync(ReadOnlyMemory<byte> input, string[] flags, string id, params string[] arguments) =>
        CtrAsync(input, ["run", "--rm", "--runtime", Repository.Shim, .. flags, Image, id, .. arguments]);

    /// <summary>Runs crictl in the pods' network.</summary>
    public Task<CtrResult> CrictlAsync(params string[] words) => CrictlAsync(default, words);

    /// <summary>Runs crictl in the pods' network, with input.</summary>
    public async Task<CtrResult> CrictlAsync(ReadOnlyMemory<byte> input, params string[] words)
    {
        var result = await Command.RunAsync(Crictl(words), TimeSpan.FromMinutes(6), input);
        return new CtrResult(result.Exit.ShellCode, result.OutputText, WithoutWarnings(result.Error), result.TimedOut, string.Join(' ', words));
    }

    /// <summary>gRPC over its socket, for what neither tool can say.</summary>
    private GrpcChannel OpenChannel() => GrpcChannel.ForAddress("http://localhost", new GrpcChannelOptions
    {
        HttpHandler = new SocketsHttpHandler
        {
            ConnectCallback = async (_, cancellation) =>
            {
                var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                await socket.ConnectAsync(new UnixDomainSocketEndPoint(Socket), cancellation);
                return new NetworkStream(socket, ownsSocket: true);
            },
        },
        DisposeHttpClient = true,
    });

    /// <summary>What a pod's port says to who connects, through crictl port-forward.</summary>
    public async Task<string> ForwardedAsync(string pod, int port)
    {
        var path = Path.Combine(Folder, $"forward-{Guid.NewGuid():n}.out");
        using var output = File.OpenHandle(path, FileMode.Create, FileAccess.Write, FileShare.ReadWrite);
        var forward = Reaper.Shared.Spawn(
            Crictl(["port-forward", "--transport", "spdy", pod, $"0:{port}"]) with { Files = new Dictionary<int, SafeFileHandle> { [1] = output, [2] = output } });
        try
        {
            var said = "";
            _ = await Until.HoldsAsync(async () => ForwardedPort().IsMatch(said = await File.ReadAllTextAsync(path)), _patience);
            var local = ForwardedPort().Match(said);
            return !local.Success ? said : (await Command.RunAsync(
                InNetwork(new SpawnRequest
                {
                    Path = "/bin/bash",
                    Arguments = ["bash", "-c", $"exec cat < /dev/tcp/127.0.0.1/{local.Groups[1].Value}"],
                    Environment = Variables(),
                }),
                _patience)).OutputText;
        }
        finally
        {
            _ = forward.Signal(Signals.Kill);
            _ = await forward.Exit.WaitAsync(_patience);
        }
    }

    [GeneratedRegex("Forwarding from 127.0.0.1:([0-9]+)")]
    private static partial Regex ForwardedPort();

    /// <summary>A ctr in the background, its output in a file.</summary>
    public (ChildProcess Process, string Output) InBackground(params string[] words) => InBackground(null, words);

    /// <summary>A ctr in the background, its input from a file and its output in another.</summary>
    public (ChildProcess Process, string Output) InBackground(SafeFileHandle? input, params string[] words)
    {
        var path = Path.Combine(Folder, $"ctr-{Guid.NewGuid():n}.out");
        using var output = File.OpenHandle(path, FileMode.Create, FileAccess.Write, FileShare.ReadWrite);
        var files = new Dictionary<int, SafeFileHandle> { [1] = output, [2] = output };
        if (input is not null)
        {
            files[0] = input;
        }

        return (Reaper.Shared.Spawn(Ctr(words) with { Files = files }), path);
    }

    /// <summary>A ctr on a terminal.</summary>
    /// <returns>It, and the terminal's master side.</returns>
    public (ChildProcess Process, SafeFileHandle Terminal) OnTerminal(params string[] words)
    {
        var (master, path) = PseudoTerminal.Create();
        using var side = PseudoTerminal.OpenProgramSide(path);
        var files = new Dictionary<int, SafeFileHandle> { [0] = side, [1] = side, [2] = side };
        return (Reaper.Shared.Spawn(Ctr(words) with { Files = files, NewSession = true }), master);
    }

    /// <summary>The process id and the state of each task, as <c>ctr task ls</c> has them; none when containerd does not answer.</summary>
    public async Task<IReadOnlyDictionary<string, (int Pid, string Status)>> TasksAsync()
    {
        try
        {
            var list = await new Tasks.TasksClient(_channel).ListAsync(new ListTasksRequest(), InNamespace, DateTime.UtcNow + _patience);
            return list.Tasks.ToDictionary(t => t.Id, t => ((int)t.Pid, t.Status.ToString().ToUpperInvariant()));
        }
        catch (RpcException)
        {
            return new Dictionary<string, (int, string)>();
        }
    }

    /// <summary>What a task uses, as its shim says: Metrics of cgroup v1 or v2.</summary>
    public async Task<Any> MetricsAsync(string id) => (await new Tasks.TasksClient(_channel).MetricsAsync(
        new MetricsRequest { Filters = { "id==" + id } }, InNamespace, DateTime.UtcNow + _patience)).Metrics.Single().Data;

    private Metadata InNamespace => new() { { "containerd-namespace", Namespace } };

    /// <summary>The state of a task; nothing when it is not there.</summary>
    public async Task<(int Pid, string Status)> TaskAsync(string id) => (await TasksAsync()).TryGetValue(id, out var task) ? task : (0, "");

    /// <summary>CRI, for what crictl cannot say, or says at the cost of a program.</summary>
    public RuntimeService.RuntimeServiceClient Cri => new(_channel);

    /// <summary>Whether CRI says that a container has ended.</summary>
    public async Task<bool> HasEndedAsync(string container) => (await Cri.ContainerStatusAsync(
        new ContainerStatusRequest { ContainerId = container }, deadline: DateTime.UtcNow + _patience)).Status.State == ContainerState.ContainerExited;

    /// <summary>The bundle of a container.</summary>
    public string Bundle(string id) => $"{StateFolder}/io.containerd.runtime.v2.task/{Namespace}/{id}";

    /// <summary>Its process.</summary>
    public int Pid => _daemon.Pid;

    /// <summary>Ends it at once, as a crash does.</summary>
    public async Task KillAsync()
    {
        _ = _daemon.Signal(Signals.Kill);
        _ = await _daemon.Exit.WaitAsync(_patience);
    }

    /// <summary>Starts it once more, after <see cref="KillAsync"/>.</summary>
    public Task StartAgainAsync() => RunDaemonAsync();

    /// <summary>The daemon processes of our shim that serve this containerd.</summary>
    public IReadOnlyList<int> Shims() =>
        [.. Processes().Where(p => p.CommandLine.StartsWith(Repository.Shim, StringComparison.Ordinal)).Select(p => p.Pid)];

    /// <summary>Its only shim, once that of an earlier test has gone; containerd does not wait for a shim's end.</summary>
    public async Task<int> ShimAsync()
    {
        IReadOnlyList<int> shims = [];
        _ = await Until.HoldsAsync(() => Task.FromResult((shims = Shims()).Count == 1), _patience);
        return shims.Count == 1 ? shims[0] : throw new InvalidOperationException($"{shims.Count} shims, and not one: {string.Join(", ", shims)}");
    }

    /// <summary>Ends it, and demands that nothing of its containers is left on the machine.</summary>
    public async ValueTask DisposeAsync()
    {
        IReadOnlyList<string> left = [];
        _ = await Until.HoldsAsync(
            () =>
            {
                left = Leftovers();
                return Task.FromResult(left.Count == 0);
            },
            TimeSpan.FromMinutes(3));
        _channel.Dispose();
        _ = _daemon.Signal(Signals.Terminate);
        _ = await _daemon.Exit.WaitAsync(_patience);
        if (left.Count > 0)
        {
            var log = Log;
            throw new InvalidOperationException($"containerd {Version.Name} in {Folder}: left behind:\n  {string.Join("\n  ", left)}\n{log[Math.Max(0, log.Length - 3000)..]}");
        }

        Mounter.UnmountTree(Folder);
        Directory.Delete(Folder, recursive: true);
        if (_cri)
        {
            await IpAsync("netns", "del", Name);
        }

        RemoveEmpty("/run/containerd/runc/" + Namespace);
        foreach (var cgroup in CgroupFolders())
        {
            RemoveEmpty(cgroup);
        }
    }

    /// <summary>What of this containerd's containers is still on the machine, a line each.</summary>
    public IReadOnlyList<string> Leftovers()
    {
        List<string> left = [.. Processes().Select(p => $"process {p.Pid}: {p.CommandLine}")];
        left.AddRange(MountTable.Read().Where(m => m.Target.StartsWith(StateFolder, StringComparison.Ordinal)).Select(m => $"mount {m.Target}"));
        foreach (var folder in (string[])[.. CgroupFolders(), "/run/containerd/runc/" + Namespace, $"{StateFolder}/io.containerd.runtime.v2.task/{Namespace}"])
        {
            if (Directory.Exists(folder))
            {
                // containerd puts a dot before a bundle's name when it removes it, and forgets those of a process of its own that was killed then.
                left.AddRange(Directory.GetDirectories(folder).Where(f => Path.GetFileName(f)[0] != '.').Select(f => $"folder {f}"));
            }
        }

        if (_systemd)
        {
            left.AddRange(CgroupMounts().Select(m => Path.Combine(m, "system.slice")).Where(Directory.Exists)
                .SelectMany(f => Directory.GetDirectories(f, Name + "-*")).Select(f => $"scope {f}"));
        }

        left.AddRange(SharedFiles().Except(_before).Select(f => $"file {f}"));
        return left;
    }

    /// <summary>
    /// Removes the network namespaces of pods that containerd forgot: RunPodSandbox makes one before it writes down whose it is, so one that is
    /// killed in between leaves it for ever, with any runtime (containerd 1.6, pkg/cri/server/sandbox_run.go). Only when no pod is left.
    /// </summary>
    public async Task RemoveForgottenNetworksAsync()
    {
        foreach (var forgotten in SharedFiles().Except(_before).Where(f => f.StartsWith("/run/netns/", StringComparison.Ordinal)))
        {
            await IpAsync("netns", "del", Path.GetFileName(forgotten));
        }
    }

    private static HashSet<string> SharedFiles()
    {
        HashSet<string> files = [];
        foreach (var (folder, names) in ((string, string)[])[("/run/containerd/s", "*"), ("/run/containerd/fifo", "*"), ("/run/netns", "cni-*")])
        {
            if (Directory.Exists(folder))
            {
                files.UnionWith(Directory.GetFileSystemEntries(folder, names));
            }
        }

        return files;
    }

    private static void RemoveEmpty(string folder)
    {
        if (Directory.Exists(folder))
        {
            Directory.Delete(folder);
        }
    }

    /// <summary><see cref="PauseImage"/>.</summary>
    public static ImageArchive SandboxImage() => new ImageArchive(PauseImage) { Command = "/pause" }.Folder("proc").Folder("sys").Folder("dev").Folder("etc")
        .File("pause", File.ReadAllBytes(Path.Combine(Repository.Guests, "sleep.native")));

    /// <summary>The image of all guests.</summary>
    public static ImageArchive GuestImage()
    {
        var image = new ImageArchive(Image).Folder("etc").Folder("tmp").Folder("work").Folder("data").Folder("rw").Folder("dev").Folder("proc").Folder("sys");
        foreach (var guest in Directory.GetFiles(Repository.Guests).Where(f => f.EndsWith(".wasm", StringComparison.Ordinal) || f.EndsWith(".native", StringComparison.Ordinal)))
        {
            _ = image.File(Path.GetFileName(guest), File.ReadAllBytes(guest));
        }

        // For kubectl cp: Debian's busybox-static is tar when it is called so.
        if (File.Exists("/bin/busybox"))
        {
            _ = image.File("bin/tar", File.ReadAllBytes("/bin/busybox"));
        }

        var hello = File.ReadAllBytes(Path.Combine(Repository.Guests, "hello.wasm"));
        return image.File("etc/rootfs.txt", "rootfs"u8.ToArray(), 0x1A4).File("work/here.txt", "here"u8.ToArray(), 0x1A4)
            .File("truncated.wasm", hello[..1000]).File("cut.wasm", hello[..6]).File("empty", []).File("text.txt", "just text\n"u8.ToArray())
            .File("future.wasm", [0, (byte)'a', (byte)'s', (byte)'m', 9, 9, 9, 9])
            .File("large.wasm", Large("sleep"));
    }

    /// <summary>A guest of 400,000 bytes: a section of the user's own (core specification 5.5.3) ends it.</summary>
    public static byte[] Large(string guest)
    {
        var module = File.ReadAllBytes(Path.Combine(Repository.Guests, guest + ".wasm"));
        var content = new byte[400_000 - module.Length - 1 - 3]; // less the section's number and its size, in LEB128
        return [.. module, 0, (byte)(content.Length | 0x80), (byte)((content.Length >> 7) | 0x80), (byte)(content.Length >> 14), .. content];
    }

    /// <summary>ctr 2.4 warns on every call of what this configuration still uses; that is not the container's output.</summary>
    public static string WithoutWarnings(string text) =>
        string.Concat(text.Split('\n').Where(l => !l.Contains("level=warning msg=\"DEPRECATION", StringComparison.Ordinal)).Select((l, i) => i == 0 ? l : "\n" + l));

    private SpawnRequest Ctr(string[] words) => new()
    {
        Path = Path.Combine(_binaries, "ctr"),
        Arguments = ["ctr", "-a", Socket, "-n", Namespace, .. UnderDriver(words)],
        Environment = Variables(),
        WorkingDirectory = Folder,
    };

    /// <summary>Under the systemd driver each container is a scope, unless the test itself says where it goes.</summary>
    private string[] UnderDriver(string[] words)
    {
        var at = Array.IndexOf(words, "--runtime");
        return !_systemd || at < 0 || words.Contains("--cgroup") || words.Contains("--runtime-config-path") ? words
            : [.. words[..at], "--runtime-config-path", SystemdOptions, "--cgroup", $"system.slice:{Name}:{Guid.NewGuid():n}", .. words[at..]];
    }

    /// <summary>Where its shims keep compiled modules.</summary>
    public string Cache => Path.Combine(Folder, "cache");

    private string[] Variables() => [$"SKIFF_CACHE_DIR={Cache}", $"PATH={_binaries}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];

    private SpawnRequest Crictl(string[] words) => InNetwork(new()
    {
        Path = CriTools.Crictl,
        Arguments = ["crictl", "--config", "/dev/null", "--runtime-endpoint", "unix://" + Socket, "--timeout", "300s", .. words],
        Environment = Variables(),
        WorkingDirectory = Folder,
    });

    private SpawnRequest InNetwork(SpawnRequest request) => !_cri ? request : request with
    {
        Path = "/usr/bin/nsenter",
        Arguments = ["nsenter", "--net=/run/netns/" + Name, "--", request.Path, .. request.Arguments.Skip(1)],
    };

    private async Task RunDaemonAsync()
    {
        using var log = OpenDescriptor.OpenAppend(Path.Combine(Folder, "log"), 0x1A4);
        _daemon = Reaper.Shared.Spawn(InNetwork(new SpawnRequest
        {
            Path = Path.Combine(_binaries, "containerd"),
            Arguments = ["containerd", "--config", Path.Combine(Folder, "config.toml")],
            Environment = Variables(),
            Files = new Dictionary<int, SafeFileHandle> { [1] = log, [2] = log },
            NewSession = true,
        }));
        var up = await Until.HoldsAsync(
            async () => !_daemon.Exit.IsCompleted && Listens() && (await (_cri ? CrictlAsync("version") : CtrAsync("version"))).Status == 0, _patience);
        if (!up)
        {
            _ = _daemon.Signal(Signals.Kill);
            throw new InvalidOperationException($"containerd {Version.Name} did not come up: {Log}");
        }
    }

    /// <summary>Whether somebody is there to ask: the socket of one that was killed stays.</summary>
    private bool Listens()
    {
        using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            socket.Connect(new UnixDomainSocketEndPoint(Socket));
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }

    private IEnumerable<(int Pid, string CommandLine)> Processes()
    {
        foreach (var folder in Directory.GetDirectories("/proc"))
        {
            if (!int.TryParse(Path.GetFileName(folder), out var pid) || pid == _daemon.Pid)
            {
                continue;
            }

            string command, cgroup;
            try
            {
                command = File.ReadAllText(folder + "/cmdline").Replace('\0', ' ');
                cgroup = File.ReadAllText(folder + "/cgroup");
            }
            catch (IOException)
            {
                continue; // it has ended
            }

            if (command.Contains(Name, StringComparison.Ordinal) || cgroup.Contains("/" + Name, StringComparison.Ordinal))
            {
                yield return (pid, command);
            }
        }
    }

    private static IEnumerable<string> CgroupMounts() => MountTable.Read().Where(m => m.Type is "cgroup" or "cgroup2").Select(m => m.Target);

    private List<string> CgroupFolders() => [.. CgroupMounts().Select(m => Path.Combine(m, Name)).Where(Directory.Exists)];
}

/// <summary>What a ctr command gave.</summary>
public sealed record CtrResult(uint Status, string Output, string Error, bool TimedOut, string Words)
{
    /// <summary>Everything it printed.</summary>
    public string Text => Output + Error;

    /// <summary>Throws unless it went well.</summary>
    public CtrResult Demand() => Status == 0 ? this : throw new InvalidOperationException($"ctr {Words}: status {Status}: {Text}");
}
