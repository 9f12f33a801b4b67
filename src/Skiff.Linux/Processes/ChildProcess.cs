using Microsoft.Win32.SafeHandles;

namespace Skiff.Linux.Processes;

/// <summary>
/// A child of this process, held by a pidfd: signals reach that process or nobody, never a later one with the same number.
/// It is reaped as soon as it ends, whether or not anybody waits.
/// </summary>
public sealed class ChildProcess
{
    private readonly SafeFileHandle _pidFd;
    private readonly TaskCompletionSource<ExitStatus> _exit = new(TaskCreationOptions.RunContinuationsAsynchronously);

    internal ChildProcess(int pid, SafeFileHandle pidFd)
    {
        Pid = pid;
        _pidFd = pidFd;
    }

    /// <summary>Its process id. Another process may have it once this one has ended.</summary>
    public int Pid { get; }

    /// <summary>How it ended; completes once, when it has been reaped.</summary>
    public Task<ExitStatus> Exit => _exit.Task;

    internal SafeFileHandle PidFd => _pidFd;

    /// <summary>Sends a signal.</summary>
    /// <returns>Whether there was a process to send it to: false when it has ended.</returns>
    /// <exception cref="LinuxException">The signal does not exist or may not be sent.</exception>
    public bool Signal(int signal)
    {
        lock (_exit)
        {
            return !_pidFd.IsClosed && PidFds.Signal(_pidFd, signal);
        }
    }

    /// <summary>Sends SIGKILL to it and to all in the process group that it leads.</summary>
    internal void KillGroup()
    {
        lock (_exit)
        {
            // It has not been reaped, so the number of its group cannot have become another's.
            if (!_pidFd.IsClosed)
            {
                _ = Libc.kill(-Pid, Signals.Kill);
            }
        }
    }

    internal void Ended(ExitStatus status)
    {
        lock (_exit)
        {
            _pidFd.Dispose();
        }

        _ = _exit.TrySetResult(status);
    }
}
