using Skiff.Linux.Files;

namespace Skiff.Operator.Node;

/// <summary>
/// The installer: takes the lock, reads the journal, ends or takes back what an earlier call left, and does what is asked
/// (<see cref="NodeOperation"/>).
/// </summary>
/// <param name="machine">The machine to work on.</param>
/// <param name="configPath">containerd's configuration file if it is known; null: the running containerd's own.</param>
/// <param name="time">The clock of all waits.</param>
/// <param name="reached">Hears the name of each point at which a crash would leave another state; for tests.</param>
internal sealed class NodeInstaller(INodeMachine machine, string? configPath, TimeProvider time, Action<string>? reached = null) : INodeInstaller
{
    private static readonly TimeSpan _lockLimit = TimeSpan.FromMinutes(5);
    private static readonly TimeSpan _lockPause = TimeSpan.FromMilliseconds(200);

    /// <inheritdoc/>
    public Task<InstallOutcome> InstallAsync(NodeInstallRequest request, IProgress<InstallStep>? progress, CancellationToken cancellation) =>
        RunAsync(request.Handler, progress, operation => operation.InstallAsync(request), cancellation);

    /// <inheritdoc/>
    public Task<InstallOutcome> UninstallAsync(NodeUninstallRequest request, IProgress<InstallStep>? progress, CancellationToken cancellation) =>
        RunAsync(request.Handler, progress, operation => operation.UninstallAsync(request), cancellation);

    /// <inheritdoc/>
    public Task<NodeStatus> StatusAsync(string handler, CancellationToken cancellation) =>
        new NodeInspection(machine, configPath).StatusAsync(handler, cancellation);

    private async Task<InstallOutcome> RunAsync(
        string handler, IProgress<InstallStep>? progress, Func<NodeOperation, Task<InstallOutcome>> work, CancellationToken cancellation)
    {
        progress?.Report(InstallStep.Preflight);
        if (HandlerName.Problem(handler) is { } unusable)
        {
            return Refuse("BadHandler", unusable);
        }

        if (machine.Obstacle is { } obstacle)
        {
            return Refuse("NoAccess", obstacle);
        }

        try
        {
            using var held = await LockAsync(cancellation).ConfigureAwait(false);
            if (held is null)
            {
                return Refuse(
                    "Locked",
                    $"another installer has been at work on this node for {_lockLimit.TotalMinutes:0} minutes (lock on {NodePaths.Lock}): end it and try again");
            }

            var journal = new Journal(machine.Files);
            var (entry, problem) = journal.Load();
            return entry is null
                ? Refuse("JournalUnusable", problem!)
                : await work(new NodeOperation(machine, configPath, handler, journal, entry, time, progress, reached, cancellation)).ConfigureAwait(false);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // What an operation has begun to change it takes back itself; this came before.
            return Refuse("NodeFileSystem", $"a file of the node could not be used: {e.Message}");
        }
    }

    private async Task<FolderLock?> LockAsync(CancellationToken cancellation)
    {
        var end = time.GetUtcNow() + _lockLimit;
        while (time.GetUtcNow() < end)
        {
            if (machine.Files.TryLock(NodePaths.Lock) is { } held)
            {
                return held;
            }

            await Task.Delay(_lockPause, time, cancellation).ConfigureAwait(false);
        }

        return null;
    }

    private static InstallOutcome Refuse(string reason, string message) => new(InstallResult.Refused, message) { Reason = reason };
}
