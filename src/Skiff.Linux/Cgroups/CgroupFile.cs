using System.Globalization;

namespace Skiff.Linux.Cgroups;

/// <summary>A cgroup's files, in the few forms that they have (Documentation/admin-guide/cgroup-v2.rst, "Format"; v1 has the same).</summary>
/// <remarks>A file that is not there, or whose cgroup is gone, has no value: which files there are depends on kernel and controllers.</remarks>
public static class CgroupFile
{
    /// <summary>One number; "max" is the largest there is.</summary>
    public static ulong? Number(string? folder, string file) => Text(folder, file) is { } text ? Parse(text.Trim()) : null;

    /// <summary>Numbers in one line.</summary>
    public static IReadOnlyList<ulong> Numbers(string? folder, string file) =>
        [.. (Text(folder, file) ?? "").Split((char[])[' ', '\n'], StringSplitOptions.RemoveEmptyEntries).Select(Parse).OfType<ulong>()];

    /// <summary>A key and a number in each line.</summary>
    public static IReadOnlyDictionary<string, ulong> Pairs(string? folder, string file)
    {
        Dictionary<string, ulong> pairs = [];
        foreach (var words in Lines(folder, file))
        {
            if (words.Length == 2 && Parse(words[1]) is { } value)
            {
                pairs[words[0]] = value;
            }
        }

        return pairs;
    }

    /// <summary>The words of each line.</summary>
    public static IEnumerable<string[]> Lines(string? folder, string file) => (Text(folder, file) ?? "")
        .Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(l => l.Split((char[])[' ', '\t'], StringSplitOptions.RemoveEmptyEntries));

    /// <summary>The names of a cgroup's files that begin and end so.</summary>
    public static IReadOnlyList<string> Names(string? folder, string start, string end)
    {
        try
        {
            return folder is null ? [] : [.. Directory.EnumerateFiles(folder, $"{start}*{end}").Select(f => Path.GetFileName(f))];
        }
        catch (IOException)
        {
            return [];
        }
    }

    /// <summary>The folders of the cgroups right below one; none when it is gone.</summary>
    public static IReadOnlyList<string> Below(string folder)
    {
        try
        {
            return [.. Directory.EnumerateDirectories(folder)];
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return [];
        }
    }

    private static ulong? Parse(string text) =>
        text == "max" ? ulong.MaxValue : ulong.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var value) ? value : null;

    private static string? Text(string? folder, string file)
    {
        try
        {
            return folder is null ? null : File.ReadAllText(Path.Combine(folder, file));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
