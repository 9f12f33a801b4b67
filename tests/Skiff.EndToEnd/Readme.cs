using Skiff.Testing;

namespace Skiff.EndToEnd;

/// <summary>The commands of the README's section about Kubernetes: the tests type them as they stand there.</summary>
internal static class Readme
{
    private static readonly IReadOnlyList<string> _commands = Read();

    /// <summary>From helm install to a pod's log.</summary>
    public static IReadOnlyList<string> Install { get; } = [.. _commands.TakeWhile(c => !IsUninstall(c))];

    /// <summary>helm uninstall, and the line that takes what helm leaves.</summary>
    public static IReadOnlyList<string> Uninstall { get; } = [.. _commands.SkipWhile(c => !IsUninstall(c))];

    private static bool IsUninstall(string command) => command.StartsWith("helm uninstall", StringComparison.Ordinal);

    private static List<string> Read() => [.. File.ReadAllLines(Path.Combine(Repository.Root, "README.md"))
        .SkipWhile(l => l != "## On Kubernetes").Skip(1).TakeWhile(l => !l.StartsWith("## ", StringComparison.Ordinal))
        .Where(l => l.StartsWith("    helm ", StringComparison.Ordinal) || l.StartsWith("    kubectl ", StringComparison.Ordinal)).Select(l => l.Trim())];
}
