using System.Globalization;
using System.Text;

namespace Skiff.Containerd.Config;

/// <summary>Writes TOML that each of containerd's parsers reads.</summary>
internal static class TomlWriter
{
    /// <summary>A dotted key.</summary>
    public static string Key(params IEnumerable<string> path) => string.Join('.', path.Select(Part));

    /// <summary>A value.</summary>
    public static string Value(object value) => value switch
    {
        string text => Quote(text),
        bool boolean => boolean ? "true" : "false",
        long number => number.ToString(CultureInfo.InvariantCulture),
        double real => Real(real),
        IReadOnlyList<object> list => $"[{string.Join(", ", list.Select(Value))}]",
        TomlTable table => table.Entries.Any() ? $"{{ {string.Join(", ", table.Entries.Select(e => $"{Key(e.Key)} = {Value(e.Value)}"))} }}" : "{}",
        _ => throw new InvalidOperationException($"no TOML for a {value.GetType()}"),
    };

    /// <summary>A table with its own header, the tables in it below, indented by their depth.</summary>
    public static void Table(StringBuilder output, string newLine, IReadOnlyList<string> path, TomlTable table, string indent = "")
    {
        _ = output.Append(indent).Append('[').Append(Key(path)).Append(']').Append(newLine);
        foreach (var (key, value) in table.Entries.Where(e => e.Value is not TomlTable))
        {
            _ = output.Append(indent).Append("  ").Append(Key(key)).Append(" = ").Append(Value(value)).Append(newLine);
        }

        foreach (var (key, value) in table.Entries)
        {
            if (value is TomlTable inner)
            {
                Table(output, newLine, [.. path, key], inner, indent + "  ");
            }
        }
    }

    private static string Part(string part) =>
        part.Length > 0 && part.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_') ? part : Quote(part);

    private static string Real(double value)
    {
        var text = value.ToString("R", CultureInfo.InvariantCulture);
        return double.IsInfinity(value) ? (value > 0 ? "inf" : "-inf")
            : double.IsNaN(value) ? "nan"
            : text.AsSpan().IndexOfAny('.', 'E') >= 0 ? text : text + ".0";
    }

    private static string Quote(string text)
    {
        var output = new StringBuilder("\"");
        foreach (var c in text)
        {
            _ = c switch
            {
                '"' or '\\' => output.Append('\\').Append(c),
                < ' ' or '\x7F' => output.Append(CultureInfo.InvariantCulture, $"\\u{(int)c:X4}"),
                _ => output.Append(c),
            };
        }

        return output.Append('"').ToString();
    }
}
