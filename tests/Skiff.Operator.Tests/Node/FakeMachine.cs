using System.Text;
using Skiff.Containerd.Config;
using Skiff.Containerd.Cri;
using Skiff.Linux;
using Skiff.Linux.Files;
using Skiff.Linux.Processes;
using Skiff.Operator.Node;

namespace Skiff.Operator.Tests.Node;

/// <summary>A node that is a folder, with a containerd 1.7 that is a few variables: it reads its configuration when it is restarted.</summary>
internal sealed class FakeMachine : INodeMachine, IDisposable
{
    public const string ConfigPath = "/etc/containerd/config.toml";
    public const string Config = """
        # The owner's own words.
        version = 2
        [plugins."io.containerd.grpc.v1.cri"]
          sandbox_image = "pause:3.9"
        [plugins."io.containerd.grpc.v1.cri".containerd]
          default_runtime_name = "runc"
        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
          runtime_type = "io.containerd.runc.v2"
          [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
            SystemdCgroup = true

        """;

    private readonly string _folder = Directory.CreateTempSubdirectory("skiff-node-").FullName;
    private int _pid = 100;
    private string? _loaded;
    private DateTimeOffset _startedAt;

    public FakeMachine()
    {
        Files = new RootedTree(_folder);
        foreach (var folder in (string[])["etc/containerd", "var/lib", "opt", "sys/fs/cgroup"])
        {
            _ = Directory.CreateDirectory(Path.Combine(_folder, folder));
        }

        Write(ConfigPath, Config);
        Start();
    }

    public RootedTree Files { get; }

    public string? Obstacle => null;

    /// <summary>How often containerd was restarted, also when it did not come up.</summary>
    public int Restarts { get; private set; }

    /// <summary>Whether containerd runs.</summary>
    public bool IsUp => _loaded is not null;

    public string? Unit { get; set; } = "containerd.service";

    public string Version { get; set; } = "1.7.24";

    /// <summary>Whether containerd dies when it starts with this configuration.</summary>
    public Func<string, bool> DiesOf { get; set; } = _ => false;

    /// <summary>What <c>config dump</c> makes of the main file; what it does not say has its defaults.</summary>
    public Func<string, string> Dump { get; set; } = text =>
        text.Contains("sandbox_image", StringComparison.Ordinal)
            ? text
            : text.Replace("version = 2", Config[..Config.IndexOf("[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes", StringComparison.Ordinal)], StringComparison.Ordinal);

    /// <summary>The handlers that containerd does not have although its configuration names them.</summary>
    public HashSet<string> Ignored { get; } = [];

    /// <summary>What is wrong with a sandbox under a handler.</summary>
    public Func<string, string?> Sandbox { get; set; } = _ => null;

    /// <summary>What <c>containerd-shim-skiff-v1 -v</c> ends with.</summary>
    public int ShimStatus { get; set; }

    public List<RunningShim> Shims { get; } = [];

    /// <summary>Everything below the root, with the content of files and the targets of links, but for folders that a machine has anyway.</summary>
    public IReadOnlyDictionary<string, string> Everything => Directory
        .EnumerateFileSystemEntries(_folder, "*", new EnumerationOptions { RecurseSubdirectories = true, AttributesToSkip = 0 })
        .Where(p => !Directory.Exists(p) || new FileInfo(p).LinkTarget is not null || Directory.GetFileSystemEntries(p).Length == 0)
        .ToDictionary(p => p[_folder.Length..], p => new FileInfo(p).LinkTarget ?? (File.Exists(p) ? File.ReadAllText(p) : "folder"));

    public string Read(string path) => Encoding.UTF8.GetString(Files.Read(path, 1 << 20) ?? throw new FileNotFoundException(path));

    public void Write(string path, string text) => File.WriteAllText(_folder + path, text);

    public string At(string path) => _folder + path;

    /// <summary>Somebody restarts containerd, a second after the last write.</summary>
    public void Start()
    {
        foreach (var file in Directory.EnumerateFiles(At("/etc"), "*", SearchOption.AllDirectories))
        {
            File.SetLastWriteTimeUtc(file, File.GetLastWriteTimeUtc(file) - TimeSpan.FromSeconds(1));
        }

        _pid++;
        var text = Files.Target(ConfigPath) is null ? Config : Read(ConfigPath);
        _loaded = DiesOf(text) ? null : text;
        _startedAt = DateTimeOffset.UtcNow;
    }

