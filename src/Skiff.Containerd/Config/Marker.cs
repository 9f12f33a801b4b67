using System.Text.RegularExpressions;

namespace Skiff.Containerd.Config;

/// <summary>
/// A comment line that begins or ends what we put into a file: a runtime's table, or what the file itself needed to take one.
/// </summary>
/// <param name="Name"><see cref="File"/>, or <see cref="Runtime"/>.</param>
/// <param name="IsBegin">Whether it opens the block.</param>
/// <param name="Words">What the opening line notes, to restore the file to the byte.</param>
/// <param name="Start">Where its line begins.</param>
/// <param name="End">Where the next line begins.</param>
internal sealed partial record Marker(string Name, bool IsBegin, IReadOnlyList<string> Words, int Start, int End)
{
    /// <summary>The block of what the file itself needed.</summary>
    public const string File = "file";

    private const string RuntimePrefix = "runtime ";

    /// <summary>The block of a runtime.</summary>
    public static string Runtime(string handler) => RuntimePrefix + handler;

    /// <summary>Whether it is a runtime's.</summary>
    public bool IsRuntime => Name.StartsWith(RuntimePrefix, StringComparison.Ordinal);

    /// <summary>All markers of a document.</summary>
    public static IReadOnlyList<Marker> All(TomlDocument document) => [.. document.Comments.Select(c => Parse(document, c)).OfType<Marker>()];

    /// <summary>The line that opens a block.</summary>
    public static string Begin(string name, params IEnumerable<string> words) => string.Join(' ', ["# skiff-operator: begin", name, .. words]);

    /// <summary>The line that closes a block.</summary>
    public static string Finish(string name) => $"# skiff-operator: end {name}";

    private static Marker? Parse(TomlDocument document, TomlComment comment)
    {
        var start = document.LineStart(comment.Start);
        var match = Pattern().Match(comment.Text);
        return !match.Success || !document.Text.AsSpan(start, comment.Start - start).IsWhiteSpace() ? null : new Marker(
            match.Groups["name"].Value,
            match.Groups["edge"].Value == "begin",
            match.Groups["words"].Value.Split(' ', StringSplitOptions.RemoveEmptyEntries),
            start,
            document.NextLine(comment.Start));
    }

    [GeneratedRegex(
        @"^# skiff-operator: (?<edge>begin|end) (?<name>file|runtime [a-z0-9-]{1,63})(?<words>( [a-z0-9=-]{1,64}){0,8})\s*$",
        RegexOptions.CultureInvariant | RegexOptions.ExplicitCapture)]
    private static partial Regex Pattern();
}
