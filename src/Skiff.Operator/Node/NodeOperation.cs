using System.Security.Cryptography;
using System.Text;
using Skiff.Containerd.Config;
using Skiff.Linux;
using Skiff.Linux.Processes;

namespace Skiff.Operator.Node;

/// <summary>
/// One install or uninstall, under the lock. A change is written to the journal before it is made, step by step:
/// <list type="number">
/// <item>preflight: nothing is written, and what cannot go well is refused;</item>
/// <item>recover: an unfinished change of the same kind is continued; any other, and one that left containerd down, is taken back;</item>
/// <item>binaries (install): copied under their digest, tried, and the link switched;</item>
/// <item>configuration: what is replaced is kept first;</item>
/// <item>validate: the node's containerd prints the result; nothing but our runtime may have changed;</item>
/// <item>restart, only if the running containerd has another table for our runtime than the files now have;</item>
/// <item>verify: the handler is there (or gone) and runs a sandbox;</item>
/// <item>clean up: from here on the change is never taken back.</item>
/// </list>
/// A failure in 3-7 takes the change back (<see cref="RollBackAsync"/>). It can be cancelled until something is changed that containerd reads.
/// </summary>
internal sealed partial class NodeOperation(
    INodeMachine machine,
    string? configPath,
    string handler,
    Journal journal,
    JournalEntry entry,
    TimeProvider time,
    IProgress<InstallStep>? progress,
    Action<string>? reached,
    CancellationToken cancellation)
{
    private const uint PrivateFile = 0x180;
    private const uint PrivateFolder = 0x1C0;
    private const uint SharedFile = 0x1A4;
    private const uint SharedFolder = 0x1ED;
    private const int FileLimit = ConfigFiles.FileLimit;
    private const int DumpLimit = 8 << 20;
    private const int SaidLimit = 4096;

    private static readonly TimeSpan _queryLimit = TimeSpan.FromSeconds(20);
    private static readonly TimeSpan _restartLimit = TimeSpan.FromSeconds(120);
    private static readonly TimeSpan _serveLimit = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan _handlerLimit = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan _pause = TimeSpan.FromMilliseconds(100);

    /// <summary>
    /// By how much a file has to be older than containerd's start to be older for sure: the kernel stamps files with the time of its last
    /// tick, and a process's start is counted in ticks too, of up to 10 ms each. A file that was written a moment after a start would else
    /// pass for one that containerd has read.
    /// </summary>
    private static readonly TimeSpan _clocks = TimeSpan.FromMilliseconds(100);

    private readonly BundleStore _bundles = new(machine.Files);
    private readonly RestoreUnit _restore = new(machine);
    private readonly List<string> _notes = [];
    private JournalEntry _entry = entry;
    private ContainerdProcess? _containerd;
    private Version? _version;
    private int _restarts;
    private bool _changed;

    // Whoever asks us to stop; from EndWhatBegins on, nobody.
    private CancellationToken _stop = cancellation;

    /// <summary>The change under way; only where there is one.</summary>
    private NodeChange Change => _entry.Change ?? throw new InvalidOperationException("no change is under way");

    /// <summary>Finds containerd and checks that it is one we can work with.</summary>
    /// <returns>Why not; null when it is.</returns>
    private async Task<InstallOutcome?> FindContainerdAsync(RestartMode restart)
    {
        var (process, problem) = await machine.FindContainerdAsync(_stop).ConfigureAwait(false);
        _containerd = process;
        if (process is null)
        {
            return Outcome(InstallResult.Refused, "ContainerdNotFound", problem!);
        }

        if (configPath is not null && configPath != process.Service.ConfigPath)
        {
            return Outcome(
                InstallResult.Refused, "ConfigPathMismatch",
                $"--config is {configPath}, and the running containerd (process {process.Identity.Pid}) reads {process.Service.ConfigPath}: "
                + "leave --config out, or restart containerd with that file");
        }

        return process.Service.Unit is null && restart == RestartMode.Auto
            ? Outcome(
                InstallResult.Refused, "NoUnit",
                $"containerd (process {process.Identity.Pid}) is not the main process of a systemd unit, so it cannot be restarted here: "
                + "use --restart manual and restart it yourself when told to")
            : null;
    }

    /// <summary>
    /// From here on nobody stops us until the change is verified or taken back, all of which has limits of its own. An agent that ended in between
    /// might have left a containerd that does not start with the new files, and with it down no kubelet could start another agent.
    /// </summary>
    /// <exception cref="OperationCanceledException">It was asked for before.</exception>
    private void EndWhatBegins()
    {
        _stop.ThrowIfCancellationRequested();
        _stop = CancellationToken.None;
    }

    /// <summary>Ends or takes back what an earlier call left. Afterwards the journal has no change, or one to be continued.</summary>
    /// <returns>What the call has to end with; null when it goes on.</returns>
    private async Task<InstallOutcome?> RecoverAsync(ChangeKind kind)
    {
        if (_entry.Change is not { } change)
        {
            return null;
        }

        progress?.Report(InstallStep.Recover);
        await machine.RemoveTestSandboxesAsync(_stop).ConfigureAwait(false);
        foreach (var file in change.Files)
        {
            machine.Files.DeleteLeftovers(file.Path);
        }

        var isOurs = change.Kind == kind && change.Handler == handler;
        if (change.Step == ChangeStep.CleanUp)
        {
            // An uninstall that waits for shims to end is ended by an uninstall of the same handler, or by an install of it.
            if (change.Kind == ChangeKind.Install)
            {
                CleanUpAfterInstall();
            }
            else if (!isOurs)
            {
                Save(_entry with { Change = null });
            }

            return null;
        }

        var failure = change.Failure;
        if (failure is null && _containerd is null)
        {
            failure = new ChangeFailure(
                "ContainerdDown", $"containerd was down when an unfinished {change.Kind} of {change.Handler} was found in its step {change.Step}", null);
        }

        if (failure is null && _restore.Restored is { } restored)
        {
            failure = new ChangeFailure(
                "RestoredByHost", $"containerd did not run after an unfinished {change.Kind} of {change.Handler}, and the node itself put its files back: {restored}", null);
        }

        if (failure is null && isOurs)
        {
            return null;
        }

        var outcome = await RollBackAsync(
            failure ?? new ChangeFailure("Superseded", $"the unfinished {change.Kind} of {change.Handler} was taken back", null)).ConfigureAwait(false);
        if (outcome.Result == InstallResult.Failed || (failure is not null && isOurs))
        {
            return outcome;
        }

        (_containerd, _) = await machine.FindContainerdAsync(_stop).ConfigureAwait(false);
        return null;
    }

    /// <summary>What the running containerd has read: from the journal, or what the files say if none is younger than the process.</summary>
    /// <returns>Null when it is not known.</returns>
    private EffectiveConfig? Loaded(ContainerdConfig config)
    {
        if (_containerd is null)
        {
            return null;
        }

        if (_entry.Running == _containerd.Identity && machine.Files.Read(NodePaths.RunningConfig, DumpLimit) is { } dump)
        {
            return EffectiveConfig.Parse(Encoding.UTF8.GetString(dump)).Config;
        }

        return config.LastWritten(machine) + _clocks < _containerd.StartedAt ? config.Effective : null;
    }

    /// <summary>Whether the running containerd has to read its files (again) before its table for our handler is theirs.</summary>
    /// <param name="loaded">What it has read; null: not known.</param>
    /// <param name="files">What the files come to.</param>
    private async Task<bool> NeedsRestartAsync(EffectiveConfig? loaded, EffectiveConfig files)
    {
        var wanted = files.Find(handler);
        if (loaded is not null)
        {
            return !ContainerdConfig.Same(loaded.Find(handler), wanted);
        }

        // Not known: then only a handler that is neither in the files nor in the process is proof enough.
        var (known, _) = await machine.HasHandlerAsync(handler, _stop).ConfigureAwait(false);
        return wanted is not null || known != false;
    }

    /// <summary>Begins the change in the journal, with what the running containerd has read.</summary>
    private void Begin(ChangeKind kind, ContainerdConfig config, EffectiveConfig? loaded)
    {
        if (_entry.Change is not null)
        {
            return; // continued
        }

        machine.Files.DeleteTree(NodePaths.Before);
        if (loaded is not null && _entry.Running != _containerd!.Identity)
        {
            RecordRunning(config.Dump);
        }

        Save(_entry with
        {
            Change = new NodeChange(kind, handler, kind == ChangeKind.Install ? ChangeStep.Binaries : ChangeStep.Configuration, _containerd!.Service)
            {
                BundleBefore = _bundles.Current,
            },
        });
    }

    /// <summary>Writes the files of a plan; what they replace is kept and in the journal before.</summary>
    /// <returns>Why not; null when all are written.</returns>
    private ChangeFailure? Write(IReadOnlyList<FileChange> changes)
    {
        List<ChangedFile> files = [.. Change.Files];
        List<string> made = [.. Change.MadeFolders];
        foreach (var file in changes)
        {
            var after = file.After is null ? null : Convert.ToHexStringLower(SHA256.HashData(file.After));
            var index = files.FindIndex(f => f.Path == file.Path);
            if (index >= 0)
            {
                files[index] = files[index] with { After = after };
                continue;
            }

            if (file.Before is not null)
            {
                _ = machine.Files.MakeFolder(NodePaths.Before, PrivateFolder);
                machine.Files.Write(KeptAs(files.Count, file.Path), file.Before, PrivateFile);
                reached?.Invoke($"kept {file.Path}");
            }

            for (var folder = Path.GetDirectoryName(file.Path)!;
                machine.Files.Target(folder) is null && !made.Contains(folder);
                folder = Path.GetDirectoryName(folder)!)
            {
                made.Insert(Change.MadeFolders.Count, folder);
            }

            files.Add(new ChangedFile(file.Path, file.Before is not null, after));
        }

        Advance(Change with { Step = ChangeStep.Configuration, Files = files, MadeFolders = made });
        foreach (var file in changes)
        {
            var now = machine.Files.Read(file.Path, FileLimit);
            if (!Equal(now, file.Before))
            {
                return new ChangeFailure("ConfigChangedMeanwhile", $"{file.Path} was changed by somebody else while it was being edited: try again", null);
            }

            _changed = true;
            if (file.After is null)
            {
                machine.Files.Delete(file.Path);
            }
            else
            {
                _ = machine.Files.MakeFolder(Path.GetDirectoryName(file.Path)!, SharedFolder);
                machine.Files.Write(file.Path, file.After, SharedFile);
            }

            reached?.Invoke($"wrote {file.Path}");
        }

        return null;
    }

    /// <summary>Has the node's containerd read the edited files for a trial.</summary>
    /// <param name="before">What it was before the edit.</param>
    /// <param name="problemOf">What is wrong with the runtime's table; null: nothing.</param>
    /// <returns>What they come to now, or why that is not what was wanted.</returns>
    private async Task<(ContainerdConfig? Config, ChangeFailure? Failure)> ValidateAsync(ContainerdConfig before, Func<RuntimeTable?, string?> problemOf)
    {
        Advance(Change with { Step = ChangeStep.Validate });
        progress?.Report(InstallStep.Validate);
        var (config, problem) = await ContainerdConfig.ReadAsync(machine, Change.Containerd, _stop).ConfigureAwait(false);
        if (config is null)
        {
            return (null, new ChangeFailure("ConfigRefused", $"containerd does not accept the edited configuration: {problem}", null));
        }

        if (problemOf(config.Effective.Find(handler)) is { } wrong)
        {
            return (null, new ChangeFailure(
                "ConfigNotEffective", $"containerd config dump does not show the runtime {handler} as it was written: {wrong}", null));
        }

        return before.Effective.Without(handler).Differs(config.Effective.Without(handler))
            ? (null, new ChangeFailure(
                "ConfigSideEffect",
                $"the edit of {Change.Containerd.ConfigPath} would change more than the runtime {handler}: please report this with the file", null))
            : (config, null);
    }

    /// <summary>Restarts containerd on the files that are there and waits until it serves.</summary>
    private async Task<ChangeFailure?> RestartAsync(ContainerdConfig config)
    {
        Advance(Change with { Step = ChangeStep.Restart, MadeFolders = [.. Change.MadeFolders, .. _restore.MissingFolders] });
        progress?.Report(InstallStep.Restart);
        if (await _restore.ArmAsync(Change, KeptAs, _stop).ConfigureAwait(false) is { } unarmed)
        {
            _notes.Add($"nothing on the node puts containerd's files back if this program is killed in the restart: {unarmed}");
        }

        reached?.Invoke("restore unit armed");
        if (await RestartUnitAsync().ConfigureAwait(false) is { } failure)
        {
            return failure;
        }

        RecordRunning(config.Dump);
        Save(_entry);
        return null;
    }

    private async Task<ChangeFailure?> RestartUnitAsync()
    {
        var unit = Change.Containerd.Unit!;
        var old = _containerd?.Identity;

        // Failures of before count towards systemd's limit of starts; ours must not be refused for them.
        _ = await SystemctlAsync(["reset-failed", unit], _queryLimit).ConfigureAwait(false);
        _restarts++;
        var result = await SystemctlAsync(["restart", unit], _restartLimit).ConfigureAwait(false);
        reached?.Invoke("restarted");
        if (!result.Exit.Success)
        {
            return await RestartFailureAsync(
                $"systemctl restart {unit} {(result.TimedOut ? $"did not end in {_restartLimit.TotalSeconds:0} s" : $"failed: {result.Error.Trim()}")}")
                .ConfigureAwait(false);
        }

        var end = time.GetUtcNow() + _serveLimit;
        string? problem;
        do
        {
            (_containerd, problem) = await machine.FindContainerdAsync(_stop).ConfigureAwait(false);
            if (_containerd is not null && _containerd.Identity != old)
            {
                var (_, failure) = await machine.HasHandlerAsync(handler, _stop).ConfigureAwait(false);
                if (failure is null)
                {
                    return null;
                }

                problem = failure.Message;
            }

            await Task.Delay(_pause, time, _stop).ConfigureAwait(false);
        }
        while (time.GetUtcNow() < end);
        return await RestartFailureAsync($"containerd does not serve {_serveLimit.TotalSeconds:0} s after its restart: {problem}").ConfigureAwait(false);
    }

    private async Task<ChangeFailure> RestartFailureAsync(string message)
    {
        string said;
        try
        {
            var log = await machine.RunAsync(
                "journalctl", ["-u", Change.Containerd.Unit!, "-n", "20", "--no-pager", "-o", "cat"], _queryLimit, _stop).ConfigureAwait(false);
            said = log.Exit.Success && log.OutputText.Length > 0
                ? log.OutputText
                : (await SystemctlAsync(["status", "--no-pager", "-n", "20", Change.Containerd.Unit!], _queryLimit).ConfigureAwait(false)).OutputText;
        }
        catch (LinuxException e)
        {
            said = e.Message;
        }

        return new ChangeFailure("RestartFailed", message, said.Length > SaidLimit ? said[^SaidLimit..] : said);
    }

    /// <summary>Waits until the running containerd has the handler, or has it no longer.</summary>
    private async Task<ChangeFailure?> AwaitHandlerAsync(bool wanted)
    {
        Advance(Change with { Step = ChangeStep.Verify });
        progress?.Report(InstallStep.Verify);
        var end = time.GetUtcNow() + _handlerLimit;
        while (true)
        {
            var (known, failure) = await machine.HasHandlerAsync(handler, _stop).ConfigureAwait(false);
            if (known == wanted)
            {
                return null;
            }

            if (time.GetUtcNow() >= end)
            {
                return new ChangeFailure(
                    wanted ? "HandlerMissing" : "HandlerStays",
                    failure is not null ? $"containerd was not able to say whether it has the handler {handler}: {failure.Message}"
                    : $"containerd runs and {(wanted ? "does not have" : "still has")} the handler {handler}, although config dump says otherwise", null);
            }

            await Task.Delay(_pause, time, _stop).ConfigureAwait(false);
        }
    }

    private Task<CommandResult> SystemctlAsync(IReadOnlyList<string> arguments, TimeSpan limit) =>
        machine.RunAsync("systemctl", arguments, limit, _stop);

    /// <summary>Notes that the running containerd has read the files as they are.</summary>
    private void RecordRunning(string dump)
    {
        // The file first: until the journal names the process, it is not looked at.
        _ = machine.Files.MakeFolder(NodePaths.State, PrivateFolder);
        machine.Files.Write(NodePaths.RunningConfig, Encoding.UTF8.GetBytes(dump), PrivateFile);
        _entry = _entry with { Running = _containerd!.Identity };
    }

    /// <summary>Where the content of the change's n-th file is kept.</summary>
    private static string KeptAs(int index, string path) => $"{NodePaths.Before}/{index}-{Path.GetFileName(path)}";

    private void Advance(NodeChange change) => Save(_entry with { Change = change });

    private void Save(JournalEntry entry)
    {
        journal.Save(entry);
        _entry = entry;
        reached?.Invoke($"journal {entry.Change?.Step.ToString() ?? "closed"}");
    }

    private InstallOutcome Outcome(InstallResult result, string reason, string message) => new(result, message)
    {
        Reason = reason,
        Changed = _changed,
        Restarts = _restarts,
        Bundle = _bundles.Current,
        Engines = _bundles.Engines,
        ContainerdVersion = _version?.ToString(),
        ConfigPath = _containerd?.Service.ConfigPath,
        Notes = _notes,
    };

    private static bool Equal(byte[]? a, byte[]? b) => a is null || b is null ? a is null && b is null : a.AsSpan().SequenceEqual(b);
}
