using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Skiff.Linux.Files;

/// <summary>What can be done to any open file.</summary>
public static class OpenDescriptor
{
    /// <summary>Makes reads and writes on it wait, as a program expects of its standard streams, or return at once.</summary>
    /// <exception cref="LinuxException">The kernel refused.</exception>
    public static void SetBlocking(SafeFileHandle file, bool blocking)
    {
        ArgumentNullException.ThrowIfNull(file);
        var fd = (int)file.DangerousGetHandle();
        var flags = Libc.fcntl(fd, Libc.FcntlGetFlags, 0);
        var wanted = blocking ? flags & ~Libc.OpenNonBlock : flags | Libc.OpenNonBlock;
        if (flags < 0 || Libc.fcntl(fd, Libc.FcntlSetFlags, wanted) < 0)
        {
            throw LinuxException.Last("fcntl");
        }
    }

    /// <summary>Reads what is there.</summary>
    /// <returns>How much; 0 at the end, which a terminal has when its other side is closed; null when a read would have to wait.</returns>
    /// <exception cref="LinuxException">The kernel refused.</exception>
    public static unsafe int? TryRead(SafeFileHandle file, Span<byte> buffer)
    {
        ArgumentNullException.ThrowIfNull(file);
        fixed (byte* start = buffer)
        {
            while (true)
            {
                var count = Libc.read((int)file.DangerousGetHandle(), start, (nuint)buffer.Length);
                if (count >= 0)
                {
                    return (int)count;
                }

                switch (Marshal.GetLastPInvokeError())
                {
                    case Errno.Interrupted:
                        continue;
                    case Errno.Again:
                        return null;
                    case Errno.InputOutput:
                        return 0;
                    default:
                        throw LinuxException.Last("read from a stream");
                }
            }
        }
    }

    /// <summary>Another number for the same open file.</summary>
    /// <exception cref="LinuxException">No descriptor is left.</exception>
    public static SafeFileHandle Duplicate(SafeFileHandle file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var copy = Libc.fcntl((int)file.DangerousGetHandle(), Libc.FcntlDupCloseOnExec, 0);
        return copy >= 0 ? new SafeFileHandle(copy, ownsHandle: true) : throw LinuxException.Last("duplicate a descriptor");
    }

    /// <summary>Gives the file to a user and a group.</summary>
    /// <exception cref="LinuxException">The kernel refused.</exception>
    public static void SetOwner(SafeFileHandle file, uint user, uint group)
    {
        ArgumentNullException.ThrowIfNull(file);
        if (Libc.fchown((int)file.DangerousGetHandle(), user, group) < 0)
        {
            throw LinuxException.Last($"give a stream to user {user}, group {group}");
        }
    }

    /// <summary>Opens a file so that reads give what is there, and never wait.</summary>
    /// <param name="path">Which.</param>
    /// <exception cref="LinuxException">It could not be opened.</exception>
    public static SafeFileHandle OpenReadNonBlocking(string path) => OpenFile.Open(path, Libc.OpenReadOnly | Libc.OpenNonBlock | Libc.OpenCloseOnExec, 0);

    /// <summary>Opens a file to append to it, and makes it if it is not there.</summary>
    /// <param name="path">Where.</param>
    /// <param name="mode">Permission bits of a new file, less the umask.</param>
    /// <exception cref="LinuxException">It could not be opened.</exception>
    public static SafeFileHandle OpenAppend(string path, uint mode) =>
        OpenFile.Open(path, Libc.OpenWriteOnly | Libc.OpenAppend | Libc.OpenCreate | Libc.OpenCloseOnExec, mode);
}
