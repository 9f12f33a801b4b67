using Skiff.Containerd.Config;

namespace Skiff.Operator.Node;

/// <content>Uninstalling: the configuration first, the binaries last.</content>
internal sealed partial class NodeOperation
{
    /// <inheritdoc cref="INodeInstaller.UninstallAsync"/>
    public async Task<InstallOutcome> UninstallAsync(NodeUninstallRequest request)
    {
        var obstacle = await FindContainerdAsync(request.Restart).ConfigureAwait(false);
        if (_entry.Change is not null)
        {
            if (await RecoverAsync(ChangeKind.Uninstall).ConfigureAwait(false) is { } ended)
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
        var plan = RuntimeRegistration.Remove(config.Files, handler, NodePaths.RuntimeType);
        if (!plan.Succeeded)
        {
            return await GiveUpAsync("ConfigNotEditable", plan.Problem).ConfigureAwait(false);
        }

        if (_entry.Change is null && plan.Changes.Count == 0 && machine.Files.Status(NodePaths.State) is null && machine.Files.Status(NodePaths.Programs) is null)
        {
            return Outcome(InstallResult.Done, "NotInstalled", $"the runtime {handler} is not installed; there was nothing to do");
        }

        var shims = machine.RunningShims().Count(s => s.IsBusy);
        if (_entry.Change is null && shims > 0 && !request.Force)
        {
            return InUse(shims, "Nothing was changed");
        }

        if (_entry.Change is not { Step: ChangeStep.CleanUp })
        {
            // The kubelet removes the sandbox of a pod a minute after its end. Without its handler containerd 2 fails for such a sandbox, and
            // with that every look of the kubelet at its pods, so they go first.
            if (await machine.RemoveDeadSandboxesAsync(handler, _stop).ConfigureAwait(false) is { } left && !request.Force)
            {
                return await GiveUpAsync("SandboxesLeft", $"a sandbox of a pod that has ended cannot be removed: {left}").ConfigureAwait(false);
            }

            var loaded = Loaded(config);
            Begin(ChangeKind.Uninstall, config, loaded);
            var pending = false;
            ChangeFailure? failure;
            try
            {
                (config, failure, pending) = await UninstallStepsAsync(request, config, plan.Changes, loaded).ConfigureAwait(false);
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
            if (pending)
            {
                Save(_entry with { Change = null });
                machine.Files.DeleteTree(NodePaths.Before);
                return Outcome(
                    InstallResult.RestartPending, "RestartPending",
                    $"the configuration is as without us; containerd has to read it: run \"systemctl restart {_containerd.Service.Unit ?? "containerd"}\" on the node, "
                    + "then this command again to remove the files");
            }

            Advance(Change with { Step = ChangeStep.CleanUp });
        }

        // A pod may have come between the look at the shims and the handler's end.
        shims = machine.RunningShims().Count(s => s.IsBusy);
        if (shims > 0 && !request.Force)
        {
            return InUse(shims, $"The handler {handler} is out of containerd; the files stay until then");
        }

        progress?.Report(InstallStep.CleanUp);
        RemoveFiles(config!);
        return Outcome(
            InstallResult.Done, "Uninstalled",
            $"the runtime {handler} is uninstalled; containerd was {(_restarts == 0 ? "not restarted" : "restarted")}");
    }

    private async Task<(ContainerdConfig Config, ChangeFailure? Failure, bool Pending)> UninstallStepsAsync(
        NodeUninstallRequest request, ContainerdConfig config, IReadOnlyList<FileChange> changes, EffectiveConfig? loaded)
    {
        EndWhatBegins();
        var files = config;
        if (changes.Count > 0 || Change.Files.Count > 0)
        {
            progress?.Report(InstallStep.Configuration);
            var failure = Write(changes);
            if (failure is null)
            {
                (var validated, failure) = await ValidateAsync(
                    config,
                    t => t is { RuntimeType: NodePaths.RuntimeType } ? "it is still there (does another file that containerd imports have it?)" : null)
                    .ConfigureAwait(false);
                files = validated ?? config;
            }

            if (failure is not null)
            {
                return (files, failure, false);
            }
        }

        if (await NeedsRestartAsync(loaded, files.Effective).ConfigureAwait(false))
        {
            if (request.Restart == RestartMode.Manual)
            {
                return (files, null, true);
            }

            if (await RestartAsync(files).ConfigureAwait(false) is { } failure)
            {
                return (files, failure, false);
            }
        }

        // A table of that name that is not ours stays, and so does its handler.
        return (files, files.Effective.Find(handler) is null ? await AwaitHandlerAsync(wanted: false).ConfigureAwait(false) : null, false);
    }

    private InstallOutcome InUse(int shims, string state) =>
        Outcome(
            InstallResult.InUse, "InUse",
            $"{shims} pod{(shims == 1 ? "" : "s")} on this node run{(shims == 1 ? "s" : "")} under our shim. {state}. Delete the pods, or use --force: containerd "
            + "cannot manage them any more then") with
        { RunningShims = shims };

    /// <summary>Removes what is only there for this handler, and with the last one everything.</summary>
    private void RemoveFiles(ContainerdConfig config)
    {
        var installed = _entry.Handlers.FirstOrDefault(h => h.Handler == handler);
        foreach (var folder in (installed?.MadeFolders ?? []).Concat(Change.MadeFolders).Reverse())
        {
            _ = machine.Files.RemoveIfEmpty(folder);
        }

        // Whoever named our shim in a table of their own needs the files.
        var others = _entry.Handlers.Where(h => h.Handler != handler).ToList();
        if (others.Count > 0 || config.Dump.Contains(NodePaths.RuntimeType, StringComparison.Ordinal))
        {
            machine.Files.DeleteTree(NodePaths.Before);
            machine.Files.DeleteTree($"{NodePaths.Backup}/{handler}");
            Save(_entry with { Handlers = others, Change = null });
            _notes.Add(others.Count > 0
                ? $"{NodePaths.Programs} stays for {string.Join(", ", others.Select(h => h.Handler))}"
                : $"{NodePaths.Programs} stays: containerd's configuration names {NodePaths.RuntimeType} in a table that is not ours");
            return;
        }

        _changed = true;
        _bundles.Switch(null);
        reached?.Invoke("link removed");
        machine.Files.DeleteTree(NodePaths.Programs);
        reached?.Invoke("binaries removed");
        machine.Files.DeleteTree(NodePaths.State);
        reached?.Invoke("state removed");
    }
}
