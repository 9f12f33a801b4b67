using System.Globalization;
using System.Text.Json;
using Microsoft.Win32.SafeHandles;
using Skiff.Linux;
using Skiff.Linux.Processes;

namespace Skiff.Shim.OciRuntime;

/// <summary>Drives runc, crun or another program with runc's command line.</summary>
internal sealed class OciRuntimeDriver
{
    private const string LogName = "runtime-log.json";
    private const int LogLimit = 1 << 20;

    // What a hung runtime may cost at most; the caller's own deadline usually comes first.
    private static readonly TimeSpan _longest = TimeSpan.FromMinutes(5);

    // Where containerd is a systemd service of type notify, it hands NOTIFY_SOCKET down to us. With it, runc's start waits until the
    // container itself reports that it is ready, which for most is never.
    private static readonly Lazy<List<string>> _environment = new(() => ThisProcess.EnvironmentWithout("NOTIFY_SOCKET"));

    private readonly RuntimeSettings _settings;
    private readonly string _bundle;
    private readonly string _root;
    private readonly bool _systemdCgroup;

    public OciRuntimeDriver(RuntimeSettings settings, string ns, string bundle, string cgroupsPath)
    {
        _settings = settings;
        _bundle = bundle;
        _root = Path.Combine(settings.Root, ns);
        _systemdCgroup = settings.UsesSystemdCgroup(cgroupsPath);
    }

    /// <summary>Builds the container and stops before its program; returns its init process, adopted.</summary>
    /// <param name="id">The container.</param>
    /// <param name="stdio">Descriptors 0-2 of the container: the runtime hands its own on.</param>
    /// <param name="cancellation">Ends the runtime.</param>
    public async Task<(ChildProcess? Init, string? Problem)> CreateAsync(
        string id, IReadOnlyDictionary<int, SafeFileHandle> stdio, CancellationToken cancellation)
    {
        var pidFile = Path.Combine(_bundle, "init.pid");
        List<string> arguments = ["create", "--bundle", _bundle, "--pid-file", pidFile];
        if (_settings.NoPivotRoot)
        {
            arguments.Add("--no-pivot");
        }

        if (_settings.NoNewKeyring)
        {
            arguments.Add("--no-new-keyring");
        }

        arguments.Add(id);

        // Init may die before its pid is known here; the scope keeps its exit code for us.
        using var adoption = Reaper.Shared.ExpectAdoption();
        if (await RunAsync("create", arguments, stdio, cancellation).ConfigureAwait(false) is { } problem)
        {
            return (null, problem);
        }

        var text = await File.ReadAllTextAsync(pidFile, cancellation).ConfigureAwait(false);
        return int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var pid)
            ? (Reaper.Shared.Adopt(pid), null)
            : (null, $"{_settings.BinaryName} create left no process id in {pidFile}");
    }

    /// <summary>Lets the program run.</summary>
    public Task<string?> StartAsync(string id, CancellationToken cancellation) => RunAsync("start", ["start", id], null, cancellation);

    /// <summary>Removes the container: whatever runs in it is killed, its cgroup goes. A container that is not there is fine.</summary>
    public Task<string?> DeleteAsync(string id, CancellationToken cancellation) =>
        RunAsync("delete", ["delete", "--force", id], null, cancellation);

    private async Task<string?> RunAsync(
        string operation, IReadOnlyList<string> arguments, IReadOnlyDictionary<int, SafeFileHandle>? files, CancellationToken cancellation)
    {
        var program = ProgramPath.Find(_settings.BinaryName);
        if (program is null)
        {
            return $"the OCI runtime \"{_settings.BinaryName}\" is not in PATH ({Environment.GetEnvironmentVariable("PATH")}); "
                + "install it, or name another with the option BinaryName";
        }

        var log = Path.Combine(_bundle, LogName);
        File.Delete(log);
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
            Environment = _environment.Value,
            WorkingDirectory = _bundle,
            Files = files ?? new Dictionary<int, SafeFileHandle>(),
            NewProcessGroup = true,
        };

        try
        {
            var result = await Command.RunAsync(request, _longest, cancellation: cancellation).ConfigureAwait(false);
            return result.Exit.Success ? null
                : result.TimedOut ? $"{_settings.BinaryName} {operation} was killed: it did not end within {_longest.TotalMinutes} minutes"
                : Failure(operation, LastError(log) ?? Fallback(result));
        }
        catch (LinuxException e)
        {
            return Failure(operation, e.Message);
        }
    }

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
