using System.Globalization;
using System.Text.Json;
using Microsoft.Win32.SafeHandles;
using Skiff.Containerd.Options;
using Skiff.Linux;
using Skiff.Linux.Cgroups;
using Skiff.Linux.Files;
using Skiff.Linux.Processes;

namespace Skiff.Shim.OciRuntime;

/// <summary>What a new process gets: descriptors, and the socket that its terminal is sent to.</summary>
/// <param name="Descriptors">By their numbers in the process: 0-2, of which those not named are /dev/null, and from 3 on without a gap.</param>
/// <param name="ConsoleSocket">A socket's name in the bundle; null when it has no terminal.</param>
internal sealed record RuntimeStdio(IReadOnlyDictionary<int, SafeFileHandle> Descriptors, string? ConsoleSocket)
{
    /// <summary>How many come after 0-2: what runc's <c>--preserve-fds</c> counts.</summary>
    public int Preserved => Descriptors.Keys.Count(d => d > 2);

    /// <summary>The same with one more descriptor.</summary>
    public RuntimeStdio With(int descriptor, SafeFileHandle handle) =>
        this with { Descriptors = new Dictionary<int, SafeFileHandle>(Descriptors) { [descriptor] = handle } };
}

/// <summary>
/// Drives runc, crun or another program with runc's command line. Each call gives null, or in words why it failed; one that is cancelled
/// has failed as well.
/// </summary>
internal sealed class OciRuntimeDriver
{
    private const int LogLimit = 1 << 20;

    // What a hung runtime may cost at most; the caller's own deadline usually comes first.
    private static readonly TimeSpan _longest = TimeSpan.FromMinutes(5);

    // Where containerd is a systemd service of type notify, it hands NOTIFY_SOCKET down to us. With it, runc's start waits until the
    // container itself reports that it is ready, which for most is never.
    private static readonly Lazy<List<string>> _environment = new(() => ThisProcess.EnvironmentWithout("NOTIFY_SOCKET"));

    private static int _calls;

    private readonly RuntimeSettings _settings;
    private readonly string _bundle;
    private readonly string _root;
    private readonly bool _systemdCgroup;
    private readonly string _cgroupsPath;

    public OciRuntimeDriver(RuntimeSettings settings, string ns, string bundle, string cgroupsPath)
    {
        _settings = settings;
        _bundle = bundle;
        _root = Path.Combine(settings.Root, ns);
        _systemdCgroup = settings.UsesSystemdCgroup(cgroupsPath);
        _cgroupsPath = cgroupsPath;
    }

    /// <summary>Builds the container and stops before its program; returns its init process, adopted.</summary>
    public Task<(ChildProcess? Init, string? Problem)> CreateAsync(string id, RuntimeStdio stdio, CancellationToken cancellation)
    {
        return BeginAsync(["create", "--bundle", _bundle, .. BuildFlags()], "init.pid", id, stdio, cancellation);
    }

    /// <summary>Builds the container from a checkpoint; its program goes on at once. Returns its init process, adopted.</summary>
    public Task<(ChildProcess? Init, string? Problem)> RestoreAsync(string id, string image, RuntimeStdio stdio, CancellationToken cancellation)
    {
        if (CriuProblem() is { } problem)
        {
            return Task.FromResult<(ChildProcess?, string?)>((null, problem));
        }

        var work = _settings.CriuWorkPath.Length > 0 ? _settings.CriuWorkPath : Path.Combine(_bundle, "criu-work");
        List<string> arguments = ["restore", "--bundle", _bundle, "--image-path", image, "--work-path", work, "--detach", "--no-subreaper"];
        if (_settings.NoPivotRoot)
        {
            arguments.Add("--no-pivot");
        }

        return BeginAsync(arguments, "init.pid", id, stdio, cancellation);
    }

    /// <summary>Runs one more process in a running container; returns it, adopted.</summary>
    public async Task<(ChildProcess? Process, string? Problem)> ExecAsync(
        string id, string execId, OciProcess process, RuntimeStdio stdio, CancellationToken cancellation)
    {
        var name = "exec-" + execId;
        var file = Path.Combine(_bundle, name + ".json");
        var pidFile = Path.Combine(_bundle, name + ".pid");
        try
        {
            AtomicFile.Write(file, process.ToJson().Span, 0x180); // 0600: its environment may hold secrets
            return await BeginAsync(["exec", "--process", file, "--detach"], pidFile, id, stdio, cancellation).ConfigureAwait(false);
        }
        finally
        {
            File.Delete(file);
            File.Delete(pidFile);
        }
    }

    /// <summary>Lets the program run.</summary>
    public Task<string?> StartAsync(string id, CancellationToken cancellation) => RunAsync(["start", id], null, default, cancellation);

