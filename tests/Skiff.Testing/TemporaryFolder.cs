using Skiff.Linux.Mounts;

namespace Skiff.Testing;

/// <summary>A folder that goes with whoever made it, and with it whatever is mounted below.</summary>
public sealed class TemporaryFolder(string prefix) : IDisposable
{
    /// <summary>Where it is.</summary>
    public string Path { get; } = Directory.CreateTempSubdirectory(prefix).FullName;

    /// <inheritdoc/>
    public void Dispose()
    {
        Mounter.UnmountTree(Path);
        Directory.Delete(Path, recursive: true);
    }
}
