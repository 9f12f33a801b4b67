using System.Text.RegularExpressions;

namespace Skiff.Containerd;

/// <summary>containerd's version as it says it itself.</summary>
public static partial class ContainerdRelease
{
    /// <summary>Reads <c>1.6.20~ds1</c>, <c>v2.1.9</c>, or the line of <c>containerd --version</c>.</summary>
    /// <returns>Major, minor and patch; null when there is no version in it.</returns>
    public static Version? Parse(string text)
    {
        var match = Pattern().Match(text);
        return match.Success && Version.TryParse(match.Value.TrimStart(' ', 'v'), out var version) ? version : null;
    }

    // At the beginning of a word: the module's path may end in /v2.
    [GeneratedRegex(@"(^|(?<=\s))v?\d{1,9}\.\d{1,9}\.\d{1,9}", RegexOptions.CultureInvariant)]
    private static partial Regex Pattern();
}
