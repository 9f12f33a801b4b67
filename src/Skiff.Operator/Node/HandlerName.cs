namespace Skiff.Operator.Node;

/// <summary>Names of runtime handlers: they become a table's key, a file's name and, in Kubernetes, part of a RuntimeClass.</summary>
internal static class HandlerName
{
    private const int Limit = 63;

    /// <summary>What is wrong with a name; null when nothing is (a DNS label, as Kubernetes demands for RuntimeClass.handler).</summary>
    public static string? Problem(string name) =>
        name.Length is 0 or > Limit ? $"a handler's name has 1 to {Limit} characters, \"{(name.Length > Limit ? name[..Limit] + "…" : name)}\" has {name.Length}"
        : !name.All(c => char.IsAsciiLetterLower(c) || char.IsAsciiDigit(c) || c == '-') || name[0] == '-' || name[^1] == '-'
            ? $"a handler's name has lower case letters, digits and \"-\" between them, \"{name}\" has others"
        : null;
}
