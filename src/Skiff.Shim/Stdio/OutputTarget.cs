namespace Skiff.Shim.Stdio;

/// <summary>Where an output stream goes.</summary>
internal enum OutputKind
{
    /// <summary>Nowhere.</summary>
    None,

    /// <summary>To a FIFO.</summary>
    Fifo,

    /// <summary>To the end of a file: <c>file:///var/log/x</c>.</summary>
    File,

    /// <summary>To a program that gets both streams: <c>binary:///usr/bin/logger?key=value</c>.</summary>
    Logger,
}

/// <summary>
/// A stream's target as containerd writes it: a path or a log URI (containerd core/runtime/v2/README.md, "Logging"; the scheme
/// <c>binary-v2</c> demands that the logger really says it is ready).
/// </summary>
/// <param name="Kind">What it is.</param>
/// <param name="Path">The FIFO, the file or the program.</param>
/// <param name="Arguments">The program's: each key of the query and its first value.</param>
/// <param name="MustSayReady">Whether a logger that just closes its ready pipe has failed.</param>
internal sealed record OutputTarget(OutputKind Kind, string Path, IReadOnlyList<string> Arguments, bool MustSayReady)
{
    private static readonly OutputTarget _none = new(OutputKind.None, "", [], false);

    /// <summary>Reads it.</summary>
    /// <returns>The target, or what is wrong.</returns>
    public static (OutputTarget? Target, string? Problem) Parse(string text)
    {
        if (text.Length == 0)
        {
            return (_none, null);
        }

        if (text[0] == '/')
        {
            return (new OutputTarget(OutputKind.Fifo, text, [], false), null);
        }

        var colon = text.IndexOf("://", StringComparison.Ordinal);
        OutputKind? kind = (colon < 0 ? "" : text[..colon]) switch
        {
            "file" => OutputKind.File,
            "binary" or "binary-v2" => OutputKind.Logger,
            _ => null,
        };
        if (kind is null)
        {
            return (null, $"\"{text}\" is neither the absolute path of a FIFO nor a log URI: file://, binary:// and binary-v2:// are known");
        }

        var rest = text[(colon + 3)..].Split('?', 2);
        var path = Uri.UnescapeDataString(rest[0]);
        return path.Length > 1 && path[0] == '/'
            ? (new OutputTarget(kind.Value, path, rest.Length > 1 ? Query(rest[1]) : [], text.StartsWith("binary-v2", StringComparison.Ordinal)), null)
            : (null, $"\"{text}\" names no absolute path; three slashes follow the scheme");
    }

    private static List<string> Query(string query)
    {
        List<string> words = [];
        HashSet<string> seen = [];
        foreach (var pair in query.Split('&', StringSplitOptions.RemoveEmptyEntries))
        {
            var parts = pair.Replace('+', ' ').Split('=', 2);
            var key = Uri.UnescapeDataString(parts[0]);
            if (seen.Add(key))
            {
                words.AddRange([key, parts.Length > 1 ? Uri.UnescapeDataString(parts[1]) : ""]);
            }
        }

        return words;
    }
}
