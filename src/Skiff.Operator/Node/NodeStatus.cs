namespace Skiff.Operator.Node;

/// <summary>What is on the node.</summary>
/// <param name="Handler">The handler that was asked for.</param>
internal sealed record NodeStatus(string Handler)
{
    /// <summary>Whether everything is there, and the running containerd knows the handler.</summary>
    public bool Ready => Problems.Count == 0 && Bundle is not null && Registered && Served == true;

    /// <summary>The bundle that <c>/opt/skiff/current</c> leads to: SHA-256 over its tree, in hex; null when there is none.</summary>
    public string? Bundle { get; init; }

    /// <summary>The engines of that bundle with their versions; null when they cannot be seen.</summary>
    public string? Engines { get; init; }

    /// <summary>Other bundles that are still there because containers use them.</summary>
    public IReadOnlyList<string> OldBundles { get; init; } = [];

    /// <summary>Whether containerd's effective configuration (as the files are now) has the handler with our shim.</summary>
    public bool Registered { get; init; }

    /// <summary>Whether the running containerd has the handler; null when it could not be asked.</summary>
    public bool? Served { get; init; }

    /// <summary>containerd's version; null when it was not reached.</summary>
    public string? ContainerdVersion { get; init; }

    /// <summary>containerd's main configuration file as the node sees it; null when containerd was not found.</summary>
    public string? ConfigPath { get; init; }

    /// <summary>containerd's systemd unit; null when it was not found.</summary>
    public string? Unit { get; init; }

    /// <summary>How many shims of ours have containers.</summary>
    public int RunningShims { get; init; }

    /// <summary>An install or uninstall that was begun and not ended, with the step it was in; null when there is none.</summary>
    public string? Unfinished { get; init; }

    /// <summary>What is wrong, a sentence each; empty when nothing is.</summary>
    public IReadOnlyList<string> Problems { get; init; } = [];
}
