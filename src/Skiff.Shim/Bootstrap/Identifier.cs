namespace Skiff.Shim.Bootstrap;

/// <summary>What containerd allows as a container's id or a namespace (containerd pkg/identifiers: 76 characters).</summary>
internal static class Identifier
{
    private const int MaxLength = 76;

    /// <summary>Why the text is no identifier, or null when it is one. Ids become file names and arguments, so nothing else may pass.</summary>
    public static string? Problem(string name, string value)
    {
        if (value.Length == 0)
        {
            return $"{name} is empty; containerd always gives one";
        }

        if (value.Length > MaxLength)
        {
            return $"{name} has {value.Length} characters; containerd allows {MaxLength}";
        }

        foreach (var c in value)
        {
            if (!char.IsAsciiLetterOrDigit(c) && c is not ('.' or '_' or '-'))
            {
                return $"{name} \"{value}\" holds the character '{c}'; letters, digits, '.', '_' and '-' are allowed";
            }
        }

        return value is "." or ".." ? $"{name} \"{value}\" is a folder, not a name" : null;
    }
}
