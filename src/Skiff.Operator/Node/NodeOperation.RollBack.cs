using System.Security.Cryptography;

namespace Skiff.Operator.Node;

/// <content>Going back.</content>
internal sealed partial class NodeOperation
{
    /// <summary>
    /// Puts the files and the link of before the change back, and restarts containerd if it is down or has read what was taken back. It can
    /// be called again after a crash in it.
    /// </summary>
    private async Task<InstallOutcome> RollBackAsync(ChangeFailure failure)
    {
        progress?.Report(InstallStep.RollBack);
        _stop = CancellationToken.None; // see EndWhatBegins; whoever asks for a stop now has a node to lose
        string? problem;
        try
        {
            Advance(Change with { Step = ChangeStep.RollBack, Failure = failure });
            RestoreFiles();
            _bundles.Switch(Change.BundleBefore);
            reached?.Invoke("bundle switched back");
            problem = await RestoreContainerdAsync().ConfigureAwait(false);
            if (problem is null)
            {
                await _restore.DisarmAsync(Change.MadeFolders, _stop).ConfigureAwait(false);
                reached?.Invoke("restore unit disarmed");
                _changed = false;
                CloseRolledBack();
                return Outcome(
                    InstallResult.RolledBack, failure.Reason,
                    $"{failure.Message}. The node is as it was before, and containerd runs{(_restarts == 0 ? "; it was not restarted" : "")}") with
                { ContainerdSaid = failure.ContainerdSaid };
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            problem = e.Message;
        }

        return Outcome(
            InstallResult.Failed, failure.Reason,
            $"{failure.Message}. Going back failed too: {problem}. The files of before are in {NodePaths.Before}; the next run tries again") with
        { ContainerdSaid = failure.ContainerdSaid };
    }

    private void RestoreFiles()
    {
        for (var i = Change.Files.Count - 1; i >= 0; i--)
        {
            var file = Change.Files[i];
            var before = file.Existed ? machine.Files.Read(KeptAs(i, file.Path), FileLimit) : null;
            var now = machine.Files.Read(file.Path, FileLimit);
            if ((now is null ? null : Convert.ToHexStringLower(SHA256.HashData(now))) != file.After)
            {
                // Not written yet, or restored already; or by somebody else, whose words are not ours to remove.
                if (!Equal(now, before))
                {
                    _notes.Add($"{file.Path} was changed by somebody else meanwhile and was left so");
                }

                continue;
            }

            if (file.Existed && before is null)
            {
                throw new IOException($"{KeptAs(i, file.Path)} is gone: restore {file.Path} from your own copy");
            }

            if (before is null)
            {
                machine.Files.Delete(file.Path);
            }
            else
            {
                machine.Files.Write(file.Path, before, SharedFile);
            }

            reached?.Invoke($"restored {file.Path}");
        }

        foreach (var folder in Change.MadeFolders.Reverse())
        {
            _ = machine.Files.RemoveIfEmpty(folder);
        }
    }

    /// <returns>Why containerd does not run on the restored files; null when it does.</returns>
    private async Task<string?> RestoreContainerdAsync()
    {
        (_containerd, _) = await machine.FindContainerdAsync(_stop).ConfigureAwait(false);
        var (config, problem) = await ContainerdConfig.ReadAsync(machine, Change.Containerd, _stop).ConfigureAwait(false);
        if (config is null)
        {
            return problem;
        }

        _version = config.Version;
        if (_containerd is not null && !await NeedsRestartAsync(Loaded(config), config.Effective).ConfigureAwait(false))
        {
            return null;
        }

        if (Change.Containerd.Unit is null)
        {
            return "containerd has to be restarted, and it is not the main process of a systemd unit: restart it yourself";
        }

        if (await RestartUnitAsync().ConfigureAwait(false) is { } failure)
        {
            return failure.Message;
        }

        RecordRunning(config.Dump);
        return null;
    }

    /// <summary>Ends a change that was taken back; when nothing else is installed, nothing of ours stays.</summary>
    private void CloseRolledBack()
    {
        RemoveUnusedBundles();
        if (_entry.Handlers.Count == 0 && _bundles.All.Count == 0)
        {
            machine.Files.Delete(NodePaths.Journal); // first: without the rest it would ask for what is gone
            machine.Files.DeleteTree(NodePaths.State);
            _entry = _entry with { Change = null };
        }
        else
        {
            Save(_entry with { Change = null });
            machine.Files.DeleteTree(NodePaths.Before);
        }

        reached?.Invoke("rolled back");
    }
}