    public void Stop() => _loaded = null;

    public Task<(ContainerdProcess? Process, string? Problem)> FindContainerdAsync(CancellationToken cancellation) => Answer(
        () => IsUp
            ? (new ContainerdProcess(new ProcessIdentity(_pid, _pid, "boot"), _startedAt, new ContainerdService("/usr/bin/containerd", ConfigPath, Unit)), (string?)null)
            : ((ContainerdProcess?)null, "nobody answers"),
        cancellation);

    public Task<CommandResult> RunAsync(string program, IReadOnlyList<string> arguments, TimeSpan limit, CancellationToken cancellation) => Answer(
        () => (Path.GetFileName(program), arguments.Where(a => !a.StartsWith("--config", StringComparison.Ordinal)).ToArray()) switch
        {
            ("containerd", ["--version"]) => Result(0, $"containerd github.com/containerd/containerd {Version} abc\n"),
            ("containerd", ["config", "default"]) => Result(0, Config),
            ("containerd", [_, "config", "dump"]) => DumpMain(),
            ("systemctl", ["reset-failed", ..] or ["daemon-reload"] or ["start" or "stop", "skiff-restore.timer"]) => Result(0, ""),
            ("systemctl", ["restart", "containerd.service"]) => Restart(),
            ("journalctl", _) => Result(0, "containerd: failed to load the plugin\n"),
            ("containerd-shim-skiff-v1", ["-v"]) when Files.Target(program) is not null => Result(ShimStatus, "shim 0.1.0\n"),
            _ => throw new LinuxException($"start {program} {string.Join(' ', arguments)}", Errno.NoEntry),
        },
        cancellation);

    public IReadOnlyList<RunningShim> RunningShims() => Shims;

    public Task<(bool? Known, ContainerdFailure? Failure)> HasHandlerAsync(string handler, CancellationToken cancellation) => Answer<(bool?, ContainerdFailure?)>(
        () => _loaded is null ? (null, new ContainerdFailure(ContainerdError.Unavailable, "nobody answers"))
        : (EffectiveConfig.Parse(Dump(_loaded)).Config!.Find(handler) is not null && !Ignored.Contains(handler), null),
        cancellation);

    public Task<string?> TrySandboxAsync(string handler, string cgroupParent, CancellationToken cancellation) =>
        Answer(() => cgroupParent == "system.slice" ? Sandbox(handler) : "a parent that is no slice", cancellation);

    public Task RemoveTestSandboxesAsync(CancellationToken cancellation) => Answer(() => true, cancellation);

    public Task<string?> RemoveDeadSandboxesAsync(string handler, CancellationToken cancellation) => Answer(() => (string?)null, cancellation);

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static Task<T> Answer<T>(Func<T> answer, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        return Task.FromResult(answer());
    }

    private CommandResult DumpMain()
    {
        var dump = Dump(Read(ConfigPath));
        return EffectiveConfig.Parse(dump).Problem is { } problem ? Result(1, "", problem) : Result(0, dump);
    }

    private CommandResult Restart()
    {
        Restarts++;
        Start();
        return IsUp ? Result(0, "") : Result(1, "", "Job for containerd.service failed.");
    }

    private static CommandResult Result(int status, string output, string error = "") =>
        new(new ExitStatus(status, 0, DateTimeOffset.UnixEpoch), false, Encoding.UTF8.GetBytes(output), error);
}

/// <summary>A clock on which every wait is over at once, and has taken its time nevertheless.</summary>
internal sealed class ImpatientTime : TimeProvider
{
    private long _ticks = DateTimeOffset.UnixEpoch.Ticks;

    public override DateTimeOffset GetUtcNow() => new(Interlocked.Read(ref _ticks), TimeSpan.Zero);

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
    {
        if (dueTime > TimeSpan.Zero)
        {
            _ = Interlocked.Add(ref _ticks, dueTime.Ticks);
        }

        return System.CreateTimer(callback, state, dueTime == Timeout.InfiniteTimeSpan ? dueTime : TimeSpan.Zero, period);
    }
}
