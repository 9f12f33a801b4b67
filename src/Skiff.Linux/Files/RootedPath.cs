using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace Skiff.Linux.Files;

/// <summary>
/// Paths as a process sees them whose root directory is elsewhere. Symbolic links and <c>..</c> never lead out of that root, also when
/// somebody changes them meanwhile (openat2 with RESOLVE_IN_ROOT, Linux 5.6).
/// </summary>
public static unsafe class RootedPath
{
    private const ulong ResolveInRoot = 0x10;
    private const int OpenDirectory = 0x10000;

    /// <summary>Opens a file for reading below <paramref name="root"/>.</summary>
    /// <returns>Null when there is no such file.</returns>
    /// <exception cref="LinuxException">It is there and cannot be opened.</exception>
    public static SafeFileHandle? OpenRead(string root, string path) =>
        Open(root, path, Libc.OpenReadOnly | Libc.OpenNonBlock); // not blocking: the file may be a FIFO put there to hold us up

    /// <summary>
    /// Holds a place below <paramref name="root"/>, of whatever kind, without reading it (O_PATH); <c>/proc/self/fd/N</c> of the handle is a
    /// path to it for every other call, connect(2) to a socket too.
    /// </summary>
    /// <returns>Null when there is no such file.</returns>
    /// <exception cref="LinuxException">It is there and cannot be opened.</exception>
    public static SafeFileHandle? Find(string root, string path) => Open(root, path, Libc.OpenPath);

    /// <summary>As <see cref="Find"/>, for a folder.</summary>
    /// <returns>Null when there is no such folder.</returns>
    /// <exception cref="LinuxException">It is there and cannot be opened.</exception>
    public static SafeFileHandle? OpenFolder(string root, string path) => Open(root, path, Libc.OpenPath | OpenDirectory);

    private static SafeFileHandle? Open(string root, string path, int flags)
    {
        using var directory = OpenFile.Open(root, Libc.OpenPath | Libc.OpenCloseOnExec, 0);

        // struct open_how: flags, mode, resolve.
        var how = stackalloc ulong[3] { (ulong)(uint)(flags | Libc.OpenCloseOnExec), 0, ResolveInRoot };
        fixed (byte* name = Encoding.UTF8.GetBytes(path + "\0"))
        {
            long fd;
            int error;
            do
            {
                fd = Libc.syscall(Libc.SysOpenAt2, directory.DangerousGetHandle(), (nint)name, (nint)how, 3 * sizeof(ulong));
                error = fd < 0 ? Marshal.GetLastPInvokeError() : 0;
            }
            while (error is Errno.Interrupted or Errno.Again);

            return fd >= 0 ? new SafeFileHandle((nint)fd, ownsHandle: true)
                : error is Errno.NoEntry or Errno.NotADirectory ? null
                : throw new LinuxException($"open {path} below {root}", error);
        }
    }
}