    /// <summary>Builds a container and runs its program to its end.</summary>
    /// <param name="id">The container.</param>
    /// <param name="files">Its descriptors; standard error is kept for the answer.</param>
    /// <param name="cancellation">Ends the runtime; the container is left to <see cref="DeleteAsync"/>.</param>
    /// <returns>The program's exit status, or the runtime's own; and what was said when it is not 0.</returns>
    public async Task<(uint? Status, string? Problem)> RunToEndAsync(
        string id, IReadOnlyDictionary<int, SafeFileHandle> files, CancellationToken cancellation)
    {
        List<string> arguments = ["run", "--bundle", _bundle, .. BuildFlags(), id];
        return await InvokeAsync(arguments, files, default, cancellation).ConfigureAwait(false) is { } failure
            ? (failure.Status, failure.Reason)
            : (0, null);
    }

    /// <summary>Removes the container: whatever runs in it is killed, its cgroup goes. A container that is not there is fine.</summary>
    public async Task<string?> DeleteAsync(string id, CancellationToken cancellation)
    {
        if (await RunAsync(["delete", "--force", id], null, default, cancellation).ConfigureAwait(false) is { } problem)
        {
            return problem;
        }

        // A runtime that was killed while it made the container left a cgroup that it will not know of any more. Only one that is named
        // after the container is surely its own. systemd removes its scopes itself.
        return _systemdCgroup || !_cgroupsPath.EndsWith("/" + id, StringComparison.Ordinal) || await NamedCgroup.RemoveAsync(_cgroupsPath, cancellation).ConfigureAwait(false)
            ? null
            : $"the cgroup {_cgroupsPath} cannot be removed: processes in it do not end";
    }

    /// <summary>Freezes all its processes.</summary>
    public Task<string?> PauseAsync(string id, CancellationToken cancellation) => RunAsync(["pause", id], null, default, cancellation);

    /// <summary>Lets them go on.</summary>
    public Task<string?> ResumeAsync(string id, CancellationToken cancellation) => RunAsync(["resume", id], null, default, cancellation);

    /// <summary>Changes its limits.</summary>
    /// <param name="id">The container.</param>
    /// <param name="resources">linux.resources as JSON; what is not in it stays as it is.</param>
    /// <param name="cancellation">Ends the runtime.</param>
    public Task<string?> UpdateAsync(string id, ReadOnlyMemory<byte> resources, CancellationToken cancellation) =>
        RunAsync(["update", "--resources", "-", id], null, resources, cancellation);

    /// <summary>Writes all its processes into a folder, by criu.</summary>
    public async Task<string?> CheckpointAsync(string id, string image, CheckpointOptions options, CancellationToken cancellation)
    {
        var work = options.WorkPath.Length > 0 ? options.WorkPath : Path.Combine(_bundle, "criu-work");
        List<string> arguments = ["checkpoint", "--image-path", image, "--work-path", work];
        (bool Wanted, string Flag)[] flags =
        [
            (!options.Exit, "--leave-running"), (options.OpenTcp, "--tcp-established"), (options.ExternalUnixSockets, "--ext-unix-sk"),
            (options.Terminal, "--shell-job"), (options.FileLocks, "--file-locks"),
        ];
        arguments.AddRange(flags.Where(f => f.Wanted).Select(f => f.Flag));
        if (options.ParentPath.Length > 0)
        {
            arguments.AddRange(["--parent-path", options.ParentPath]);
        }

        if (options.CgroupsMode.Length > 0)
        {
            arguments.AddRange(["--manage-cgroups-mode", options.CgroupsMode]);
        }

        arguments.AddRange(options.EmptyNamespaces.SelectMany(n => new[] { "--empty-ns", n }));
        if (await RunAsync([.. arguments, id], null, default, cancellation).ConfigureAwait(false) is not { } problem)
        {
            return null;
        }

        var log = Path.Combine(work, "dump.log");
        return File.Exists(log) && !problem.Contains(log, StringComparison.Ordinal) ? $"{problem}; criu's log is {log}" : problem;
    }

    /// <summary>Why no container can be checkpointed or restored, or null.</summary>
    public string? CriuProblem() => ProgramPath.Find(_settings.CriuPath.Length > 0 ? _settings.CriuPath : "criu") is not null ? null
        : _settings.CriuPath.Length > 0 ? $"the option CriuPath names {_settings.CriuPath}, which is not there"
        : $"criu is not in PATH ({Environment.GetEnvironmentVariable("PATH")}); install it, or name it with the option CriuPath";

    private IEnumerable<string> BuildFlags()
    {
        if (_settings.NoPivotRoot)
        {
            yield return "--no-pivot";
        }

        if (_settings.NoNewKeyring)
        {
            yield return "--no-new-keyring";
        }
    }

