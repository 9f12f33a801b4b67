namespace Skiff.Linux.Processes;

/// <summary>Signal numbers (x86-64 and arm64).</summary>
public static class Signals
{
    /// <summary>SIGINT.</summary>
    public const int Interrupt = 2;

    /// <summary>SIGKILL.</summary>
    public const int Kill = 9;

    /// <summary>SIGUSR1.</summary>
    public const int User1 = 10;

    /// <summary>SIGTERM.</summary>
    public const int Terminate = 15;
}
