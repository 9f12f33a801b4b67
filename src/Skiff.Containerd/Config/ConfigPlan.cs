using System.Diagnostics.CodeAnalysis;

namespace Skiff.Containerd.Config;

/// <summary>A file to write.</summary>
/// <param name="Path">Where, as the node sees it.</param>
/// <param name="Before">What was there when it was read; null: no such file.</param>
/// <param name="After">What is to be there; null: delete it.</param>
public sealed record FileChange(string Path, byte[]? Before, byte[]? After);

/// <summary>What has to be written, in this order; or why nothing can be.</summary>
public sealed class ConfigPlan
{
    private ConfigPlan(IReadOnlyList<FileChange>? changes, string? problem)
    {
        Changes = changes;
        Problem = problem;
    }

    /// <summary>The files; none when everything is as wanted.</summary>
    public IReadOnlyList<FileChange>? Changes { get; }

    /// <summary>Why the configuration cannot be edited: file, line:column, key, and what to do about it.</summary>
    public string? Problem { get; }

    /// <summary>Whether there is a plan.</summary>
    [MemberNotNullWhen(true, nameof(Changes))]
    [MemberNotNullWhen(false, nameof(Problem))]
    public bool Succeeded => Changes is not null;

    internal static ConfigPlan Of(params IReadOnlyList<FileChange> changes) => new(changes, null);

    internal static ConfigPlan Refuse(string problem) => new(null, problem);
}
