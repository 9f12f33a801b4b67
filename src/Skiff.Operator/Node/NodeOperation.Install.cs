using Skiff.Containerd.Config;
using Skiff.Linux;

namespace Skiff.Operator.Node;

/// <content>Installing.</content>
internal sealed partial class NodeOperation
{
    /// <summary>Room that is left over on the node's file system after the bundle, in bytes.</summary>
    private const long SpareSpace = 64 << 20;

    private static readonly TimeSpan _programLimit = TimeSpan.FromSeconds(20);

    /// <inheritdoc cref="INodeInstaller.InstallAsync"/>
    public async Task<InstallOutcome> InstallAsync(NodeInstallRequest request)
    {
        // 1. Preflight, and 2. recover, which may need no containerd to be up.
        if (!Bundle.TryRead(request.BundleFolder, out var bundle, out var problem))
        {
            return Outcome(InstallResult.Refused, "BundleUnusable", problem);
        }

        var obstacle = await FindContainerdAsync(request.Restart).ConfigureAwait(false);
        if (_entry.Change is not null)
        {
            if (await RecoverAsync(ChangeKind.Install).ConfigureAwait(false) is { } ended)
            {
                return ended;
            }

            obstacle = await FindContainerdAsync(request.Restart).ConfigureAwait(false);
        }

        if (obstacle is not null)
        {
            return obstacle;
        }

        var (config, broken) = await ContainerdConfig.ReadAsync(machine, _containerd!.Service, _stop).ConfigureAwait(false);
        if (config is null)
        {
            return await GiveUpAsync("ConfigUnusable", broken!).ConfigureAwait(false);
        }

        _version = config.Version;
        RuntimeTable table = new(handler, NodePaths.RuntimeType) { PodAnnotations = request.PodAnnotations, Options = request.Options };
        var plan = RuntimeRegistration.Add(config.Files, table, config.Version, config.Effective);
        if (!plan.Succeeded)
        {
            return await GiveUpAsync("ConfigNotEditable", plan.Problem).ConfigureAwait(false);
        }

        var missing = _bundles.Missing(bundle);
        if (RoomProblem(missing) is { } full)
        {
            return await GiveUpAsync("NoSpace", full).ConfigureAwait(false);
        }

        var loaded = Loaded(config);
        var registered = _entry.Handlers.Any(h => h.Handler == handler);
        if (_entry.Change is null && registered && plan.Changes.Count == 0 && missing.Count == 0 && _bundles.Current == bundle.Digest
            && !await NeedsRestartAsync(loaded, config.Effective).ConfigureAwait(false)
            && (await machine.HasHandlerAsync(handler, _stop).ConfigureAwait(false)).Known == true)
        {
            RemoveUnusedBundles();
            return Outcome(InstallResult.Done, "Installed", $"the runtime {handler} is installed; there was nothing to do");
        }

        // From here on a failure is taken back.
        Begin(ChangeKind.Install, config, loaded);
        var pending = false;
        ChangeFailure? failure;
        try
        {
            (failure, pending) = await InstallStepsAsync(request, bundle, missing.Count > 0, config, plan.Changes, loaded).ConfigureAwait(false);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            failure = new ChangeFailure("NodeFileSystem", $"a file of the node could not be used: {e.Message}", null);
        }

        if (failure is not null)
        {
            return await RollBackAsync(failure).ConfigureAwait(false);
        }

        await _restore.DisarmAsync(Change.MadeFolders, _stop).ConfigureAwait(false);
        Save(_entry with
        {
            Handlers = [.. _entry.Handlers.Where(h => h.Handler != handler), Installed()],
            Change = Change with { Step = ChangeStep.CleanUp },
        });
        CleanUpAfterInstall();
        return pending
            ? Outcome(
                InstallResult.RestartPending, "RestartPending",
                $"everything is in place; containerd has to read its configuration: run \"systemctl restart {_containerd.Service.Unit ?? "containerd"}\" on the node, "
                + "then this command again to check")
            : Outcome(
                InstallResult.Done, "Installed",
                $"the runtime {handler} is installed, and containerd {config.Version} has it; containerd was {(_restarts == 0 ? "not restarted" : "restarted")}");
    }

