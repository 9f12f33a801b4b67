using System.Globalization;
using System.Security.Cryptography;
using System.Text.Json.Nodes;
using Skiff.Testing;

namespace Skiff.EndToEnd;

/// <summary>One node of a cluster, seen from this machine: its files, its containerd.</summary>
public sealed class ClusterNode(Cluster cluster, int index)
{
    // What systemd, containerd, the kubelet and the CNI plugins write for any pod.
    private static readonly string[] _othersFiles = ["var/log/", "var/lib/cni/", "var/lib/systemd/", "etc/machine-id/", "var/tmp/", "tmp/", "run/"];

    private IReadOnlyDictionary<string, string> _configuration = new Dictionary<string, string>();
    private Dictionary<string, string> _files = [];

    /// <summary>Its number, from 1.</summary>
    public int Index => index;

    /// <summary>Its name in the cluster.</summary>
    public string Name => $"node-{index}";

    /// <summary>The container of the pod that ran before everything else.</summary>
    public string? BystanderContainer { get; set; }

    /// <summary>Its root as its own process 1 sees it.</summary>
    public string Root => $"/proc/{File.ReadAllText(Path.Combine(Folder, "pid")).Trim()}/root";

    /// <summary>containerd's socket.</summary>
    public string Socket => Root + "/run/containerd/containerd.sock";

    private string Folder => Path.Combine(
        Environment.GetEnvironmentVariable("MACHINE") ?? Machines.CachePath("skiff-machine"), "nodes", Name);

    /// <summary>Keeps what the node has now, to compare with later.</summary>
    public void Remember()
    {
        _configuration = Configuration();
        _files = Written();
    }

    /// <summary>Demands that containerd's configuration is what it was, byte for byte, and nothing beside it.</summary>
    public void ConfigurationIsAsItWas() => Assert.Equal(_configuration, Configuration());

    /// <summary>The files and folders of containerd's configuration, with a digest of files.</summary>
    public IReadOnlyDictionary<string, string> Configuration() => Contents(Path.Combine(Root, "etc/containerd"));

    /// <summary>Demands that the node's files are what they were.</summary>
    public void FilesAreAsTheyWere()
    {
        ConfigurationIsAsItWas();
        var now = Written();
        Assert.Equal([], now.Keys.Except(_files.Keys).Order());
        Assert.Equal([], _files.Keys.Except(now.Keys).Order());
        Assert.Equal([], now.Where(f => _files[f.Key] != f.Value).Select(f => f.Key).Order());
        Assert.Equal([], Directory.EnumerateFileSystemEntries(Path.Combine(Root, "run"), "*skiff*", SearchOption.TopDirectoryOnly));
    }

    /// <summary>Runs a command in it; it has to succeed.</summary>
    public async Task<string> RunAsync(params string[] words) => (await cluster.InNodeAsync(index, words)).Demand().Output;

    /// <summary>The process id of its containerd.</summary>
    public async Task<int> ContainerdAsync() =>
        int.Parse(await RunAsync("systemctl", "show", "containerd", "--property=MainPID", "--value"), CultureInfo.InvariantCulture);

    /// <summary>What systemd says of its containerd: active, activating, failed.</summary>
    public async Task<string> ContainerdStateAsync() => (await cluster.InNodeAsync(index, "systemctl", "is-active", "containerd")).Output.Trim();

    /// <summary>The process id, on this machine, of its agent; null when none runs.</summary>
    public int? Agent()
    {
        foreach (var folder in Directory.EnumerateDirectories("/proc").Where(f => int.TryParse(Path.GetFileName(f), out _)))
        {
            try
            {
                if (File.ReadAllText(folder + "/cmdline").Split('\0') is ["/bin/skiff-operator", "agent", .. var options] && options.Contains("--node-name=" + Name))
                {
                    return int.Parse(Path.GetFileName(folder), CultureInfo.InvariantCulture);
                }
            }
            catch (IOException)
            {
                // It has ended.
            }
        }

        return null;
    }

    /// <summary>The step of the change that is under way on it, by the installer's journal; null when none is.</summary>
    public string? Step()
    {
        try
        {
            return (string?)JsonNode.Parse(File.ReadAllText(Root + "/var/lib/skiff/journal.json"))?["change"]?["step"];
        }
        catch (IOException)
        {
            return null; // there is no journal, or its folder goes just now
        }
    }

    private static Dictionary<string, string> Contents(string folder) => Entries(folder)
        .ToDictionary(e => Path.GetRelativePath(folder, e.FullName), e => e is FileInfo ? Convert.ToHexStringLower(File.ReadAllBytes(e.FullName)) : "folder");

    /// <summary>Everything below a folder; links are not followed: they lead into the node's tree, not into this machine's.</summary>
    /// <param name="folder">Where.</param>
    /// <param name="without">What is left out, whole: others change it meanwhile.</param>
    private static IEnumerable<FileSystemInfo> Entries(string folder, Func<FileSystemInfo, bool>? without = null)
    {
        foreach (var entry in new DirectoryInfo(folder).EnumerateFileSystemInfos())
        {
            if (without?.Invoke(entry) == true)
            {
                continue;
            }

            yield return entry;
            foreach (var below in entry is DirectoryInfo { LinkTarget: null } ? Entries(entry.FullName, without) : [])
            {
                yield return below;
            }
        }
    }

    /// <summary>Every file and folder that was written in the node's layer, with a digest of files.</summary>
    private Dictionary<string, string> Written()
    {
        var layer = Path.Combine(Folder, "layer");

        // A folder of the root below is in the layer as soon as anything in it was written, and stays there when that is gone.
        var below = Path.Combine(Folder, "..", "..", "root");
        return Entries(layer, e => _othersFiles.Any(o => (Name(e) + "/").StartsWith(o, StringComparison.Ordinal)))
            .Where(e => e is not DirectoryInfo { LinkTarget: null } || !Directory.Exists(Path.Combine(below, Name(e)))).ToDictionary(Name, Digest);

        string Name(FileSystemInfo entry) => Path.GetRelativePath(layer, entry.FullName);
    }

    private static string Digest(FileSystemInfo entry)
    {
        if (entry.LinkTarget is { } target)
        {
            return "link to " + target;
        }

        if (entry is DirectoryInfo)
        {
            return "folder";
        }

        try
        {
            using var stream = File.OpenRead(entry.FullName);
            return Convert.ToHexStringLower(SHA256.HashData(stream));
        }
        catch (IOException)
        {
            return "gone"; // a device without a driver: the layer's mark for a file of the root below that was removed
        }
    }
}
