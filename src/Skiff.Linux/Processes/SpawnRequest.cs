using Microsoft.Win32.SafeHandles;

namespace Skiff.Linux.Processes;

/// <summary>A program to start. Nothing of this process is inherited but what is named here.</summary>
public sealed record SpawnRequest
{
    /// <summary>The program's path; PATH is not searched.</summary>
    public required string Path { get; init; }

    /// <summary>Its arguments, the program's own name first.</summary>
    public required IReadOnlyList<string> Arguments { get; init; }

    /// <summary>Its environment as KEY=VALUE; null hands on this process's own.</summary>
    public IReadOnlyList<string>? Environment { get; init; }

    /// <summary>Its working directory; null is this process's own.</summary>
    public string? WorkingDirectory { get; init; }

    /// <summary>Which open files it gets under which number. Descriptors 0-2 that are not named are /dev/null.</summary>
    public IReadOnlyDictionary<int, SafeFileHandle> Files { get; init; } = new Dictionary<int, SafeFileHandle>();

    /// <summary>
    /// The process in whose mount and PID namespaces it starts, with the root directory of that mount namespace; null: this process's.
    /// <see cref="Path"/> and <see cref="WorkingDirectory"/> are paths there.
    /// </summary>
    public int? NamespacesOf { get; init; }

    /// <summary>Whether it leads a session of its own (setsid), so that no terminal signal of ours reaches it.</summary>
    public bool NewSession { get; init; }

    /// <summary>Whether it leads a process group of its own.</summary>
    public bool NewProcessGroup { get; init; }
}
