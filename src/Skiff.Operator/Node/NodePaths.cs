namespace Skiff.Operator.Node;

/// <summary>Where things are on a node. Everything below the first two folders is ours, and nothing else is.</summary>
internal static class NodePaths
{
    /// <summary>The bundles: what containerd starts and what becomes <c>/.skiff</c> in a container.</summary>
    public const string Programs = "/opt/skiff";

    /// <summary>What an installer has to know after a crash.</summary>
    public const string State = "/var/lib/skiff";

    /// <summary>A folder for each bundle, named by its digest.</summary>
    public const string Versions = Programs + "/versions";

    /// <summary>The symbolic link to the bundle that new pods get.</summary>
    public const string Current = Programs + "/current";

    /// <summary>
    /// What containerd's configuration names. It goes through the link, so that a new bundle changes no configuration and needs no
    /// restart; a shim finds its <c>run/</c> from its resolved path, so that it stays with the bundle it was started from.
    /// </summary>
    public const string RuntimeType = Current + "/" + Shim;

    /// <summary>The shim in a bundle.</summary>
    public const string Shim = "bin/containerd-shim-skiff-v1";

    /// <summary>What the shim reads images with whose layers are modules.</summary>
    public const string ImageReader = "bin/skiff-image";

    /// <summary>The folder in a bundle that becomes <c>/.skiff</c>.</summary>
    public const string Run = "run";

    /// <summary>The journal.</summary>
    public const string Journal = State + "/journal.json";

    /// <summary>The output of <c>containerd config dump</c> for what the running containerd has read (<see cref="JournalEntry.Running"/>).</summary>
    public const string RunningConfig = State + "/running.toml";

    /// <summary>The files that the change under way replaces, as they were before it.</summary>
    public const string Before = State + "/before";

    /// <summary>The files as they were before the first change for a handler, in a folder of its name; for a person in need.</summary>
    public const string Backup = State + "/backup";

    /// <summary>There when the host's own unit has put the files of before back (<see cref="RestoreUnit"/>), with when.</summary>
    public const string Restored = State + "/restored";

    /// <summary>
    /// The folder whose lock keeps installers apart. It is not one of ours: those go away with the uninstall, and a lock with them.
    /// </summary>
    public const string Lock = "/var/lib";

    /// <summary>A bundle's folder.</summary>
    public static string Version(string bundle) => $"{Versions}/{bundle}";
}
