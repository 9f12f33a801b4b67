namespace Skiff.Containerd.Cri;

/// <summary>How a call to containerd failed.</summary>
public enum ContainerdError
{
    /// <summary>Nobody answers at the socket, or no longer.</summary>
    Unavailable,

    /// <summary>No answer in time.</summary>
    TimedOut,

    /// <summary>containerd runs without its CRI plugin.</summary>
    NoCri,

    /// <summary>containerd says there is no such thing.</summary>
    NotFound,

    /// <summary>containerd refused or failed; <see cref="ContainerdFailure.Message"/> has its words.</summary>
    Failed,
}

/// <summary>A call that failed.</summary>
/// <param name="Error">How.</param>
/// <param name="Message">What was asked of whom (the socket's path), and what came back.</param>
public sealed record ContainerdFailure(ContainerdError Error, string Message);
