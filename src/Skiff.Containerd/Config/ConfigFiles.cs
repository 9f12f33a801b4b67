namespace Skiff.Containerd.Config;

/// <summary>A file of the configuration.</summary>
/// <param name="Path">Where, as the node sees it.</param>
/// <param name="Content">Its bytes; null: no such file.</param>
public sealed record ConfigFile(string Path, byte[]? Content);

/// <summary>containerd's configuration as it is on disk: the main file and everything it imports.</summary>
public sealed class ConfigFiles
{
    /// <summary>Where containerd looks unless it is told otherwise.</summary>
    public const string DefaultMainPath = "/etc/containerd/config.toml";

    /// <summary>The largest file that is read, in bytes.</summary>
    public const int FileLimit = 1 << 20;

    /// <summary>The most files that are read.</summary>
    public const int CountLimit = 100;

    internal ConfigFiles(ConfigFile main) => Main = main;

    /// <summary>The main file.</summary>
    public ConfigFile Main { get; }

    /// <summary>Reads the main file and all it imports.</summary>
    /// <param name="hostRoot">The node's root directory as we see it; paths and symbolic links stay below it.</param>
    /// <param name="mainPath">The main file as the node sees it. It may be missing: containerd runs on its defaults then.</param>
    /// <param name="containerdVersion">Whose rules for imports hold.</param>
    public static (ConfigFiles? Files, string? Problem) Read(string hostRoot, string mainPath, Version containerdVersion) =>
        throw new NotImplementedException();
}