    private async Task<(ChangeFailure? Failure, bool Pending)> InstallStepsAsync(
        NodeInstallRequest request, Bundle bundle, bool incomplete, ContainerdConfig config, IReadOnlyList<FileChange> changes, EffectiveConfig? loaded)
    {
        // 3. Binaries.
        if (incomplete || _bundles.Current != bundle.Digest)
        {
            progress?.Report(InstallStep.Binaries);
            _changed = true;
            _bundles.Put(bundle, _stop);
            reached?.Invoke("bundle copied");
            if (await TryProgramAsync($"{NodePaths.Version(bundle.Digest)}/{NodePaths.Shim}").ConfigureAwait(false) is { } broken)
            {
                return (broken, false);
            }

            EndWhatBegins();
            _bundles.Switch(bundle.Digest);
            reached?.Invoke("bundle switched");
        }

        // 4. Configuration, 5. validate; what an earlier call wrote is validated too.
        EndWhatBegins();
        var files = config;
        if (changes.Count > 0 || Change.Files.Count > 0)
        {
            progress?.Report(InstallStep.Configuration);
            var failure = Write(changes);
            if (failure is null)
            {
                (var validated, failure) = await ValidateAsync(config, t => Mismatch(t, request)).ConfigureAwait(false);
                files = validated ?? config;
            }

            if (failure is not null)
            {
                return (failure, false);
            }
        }

        // 6. Restart.
        if (await NeedsRestartAsync(loaded, files.Effective).ConfigureAwait(false))
        {
            if (request.Restart == RestartMode.Manual)
            {
                return (null, true);
            }

            if (await RestartAsync(files).ConfigureAwait(false) is { } failure)
            {
                return (failure, false);
            }
        }

        // 7. Verify.
        return (await AwaitHandlerAsync(wanted: true).ConfigureAwait(false) ?? await TestSandboxAsync(request, files.Effective).ConfigureAwait(false), false);
    }

    /// <summary>Starts the shim on the node: it may lack a library, and the file system may forbid programs (noexec).</summary>
    private async Task<ChangeFailure?> TryProgramAsync(string program)
    {
        string problem;
        try
        {
            var result = await machine.RunAsync(program, ["-v"], _programLimit, _stop).ConfigureAwait(false);
            if (result.Exit.Success)
            {
                return null;
            }

            problem = result.TimedOut ? "it does not end" : $"status {result.Exit.ShellCode}: {result.Error.Trim()}";
        }
        catch (LinuxException e)
        {
            problem = e.Message;
        }

        return new ChangeFailure("ShimDoesNotRun", $"{program} -v does not work on this node: {problem}; the bundle is not for this system", null);
    }

    /// <summary>
    /// Runs a sandbox under the handler. When it fails and one under the node's default runtime fails too, the node cannot run pods at
    /// present (its pause image cannot be had, for one): that says nothing of us, and is a note. The sandbox has the host's network, so no
    /// CNI is needed. A kubelet that comes across it removes it like any pod that it does not know.
    /// </summary>
    private async Task<ChangeFailure?> TestSandboxAsync(NodeInstallRequest request, EffectiveConfig config)
    {
        if (!_changed && _restarts == 0)
        {
            return null;
        }

        // What is not asked for is as the default runtime has it, also where the table does not show it (1.6: it is in a file of its own).
        var byDefault = config.DefaultRuntime is { } name ? config.Find(name)?.Options : null;
        if (await machine.TrySandboxAsync(handler, CgroupParent(request.Options) ?? CgroupParent(byDefault) ?? "", _stop).ConfigureAwait(false) is not { } problem)
        {
            return null;
        }

        if (await machine.TrySandboxAsync("", CgroupParent(byDefault) ?? "", _stop).ConfigureAwait(false) is { } common)
        {
            _notes.Add($"no sandbox could be run as a self-test, under the node's default runtime neither: {common}");
            return null;
        }

        return new ChangeFailure(
            "SelfTestFailed", $"a pod sandbox under the handler {handler} does not start, although one under the node's default runtime does: {problem}", null);
    }

