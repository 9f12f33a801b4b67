using Skiff.Containerd.Config;

namespace Skiff.Containerd.Tests.Config;

/// <summary>A folder /etc/containerd of its own, below a root of its own.</summary>
internal sealed class ConfigFolder : IDisposable
{
    public ConfigFolder()
    {
        Root = Directory.CreateTempSubdirectory("skiff-config-").FullName;
        _ = Directory.CreateDirectory(Folder);
    }

    /// <summary>The node's root.</summary>
    public string Root { get; }

    /// <summary>Where the configuration is, as we see it.</summary>
    public string Folder => Root + "/etc/containerd";

    /// <summary>Its main file, as we see it.</summary>
    public string MainPath => Folder + "/config.toml";

    /// <summary>Every file with its bytes, as text that shows each of them.</summary>
    public SortedDictionary<string, string> Content => Read(Folder);

    /// <summary>All files below a folder, byte by byte.</summary>
    public static SortedDictionary<string, string> Read(string folder) => new(
        Directory.GetFiles(folder, "*", SearchOption.AllDirectories).ToDictionary(
            f => Path.GetRelativePath(folder, f), f => string.Concat(File.ReadAllBytes(f).Select(b => (char)b))),
        StringComparer.Ordinal);

    /// <summary>Puts a file there.</summary>
    public ConfigFolder Put(string name, ReadOnlySpan<byte> content)
    {
        var path = Path.Combine(Folder, name);
        _ = Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllBytes(path, content);
        return this;
    }

    /// <summary>Reads it as a node's.</summary>
    public ConfigFiles Files(Version containerd)
    {
        var (files, problem) = ConfigFiles.Read(Root, ConfigFiles.DefaultMainPath, containerd);
        Assert.Null(problem);
        return files!;
    }

    /// <summary>Does what a plan says, and demands that it knew what was there.</summary>
    /// <param name="plan">The plan.</param>
    /// <param name="root">What the plan's paths are below.</param>
    public void Apply(ConfigPlan plan, string? root = null)
    {
        Assert.Null(plan.Problem);
        foreach (var change in plan.Changes!)
        {
            var path = (root ?? Root) + change.Path;
            Assert.Equal(change.Before, File.Exists(path) ? File.ReadAllBytes(path) : null);
            Assert.NotEqual(change.Before, change.After);
            if (change.After is null)
            {
                File.Delete(path);
            }
            else
            {
                File.WriteAllBytes(path, change.After);
            }
        }
    }

    public void Dispose() => Directory.Delete(Root, recursive: true);
}
