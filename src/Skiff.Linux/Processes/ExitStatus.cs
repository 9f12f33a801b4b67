namespace Skiff.Linux.Processes;

/// <summary>How a process ended, and when that was seen.</summary>
/// <param name="Code">The exit code (0-255), or 0 when a signal ended it.</param>
/// <param name="Signal">The signal that ended it, or 0.</param>
/// <param name="At">When its end was seen.</param>
public readonly record struct ExitStatus(int Code, int Signal, DateTimeOffset At)
{
    /// <summary>One number as shells and containerd give it: the exit code, or 128 + the signal.</summary>
    public uint ShellCode => (uint)(Signal != 0 ? 128 + Signal : Code);

    /// <summary>Whether it exited by itself with code 0.</summary>
    public bool Success => Code == 0 && Signal == 0;
}