    /// <summary>A parent in the form that the cgroup driver takes: a slice for systemd, nothing for cgroupfs; null: these options do not say.</summary>
    private static string? CgroupParent(IReadOnlyDictionary<string, OptionValue>? options) =>
        options is not null && options.TryGetValue("SystemdCgroup", out var systemd) ? systemd.AsBoolean == true ? "system.slice" : "" : null;

    /// <summary>How the table that containerd shows is not the one asked for; null when it is.</summary>
    private static string? Mismatch(RuntimeTable? table, NodeInstallRequest request)
    {
        if (table is null)
        {
            return "it is not there (is another file that containerd imports replacing it?)";
        }

        if (table.RuntimeType != NodePaths.RuntimeType)
        {
            return $"its runtime_type is {table.RuntimeType}";
        }

        if (!table.PodAnnotations.Order(StringComparer.Ordinal).SequenceEqual(request.PodAnnotations.Distinct().Order(StringComparer.Ordinal)))
        {
            return $"its pod_annotations are {string.Join(", ", table.PodAnnotations)}";
        }

        return null;
    }

    private string? RoomProblem(IReadOnlyList<BundleFile> missing)
    {
        var needed = missing.Sum(f => f.Size) + SpareSpace;
        return missing.Count > 0 && machine.Files.FreeSpace(NodePaths.Programs) is var free && free < needed
            ? $"the file system of {NodePaths.Programs} has {free >> 20} MiB free and {needed >> 20} MiB are needed: make room" : null;
    }

    private InstalledHandler Installed()
    {
        var old = _entry.Handlers.FirstOrDefault(h => h.Handler == handler);
        return new InstalledHandler(handler, _containerd!.Service.ConfigPath) { MadeFolders = [.. old?.MadeFolders ?? [], .. Change.MadeFolders.Where(f => !RestoreUnit.IsItsOwn(f))] };
    }

    /// <summary>Ends an install in its last step: the files of before the first one are kept for a person, those of later ones are not.</summary>
    private void CleanUpAfterInstall()
    {
        progress?.Report(InstallStep.CleanUp);
        var backup = $"{NodePaths.Backup}/{Change.Handler}";
        if (machine.Files.Status(NodePaths.Before) is not null && machine.Files.Status(backup) is null)
        {
            _ = machine.Files.MakeFolder(NodePaths.Backup, PrivateFolder);
            machine.Files.Rename(NodePaths.Before, backup);
            reached?.Invoke("backup kept");
        }

        machine.Files.DeleteTree(NodePaths.Before);
        RemoveUnusedBundles();
        Save(_entry with { Change = null });
    }

    /// <summary>Removes the bundles that no new pod gets and no shim is from.</summary>
    private void RemoveUnusedBundles()
    {
        // With a handler, a shim without processes may be about to start some. Without one it is what a killed self-test left.
        HashSet<string> keep = [.. machine.RunningShims().Where(s => s.IsBusy || _entry.Handlers.Count > 0).Select(s => s.Bundle)];
        if (_bundles.Current is { } current)
        {
            _ = keep.Add(current);
        }

        _bundles.RemoveOthers(keep);
    }

    /// <summary>Ends before anything was begun; what an earlier call began is taken back.</summary>
    private async Task<InstallOutcome> GiveUpAsync(string reason, string message) =>
        _entry.Change is null or { Step: ChangeStep.CleanUp }
            ? Outcome(InstallResult.Refused, reason, $"{message}. Nothing was changed")
            : await RollBackAsync(new ChangeFailure(reason, message, null)).ConfigureAwait(false);
}
