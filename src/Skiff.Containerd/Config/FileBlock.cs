using System.Security.Cryptography;
using System.Text;

namespace Skiff.Containerd.Config;

/// <summary>
/// What a file needs before it can take a runtime, in a block of its own: an end of its last line, a version, the runtimes that containerd
/// 1.x would forget. It is there as long as any runtime of ours is in the file.
/// </summary>
internal static class FileBlock
{
    private const string CreatedFile = "created-file";
    private const string AddedNewLine = "added-newline";
    private const string Sum = "sum=";

    /// <summary>The end of a text made ready for a runtime: what has to be appended, which may be nothing.</summary>
    public static string For(
        TomlDocument document, bool isNew, long schema, string[] runtimes, IReadOnlyList<KeyValuePair<string, TomlTable>> builtIn)
    {
        var newLine = document.NewLine;
        var body = new StringBuilder();
        if (document.Definitions.Count == 0)
        {
            _ = body.Append("version = ").Append(schema).Append(newLine);
        }

        foreach (var (name, runtime) in builtIn)
        {
            _ = body.Append($"# containerd 1.x forgets its own runtime {TomlWriter.Key(name)} when a file has another; as it was:").Append(newLine);
            TomlWriter.Table(body, newLine, [.. runtimes, name], runtime);
        }

        var endsLine = document.Text.Length > 0 && document.Text[^1] != '\n';
        if (body.Length == 0 && !endsLine && !isNew)
        {
            return "";
        }

        var content = body.ToString();
        List<string> words = [Sum + Hash(content)];
        if (isNew)
        {
            words.Add(CreatedFile);
        }

        if (endsLine)
        {
            words.Add(AddedNewLine);
        }

        return (endsLine ? newLine : "") + Marker.Begin(Marker.File, words) + newLine + content + Marker.Finish(Marker.File) + newLine;
    }

    /// <summary>A file without the block, as it was before.</summary>
    /// <returns>The text and what it means; a null text where there was no file.</returns>
    public static (string? Text, TomlTable Meaning) Remove(TomlDocument document)
    {
        var meaning = document.Root.Clone();
        var text = document.Text;
        var markers = Marker.All(document).Where(m => m.Name == Marker.File).ToList();
        if (markers is not [{ IsBegin: true } begin, { IsBegin: false } end] || !begin.Words.Contains(Sum + Hash(text[begin.End..end.Start])))
        {
            // Somebody has changed what is in it, so it is theirs now: a runc that a user has set up here must not go back to defaults.
            foreach (var marker in markers.OrderByDescending(m => m.Start))
            {
                text = text.Remove(marker.Start, marker.End - marker.Start);
            }

            return (text, meaning);
        }

        var inside = document.Definitions.Where(d => d.Start >= begin.Start && d.Start < end.Start).ToList();
        var isRest = inside.Count < document.Definitions.Count;
        if (isRest && inside.Any(d => d.Path.Length > 1) && OtherRuntimes(document, inside))
        {
            return (text, meaning); // without ours, containerd would still forget its own
        }

        var version = isRest ? inside.Find(d => d.Path is ["version"]) : null; // it holds for what others have written since
        foreach (var definition in inside.Where(d => d != version))
        {
            meaning.RemoveAt(definition.Path);
        }

        var isLast = end.End == text.Length;
        text = text[..begin.Start] + (version is null ? "" : text[version.Start..document.NextLine(version.End)]) + text[end.End..];
        if (begin.Words.Contains(AddedNewLine) && isLast && version is null && text.EndsWith('\n'))
        {
            text = text[..^(text.EndsWith("\r\n", StringComparison.Ordinal) ? 2 : 1)];
        }

        return (begin.Words.Contains(CreatedFile) && string.IsNullOrWhiteSpace(text) ? null : text, meaning);
    }

    private static bool OtherRuntimes(TomlDocument document, List<TomlDefinition> inside) => CriPlugin.All.Select(CriPlugin.Runtimes).Any(
        key => document.Definitions.Any(d => d.Path.Length > key.Length && d.IsBelow(key) && !inside.Contains(d)));

    private static string Hash(string body) => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(body)))[..16];
}
