namespace Skiff.Linux.Mounts;

/// <summary>The lower layers of an overlay, as its options name them.</summary>
internal sealed class OverlayLayers
{
    private const string Prefix = "lowerdir=";

    private readonly List<string> _options;
    private readonly int _at;
    private readonly string[] _layers;

    private OverlayLayers(List<string> options, int at, string[] layers, string folder)
    {
        _options = options;
        _at = at;
        _layers = layers;
        Folder = folder;
    }

    /// <summary>The folder that all of them are in, which is not the root.</summary>
    internal string Folder { get; }

    /// <summary>Finds them.</summary>
    /// <returns>Null when there are none, or no folder holds them all.</returns>
    internal static OverlayLayers? Find(List<string> options)
    {
        var at = options.FindIndex(o => o.StartsWith(Prefix, StringComparison.Ordinal));
        if (at < 0)
        {
            return null;
        }

        var layers = options[at][Prefix.Length..].Split(':');
        var common = Path.GetDirectoryName(layers[0]);
        while (common is { Length: > 1 } && !layers.All(l => l.StartsWith(common + "/", StringComparison.Ordinal)))
        {
            common = Path.GetDirectoryName(common);
        }

        return common is { Length: > 1 } ? new OverlayLayers(options, at, layers, common) : null;
    }

    /// <summary>The options, with the layers where they are relative to <see cref="Folder"/>, after <paramref name="prefix"/>.</summary>
    internal List<string> Under(string prefix)
    {
        List<string> options = [.. _options];
        options[_at] = Prefix + string.Join(':', _layers.Select(l => prefix + l[(Folder.Length + 1)..]));
        return options;
    }
}
