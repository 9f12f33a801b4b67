namespace Skiff.Containerd.Cri;

/// <summary>What a pod sandbox needs to be started as a self-test.</summary>
/// <param name="Name">The pod's name.</param>
/// <param name="Namespace">Its namespace.</param>
/// <param name="Uid">Its uid.</param>
/// <param name="Handler">The runtime handler; empty: the node's default.</param>
public sealed record SandboxRequest(string Name, string Namespace, string Uid, string Handler)
{
    /// <summary>
    /// The cgroup it goes under, in the form of the node's driver (<c>skiff.slice</c> or <c>/skiff</c>); empty: the runtime's own default.
    /// </summary>
    public string CgroupParent { get; init; } = "";

    /// <summary>Labels, by which a sandbox that an earlier run left behind can be found.</summary>
    public IReadOnlyDictionary<string, string> Labels { get; init; } = new Dictionary<string, string>();
}

/// <summary>A pod sandbox that containerd knows.</summary>
/// <param name="Id">Its id.</param>
/// <param name="Name">The pod's name.</param>
/// <param name="Namespace">The pod's namespace.</param>
/// <param name="Handler">The runtime handler; empty: the node's default.</param>
/// <param name="Ready">Whether it runs.</param>
public sealed record Sandbox(string Id, string Name, string Namespace, string Handler, bool Ready);