    /// <summary>Runs what leaves a new process behind whose id is in a file, and adopts it.</summary>
    private async Task<(ChildProcess? Process, string? Problem)> BeginAsync(
        List<string> arguments, string pidFile, string id, RuntimeStdio stdio, CancellationToken cancellation)
    {
        pidFile = Path.Combine(_bundle, pidFile);
        List<string> all = [.. arguments, "--pid-file", pidFile];
        if (stdio.ConsoleSocket is { } socket)
        {
            all.AddRange(["--console-socket", socket]); // relative to the bundle: a socket's path may have 107 bytes only
        }

        if (stdio.Preserved > 0)
        {
            all.AddRange(["--preserve-fds", $"{stdio.Preserved}"]);
        }

        all.Add(id);

        // The process may die before its id is known here; the scope keeps its exit code for us.
        using var adoption = Reaper.Shared.ExpectAdoption();
        if (await RunAsync(all, stdio.Descriptors, default, cancellation).ConfigureAwait(false) is { } problem)
        {
            return (null, problem);
        }

        // Not cancelled any more: there is a process now, and somebody has to know it.
        var text = File.Exists(pidFile) ? await File.ReadAllTextAsync(pidFile, CancellationToken.None).ConfigureAwait(false) : "";
        return int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var pid)
            ? (Reaper.Shared.Adopt(pid), null)
            : (null, $"{_settings.BinaryName} {arguments[0]} left no process id in {pidFile}");
    }

    private async Task<string?> RunAsync(
        List<string> arguments, IReadOnlyDictionary<int, SafeFileHandle>? files, ReadOnlyMemory<byte> input, CancellationToken cancellation) =>
        await InvokeAsync(arguments, files, input, cancellation).ConfigureAwait(false) is { } failure ? Failure(arguments[0], failure.Reason) : null;

    /// <returns>Null when all went well. Without a status the runtime was not there, or did not end by itself.</returns>
    private async Task<(uint? Status, string Reason)?> InvokeAsync(
        List<string> arguments, IReadOnlyDictionary<int, SafeFileHandle>? files, ReadOnlyMemory<byte> input, CancellationToken cancellation)
    {
        var program = ProgramPath.Find(_settings.BinaryName);
        if (program is null)
        {
            return (null, $"the OCI runtime \"{_settings.BinaryName}\" is not in PATH ({Environment.GetEnvironmentVariable("PATH")}); "
                + "install it, or name another with the option BinaryName");
        }

        // Of its own, because several may run at once in one bundle.
        var log = Path.Combine(_bundle, $"runtime-log-{Interlocked.Increment(ref _calls)}.json");
        List<string> all = [program, "--root", _root, "--log", log, "--log-format", "json"];
        if (_systemdCgroup)
        {
            all.Add("--systemd-cgroup");
        }

        all.AddRange(arguments);
        var request = new SpawnRequest
        {
            Path = program,
            Arguments = all,
            Environment = Variables(),
            WorkingDirectory = _bundle,
            Files = files ?? new Dictionary<int, SafeFileHandle>(),
            NewProcessGroup = true,
        };

        try
        {
            var result = await Command.RunAsync(request, _longest, input, cancellation).ConfigureAwait(false);
            return result.Exit.Success ? null
                : result.TimedOut ? (null, $"it was killed: it did not end within {_longest.TotalMinutes} minutes")
                : (result.Exit.ShellCode, LastError(log) ?? Fallback(result));
        }
        catch (OperationCanceledException)
        {
            return (null, "it was killed: it did not end in the time it was given");
        }
        catch (LinuxException e)
        {
            return (null, e.Message);
        }
        finally
        {
            File.Delete(log);
        }
    }

    /// <summary>runc looks for criu in PATH; its own flag for it is gone since 1.2.</summary>
    private List<string> Variables() => Path.GetDirectoryName(_settings.CriuPath) is { Length: > 0 } folder
        ? [.. _environment.Value.Where(e => !e.StartsWith("PATH=", StringComparison.Ordinal)), $"PATH={folder}:{Environment.GetEnvironmentVariable("PATH")}"]
        : _environment.Value;

    /// <summary>Later versions of runc begin with these words themselves.</summary>
    private string Failure(string operation, string reason)
    {
        var prefix = $"{Path.GetFileName(_settings.BinaryName)} {operation} failed: ";
        return reason.StartsWith(prefix, StringComparison.Ordinal) ? reason : prefix + reason;
    }

    private static string Fallback(CommandResult result) =>
        result.Error.Trim() is { Length: > 0 } text ? text : $"it exited with status {result.Exit.ShellCode} and said nothing";

    /// <summary>The last error of the runtime's log: one JSON object a line, with level and msg.</summary>
    private static string? LastError(string log)
    {
        if (!File.Exists(log) || new FileInfo(log).Length > LogLimit)
        {
            return null;
        }

        string? last = null;
        foreach (var line in File.ReadLines(log))
        {
            try
            {
                using var entry = JsonDocument.Parse(line);
                if (entry.RootElement.TryGetProperty("level", out var level) && level.GetString() is "error" or "fatal"
                    && entry.RootElement.TryGetProperty("msg", out var message))
                {
                    last = message.GetString();
                }
            }
            catch (JsonException)
            {
                // A line that was cut off when the runtime died; the ones before it count.
            }
        }

        return last;
    }
}
