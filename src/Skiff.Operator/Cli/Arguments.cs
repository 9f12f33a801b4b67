using System.Diagnostics.CodeAnalysis;

namespace Skiff.Operator.Cli;

/// <summary>The options of a command line: <c>--name VALUE</c>, <c>--name=VALUE</c> and <c>--flag</c>.</summary>
internal sealed class Arguments
{
    private readonly Dictionary<string, List<string>> _values = new(StringComparer.Ordinal);

    private Arguments()
    {
    }

    /// <summary>Reads a command line.</summary>
    /// <param name="words">The words after the command.</param>
    /// <param name="options">The options there are; the value says whether one is given with a value, and may be repeated.</param>
    /// <param name="arguments">What was read.</param>
    /// <param name="problem">What is wrong.</param>
    public static bool TryParse(
        IReadOnlyList<string> words, IReadOnlyDictionary<string, OptionKind> options,
        [NotNullWhen(true)] out Arguments? arguments, [NotNullWhen(false)] out string? problem)
    {
        Arguments parsed = new();
        arguments = null;
        for (var i = 0; i < words.Count; i++)
        {
            var parts = words[i].Split('=', 2);
            if (!words[i].StartsWith('-') || !options.TryGetValue(parts[0], out var kind))
            {
                problem = words[i].StartsWith('-') ? $"unknown option {parts[0]}" : $"\"{words[i]}\" is not an option, and no word is expected there";
                return false;
            }

            string value;
            if (kind == OptionKind.Flag)
            {
                if (parts.Length == 2)
                {
                    problem = $"{parts[0]} takes no value";
                    return false;
                }

                value = "";
            }
            else if (parts.Length == 2)
            {
                value = parts[1];
            }
            else if (++i < words.Count)
            {
                value = words[i];
            }
            else
            {
                problem = $"{parts[0]} needs a value";
                return false;
            }

            if (!parsed._values.TryGetValue(parts[0], out var list))
            {
                parsed._values[parts[0]] = list = [];
            }
            else if (kind != OptionKind.Repeated)
            {
                problem = $"{parts[0]} is given twice";
                return false;
            }

            list.Add(value);
        }

        problem = null;
        arguments = parsed;
        return true;
    }

    /// <summary>Whether an option is there.</summary>
    public bool Has(string name) => _values.ContainsKey(name);

    /// <summary>The value of an option; null when it is not there.</summary>
    public string? Value(string name) => _values.TryGetValue(name, out var list) ? list[0] : null;

    /// <summary>All values of an option that may be repeated.</summary>
    public IReadOnlyList<string> Values(string name) => _values.TryGetValue(name, out var list) ? list : [];
}

/// <summary>How an option is given.</summary>
internal enum OptionKind
{
    /// <summary>Without a value.</summary>
    Flag,

    /// <summary>Once, with a value.</summary>
    Single,

    /// <summary>With a value, as often as wanted.</summary>
    Repeated,
}

/// <summary>How the program ends.</summary>
internal static class ExitCode
{
    /// <summary>Done.</summary>
    public const int Done = 0;

    /// <summary>It failed; what was begun was taken back unless the message says otherwise.</summary>
    public const int Failed = 1;

    /// <summary>The command line is wrong.</summary>
    public const int Usage = 2;

    /// <summary>Held back: it is in use.</summary>
    public const int InUse = 3;
}
