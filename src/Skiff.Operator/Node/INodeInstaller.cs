namespace Skiff.Operator.Node;

/// <summary>
/// Puts the shim on this node and registers it with containerd, or takes both away. Each call computes what is to be done from what is
/// there, so that a call after a crash ends what the one before began: afterwards the node has the old state or the new one.
/// </summary>
/// <remarks>
/// Calls of any process on the node wait for each other (a lock on the host). What can be expected to fail is in the outcome; exceptions
/// are for cancellation and for faults of ours. Every wait has a limit.
/// </remarks>
internal interface INodeInstaller
{
    /// <summary>Brings the node to what is asked for. When it is so already, nothing is written and nothing restarted.</summary>
    /// <param name="request">What is wanted.</param>
    /// <param name="progress">Hears of each step as it begins; null: nobody listens.</param>
    /// <param name="cancellation">
    /// Ends the call between two steps. What was begun is ended or taken back by the next call, as after a crash.
    /// </param>
    public Task<InstallOutcome> InstallAsync(NodeInstallRequest request, IProgress<InstallStep>? progress, CancellationToken cancellation);

    /// <summary>Takes the handler out of containerd and, with the last handler, every file of ours from the node.</summary>
    /// <param name="request">Which handler, and how.</param>
    /// <param name="progress">Hears of each step as it begins; null: nobody listens.</param>
    /// <param name="cancellation">As for <see cref="InstallAsync"/>.</param>
    public Task<InstallOutcome> UninstallAsync(NodeUninstallRequest request, IProgress<InstallStep>? progress, CancellationToken cancellation);

    /// <summary>What is there. Changes nothing and waits for no lock.</summary>
    public Task<NodeStatus> StatusAsync(string handler, CancellationToken cancellation);
}
