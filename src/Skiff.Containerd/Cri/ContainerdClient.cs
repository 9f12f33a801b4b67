namespace Skiff.Containerd.Cri;

/// <summary>How a call to containerd failed.</summary>
public enum ContainerdError
{
    /// <summary>Nobody answers at the socket, or no longer.</summary>
    Unavailable,

    /// <summary>No answer in time.</summary>
    TimedOut,

    /// <summary>containerd runs without its CRI plugin.</summary>
    NoCri,

    /// <summary>containerd says there is no such thing.</summary>
    NotFound,

    /// <summary>containerd refused or failed; <see cref="ContainerdFailure.Message"/> has its words.</summary>
    Failed,
}

/// <summary>A call that failed.</summary>
/// <param name="Error">How.</param>
/// <param name="Message">What was asked of whom (the socket's path), and what came back.</param>
public sealed record ContainerdFailure(ContainerdError Error, string Message);

/// <summary>What a pod sandbox needs to be started as a self-test.</summary>
/// <param name="Name">The pod's name.</param>
/// <param name="Namespace">Its namespace.</param>
/// <param name="Uid">Its uid.</param>
/// <param name="Handler">The runtime handler; empty: the node's default.</param>
public sealed record SandboxRequest(string Name, string Namespace, string Uid, string Handler)
{
    /// <summary>The cgroup it goes under, in the form of the node's driver (<c>skiff.slice</c> or <c>/skiff</c>); empty: the runtime's own default.</summary>
    public string CgroupParent { get; init; } = "";

    /// <summary>Labels, by which a sandbox that an earlier run left behind can be told.</summary>
    public IReadOnlyDictionary<string, string> Labels { get; init; } = new Dictionary<string, string>();
}

/// <summary>A client of containerd's version and CRI services over its unix socket.</summary>
/// <remarks>Expected failures are values; only cancellation by the caller throws. Each call ends within its time limit.</remarks>
public sealed class ContainerdClient : IDisposable
{
    /// <summary>Where containerd listens unless it is told otherwise.</summary>
    public const string DefaultSocket = "/run/containerd/containerd.sock";

    /// <summary>A client; it connects when the first call is made, and again after containerd was restarted.</summary>
    /// <param name="hostRoot">The node's root directory as we see it (<c>/</c>, <c>/host</c>, <c>/proc/1/root</c>); symbolic links stay below it.</param>
    /// <param name="socket">The socket as the node sees it; it may be of any length.</param>
    /// <param name="timeout">The time limit of each call.</param>
    public ContainerdClient(string hostRoot, string socket, TimeSpan timeout) => throw new NotImplementedException();

    /// <summary>containerd's version.</summary>
    public Task<(string? Version, ContainerdFailure? Failure)> VersionAsync(CancellationToken cancellation) => throw new NotImplementedException();

    /// <summary>Whether the CRI plugin knows this handler now.</summary>
    public Task<(bool? Known, ContainerdFailure? Failure)> HasHandlerAsync(string handler, CancellationToken cancellation) =>
        throw new NotImplementedException();

    /// <summary>Starts a pod sandbox with the host's network and no containers.</summary>
    /// <returns>Its id.</returns>
    public Task<(string? Id, ContainerdFailure? Failure)> RunPodSandboxAsync(SandboxRequest request, CancellationToken cancellation) =>
        throw new NotImplementedException();

    /// <summary>Whether the sandbox is ready.</summary>
    public Task<(bool? Ready, ContainerdFailure? Failure)> PodSandboxReadyAsync(string id, CancellationToken cancellation) =>
        throw new NotImplementedException();

    /// <summary>Stops and removes a sandbox; one that is not there is no failure.</summary>
    public Task<ContainerdFailure?> RemovePodSandboxAsync(string id, CancellationToken cancellation) => throw new NotImplementedException();

    /// <inheritdoc/>
    public void Dispose() => throw new NotImplementedException();
}
