using Skiff.Linux;
using Skiff.Linux.Processes;

namespace Skiff.Shim.Wasm;

/// <summary>A search's outcome.</summary>
/// <param name="Path">The module's path on this node; null when the image has no such layer.</param>
/// <param name="Problem">Why none of the image's layers can be run, or null.</param>
/// <param name="Doubt">Why nobody knows whether it has any, or null: of interest once the OCI runtime does not find the program either.</param>
internal readonly record struct ImageModule(string? Path, string? Problem = null, string? Doubt = null);

/// <summary>Finds the module of a container whose image holds it as a layer instead of a file, in containerd's content store.</summary>
/// <param name="reader">The program that asks containerd, beside this one.</param>
/// <param name="socket">containerd's socket.</param>
/// <param name="ns">The containers' namespace.</param>
internal sealed class ImageModules(string reader, string socket, string ns)
{
    private static readonly TimeSpan _timeout = TimeSpan.FromSeconds(20);

    /// <summary>The module that a container should run.</summary>
    /// <param name="container">Its id.</param>
    /// <param name="program">Its first argument, which chooses among several layers by their titles.</param>
    /// <param name="cancellation">Ends it.</param>
    public async Task<ImageModule> FindAsync(string container, string program, CancellationToken cancellation)
    {
        CommandResult result;
        try
        {
            result = await Command.RunAsync(
                new SpawnRequest { Path = reader, Arguments = ["skiff-image", socket, ns, container] }, _timeout, cancellation: cancellation).ConfigureAwait(false);
        }
        catch (LinuxException e)
        {
            return new ImageModule(null, Doubt: $"whether it is a layer of the image cannot be seen: {reader}: {e.Message}; it belongs beside the shim");
        }

        if (!result.Exit.Success)
        {
            return new ImageModule(null, Doubt: "whether it is a layer of the image cannot be seen: "
                + (result.TimedOut ? $"no answer within {_timeout.TotalSeconds} s" : result.Error.Trim()));
        }

        return Choose([.. result.OutputText.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(l => l.Split('\t', 2)).Select(p => (p[0], p.Length > 1 ? p[1] : ""))], program);
    }

    /// <summary>A layer's digest, which is its name in the content store: containerd has checked it.</summary>
    /// <returns>Null when the path is another's.</returns>
    internal static string? DigestOf(string path) =>
        System.IO.Path.GetFileName(path) is { Length: 2 * Sha256.Size } name && path.EndsWith($"/blobs/sha256/{name}", StringComparison.Ordinal) && name.All(char.IsAsciiHexDigitLower) ? name : null;

    /// <summary>One layer is the module; of several, the one whose title is the program's name.</summary>
    internal static ImageModule Choose(IReadOnlyList<(string Path, string Title)> layers, string program)
    {
        if (layers.Count <= 1)
        {
            return new ImageModule(layers.Count == 0 ? null : layers[0].Path);
        }

        var named = layers.Where(l => l.Title == program || l.Title == System.IO.Path.GetFileName(program)).ToList();
        return named.Count == 1 ? new ImageModule(named[0].Path)
            : new ImageModule(null, $"the image has {layers.Count} WebAssembly layers, and {(named.Count == 0 ? "none" : "more than one")} has the title {program} "
                + $"(titles: {string.Join(", ", layers.Select(l => l.Title.Length == 0 ? "none" : l.Title).Take(20))}); make the command the title of one, or build a single component");
    }
}
