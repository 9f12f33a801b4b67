using Microsoft.Win32.SafeHandles;

namespace Skiff.Linux.Files;

/// <summary>Pipes without a name (pipe2).</summary>
public static unsafe class Pipe
{
    /// <summary>Makes one; its ends are not inherited by children.</summary>
    /// <exception cref="LinuxException">No descriptor is left.</exception>
    public static (SafeFileHandle Read, SafeFileHandle Write) Create()
    {
        var ends = stackalloc int[2];
        return Libc.pipe2(ends, Libc.OpenCloseOnExec) == 0
            ? (new SafeFileHandle(ends[0], ownsHandle: true), new SafeFileHandle(ends[1], ownsHandle: true))
            : throw LinuxException.Last("pipe");
    }
}
