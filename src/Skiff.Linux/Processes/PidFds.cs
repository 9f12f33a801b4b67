using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Skiff.Linux.Processes;

/// <summary>pidfd_open(2) and pidfd_send_signal(2), Linux 5.3 and later.</summary>
public static class PidFds
{
    /// <summary>A handle on a process of this machine, child or not.</summary>
    /// <returns>Null when there is no such process.</returns>
    /// <exception cref="LinuxException">The kernel refused.</exception>
    public static SafeFileHandle? Open(int pid)
    {
        var fd = Libc.syscall(Libc.SysPidFdOpen, pid, 0, 0, 0);
        if (fd >= 0)
        {
            return new SafeFileHandle((nint)fd, ownsHandle: true);
        }

        return Marshal.GetLastPInvokeError() == Errno.NoProcess ? null : throw LinuxException.Last($"pidfd_open {pid}");
    }

    /// <summary>Sends a signal to the process behind the handle.</summary>
    /// <returns>False when it has ended.</returns>
    /// <exception cref="LinuxException">The signal does not exist or may not be sent.</exception>
    public static bool Signal(SafeFileHandle pidFd, int signal)
    {
        ArgumentNullException.ThrowIfNull(pidFd);
        if (Libc.syscall(Libc.SysPidFdSendSignal, pidFd.DangerousGetHandle(), signal, 0, 0) == 0)
        {
            return true;
        }

        return Marshal.GetLastPInvokeError() == Errno.NoProcess ? false : throw LinuxException.Last($"send signal {signal}");
    }
}
