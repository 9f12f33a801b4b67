using Skiff.Containerd.Config;

namespace Skiff.Operator.Node;

/// <summary>Who restarts containerd when it has to read its configuration again.</summary>
internal enum RestartMode
{
    /// <summary>We do, through the node's systemd, and only when the effective configuration is not the one that runs.</summary>
    Auto,

    /// <summary>The node's owner; the outcome is <see cref="InstallResult.RestartPending"/> until that has been done.</summary>
    Manual,
}

/// <summary>What a node is to have.</summary>
/// <param name="Handler">The runtime handler's name in containerd (a DNS label).</param>
/// <param name="BundleFolder">
/// The folder with <c>bin/containerd-shim-skiff-v1</c> and <c>run/</c>, as this process sees it.
/// </param>
internal sealed record NodeInstallRequest(string Handler, string BundleFolder)
{
    /// <summary>The shim's options; what is not set is copied from the node's default runtime.</summary>
    public IReadOnlyDictionary<string, OptionValue> Options { get; init; } = new Dictionary<string, OptionValue>();

    /// <summary>Patterns of the pod annotations that containerd hands to the shim.</summary>
    public IReadOnlyList<string> PodAnnotations { get; init; } = [];

    /// <summary>Who restarts containerd.</summary>
    public RestartMode Restart { get; init; } = RestartMode.Auto;
}

/// <summary>What a node is to be rid of.</summary>
/// <param name="Handler">The runtime handler's name in containerd.</param>
internal sealed record NodeUninstallRequest(string Handler)
{
    /// <summary>Whether to go on while containers run under the shim. They lose it: containerd cannot manage them any more.</summary>
    public bool Force { get; init; }

    /// <summary>Who restarts containerd.</summary>
    public RestartMode Restart { get; init; } = RestartMode.Auto;
}

/// <summary>What an installer does, in the order in which it does it.</summary>
internal enum InstallStep
{
    /// <summary>Reads what there is and refuses what cannot go well; writes nothing.</summary>
    Preflight,

    /// <summary>Ends or takes back what an earlier call left unfinished.</summary>
    Recover,

    /// <summary>Puts the files of the bundle on the node.</summary>
    Binaries,

    /// <summary>Edits containerd's configuration.</summary>
    Configuration,

    /// <summary>Has the node's containerd read the edited configuration.</summary>
    Validate,

    /// <summary>Restarts containerd and waits until it answers.</summary>
    Restart,

    /// <summary>Asks containerd for the handler and runs a pod sandbox under it.</summary>
    Verify,

    /// <summary>Puts the previous files back after a failure.</summary>
    RollBack,

    /// <summary>Removes what nothing uses any more.</summary>
    CleanUp,
}
