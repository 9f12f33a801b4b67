namespace Skiff.Operator.Node;

/// <summary>How an install or uninstall ended.</summary>
internal enum InstallResult
{
    /// <summary>The node is as asked.</summary>
    Done,

    /// <summary>Refused before anything was changed: the node lacks something, or its own configuration is broken.</summary>
    Refused,

    /// <summary>It failed, and the node is as it was before.</summary>
    RolledBack,

    /// <summary>It failed, and so did going back: somebody has to look at the node. The next call tries again to go back.</summary>
    Failed,

    /// <summary>Held back: containers run under the shim. Nothing was changed.</summary>
    InUse,

    /// <summary>All is in place, and containerd has to be restarted by the node's owner (<see cref="RestartMode.Manual"/>).</summary>
    RestartPending,
}

/// <summary>How an install or uninstall ended, and what was found on the way.</summary>
/// <param name="Result">How it ended.</param>
/// <param name="Message">One or two sentences for a person: what happened, to what, and what to do about it.</param>
internal sealed record InstallOutcome(InstallResult Result, string Message)
{
    /// <summary>The reason as one CamelCase word, as conditions of Kubernetes have it: <c>Installed</c>, <c>RestartFailed</c>, …</summary>
    public required string Reason { get; init; }

    /// <summary>Whether a file of the node was changed and stays so.</summary>
    public bool Changed { get; init; }

    /// <summary>How often this call restarted containerd.</summary>
    public int Restarts { get; init; }

    /// <summary>The bundle that <c>/opt/skiff/current</c> leads to: SHA-256 over its tree, in hex; null when there is none.</summary>
    public string? Bundle { get; init; }

    /// <summary>The engines of that bundle with their versions; null when they cannot be seen.</summary>
    public string? Engines { get; init; }

    /// <summary>containerd's version; null when it was not reached.</summary>
    public string? ContainerdVersion { get; init; }

    /// <summary>containerd's main configuration file as the node sees it; null when containerd was not found.</summary>
    public string? ConfigPath { get; init; }

    /// <summary>What containerd and systemd said when containerd did not come up: the last lines, at most 4 KiB; else null.</summary>
    public string? ContainerdSaid { get; init; }

    /// <summary>How many shims have containers (for <see cref="InstallResult.InUse"/>).</summary>
    public int RunningShims { get; init; }

    /// <summary>What a person should know although it is no failure, such as a self-test that could not be made.</summary>
    public IReadOnlyList<string> Notes { get; init; } = [];
}
