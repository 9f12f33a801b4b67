using System.Text;
using Skiff.Linux.Files;
using Skiff.Linux.Processes;

namespace Skiff.Operator.Node;

/// <summary>The bundles on a node. A folder that has a digest for its name is whole, or is made so before it is used.</summary>
internal sealed class BundleStore(RootedTree files)
{
    private const string Temporary = ".new-";
    private const uint FolderMode = 0x1ED;

    /// <summary>What <see cref="NodePaths.Current"/> leads to; null when there is none, or it is none of ours.</summary>
    public string? Current =>
        files.LinkTarget(NodePaths.Current)?.Split('/') is ["versions", var name] && Bundle.IsDigest(name) ? name : null;

    /// <summary>Which engines the current bundle has: the library's version and, where there is one, the command's; null when that cannot be seen.</summary>
    public string? Engines
    {
        get
        {
            try
            {
                return Current is null || EngineVersion("ENGINE") is not { } library ? null
                    : $"wasmtime {library} (library), {(EngineVersion("WASMTIME") is { } command ? $"{command} (command)" : "no command")}";
            }
            catch (IOException)
            {
                return null;
            }
        }
    }

    /// <summary>The bundles that are there.</summary>
    public IReadOnlyList<string> All => [.. files.Names(NodePaths.Versions).Where(Bundle.IsDigest)];

    /// <summary>The files of a bundle that are missing on the node or are something else there.</summary>
    public IReadOnlyList<BundleFile> Missing(Bundle bundle) => [.. bundle.Files.Where(f => !IsThere(f, NodePaths.Version(bundle.Digest)))];

    /// <summary>Copies what is missing. The link is left alone.</summary>
    /// <exception cref="IOException">The node's file system refused; it names the file.</exception>
    public void Put(Bundle bundle, CancellationToken cancellation)
    {
        var target = NodePaths.Version(bundle.Digest);
        if (files.Status(target) is not null)
        {
            // Somebody damaged it. It is mended in place: a running shim finds its run/ under this name.
            Copy(Missing(bundle), target, cancellation);
            return;
        }

        _ = files.MakeFolder(NodePaths.Versions, FolderMode);
        var temporary = $"{NodePaths.Versions}/{Temporary}{bundle.Digest}";
        files.DeleteTree(temporary);
        Copy(bundle.Files, temporary, cancellation);
        files.Rename(temporary, target);
    }

    /// <summary>Has new pods get this bundle; null: none.</summary>
    public void Switch(string? bundle)
    {
        if (bundle is null)
        {
            files.DeleteTree(NodePaths.Current);
        }
        else if (Current != bundle)
        {
            files.SwitchLink(NodePaths.Current, $"versions/{bundle}");
        }
    }

    /// <summary>Removes the bundles that are not to be kept, and what a copy that was killed left.</summary>
    public void RemoveOthers(IReadOnlySet<string> keep)
    {
        foreach (var name in files.Names(NodePaths.Versions).Where(n => !keep.Contains(n)))
        {
            files.DeleteTree($"{NodePaths.Versions}/{name}");
        }

        if (files.RemoveIfEmpty(NodePaths.Versions))
        {
            files.DeleteTree(NodePaths.Current + ".new"); // of a switch that was killed
            _ = files.RemoveIfEmpty(NodePaths.Programs);
        }
    }

    /// <summary>The first word of a file that hack/build and hack/engine write: VERSION SHA256.</summary>
    private string? EngineVersion(string name)
    {
        const int limit = 4096;
        const int longest = 64;
        return files.Read($"{NodePaths.Current}/{NodePaths.Run}/{name}", limit) is { } content
            && Encoding.ASCII.GetString(content).Split(' ', '\n') is [{ Length: > 0 and <= longest } version, ..] ? version : null;
    }

    private void Copy(IEnumerable<BundleFile> wanted, string target, CancellationToken cancellation)
    {
        foreach (var file in wanted)
        {
            cancellation.ThrowIfCancellationRequested();
            var path = $"{target}/{file.Path}";
            _ = files.MakeFolder(Path.GetDirectoryName(path)!, FolderMode);
            files.DeleteTree(path);
            files.CopyIn(file.Source, path, file.Mode, file.Sha256);
        }
    }

    private bool IsThere(BundleFile file, string folder)
    {
        var path = $"{folder}/{file.Path}";
        return files.Status(path) is { IsFile: true } status && status.Size == file.Size && status.Permissions == file.Mode
            && status.UserId == ThisProcess.UserId && files.Hash(path).AsSpan().SequenceEqual(file.Sha256);
    }
}
