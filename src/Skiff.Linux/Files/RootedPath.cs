using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace Skiff.Linux.Files;

/// <summary>Paths as a process sees them whose root directory is elsewhere.</summary>
public static unsafe class RootedPath
{
    private const ulong ResolveInRoot = 0x10;

    /// <summary>
    /// Opens a file for reading below <paramref name="root"/>; symbolic links and <c>..</c> never lead out of it, also when somebody
    /// changes them meanwhile (openat2 with RESOLVE_IN_ROOT, Linux 5.6).
    /// </summary>
    /// <returns>Null when there is no such file.</returns>
    /// <exception cref="LinuxException">It is there and cannot be opened.</exception>
    public static SafeFileHandle? OpenRead(string root, string path) =>
        // Not blocking: the file may be a FIFO put there to hold us up.
        Open(root, path, Libc.OpenReadOnly | Libc.OpenNonBlock);

    /// <summary>
    /// Finds a file of any kind below <paramref name="root"/>, like <see cref="OpenRead"/>, without opening it: the handle (O_PATH) only
    /// names it, as <c>/proc/self/fd/N</c>, which also makes a short name of a long one.
    /// </summary>
    /// <returns>Null when there is no such file.</returns>
    /// <exception cref="LinuxException">It cannot be reached.</exception>
    public static SafeFileHandle? Find(string root, string path) => Open(root, path, Libc.OpenPath);

    private static SafeFileHandle? Open(string root, string path, int flags)
    {
        using var directory = OpenFile.Open(root, Libc.OpenPath | Libc.OpenCloseOnExec, 0);

        // struct open_how: flags, mode, resolve.
        var how = stackalloc ulong[3] { (ulong)(flags | Libc.OpenCloseOnExec), 0, ResolveInRoot };
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

            const int notADirectory = 20;
            return fd >= 0 ? new SafeFileHandle((nint)fd, ownsHandle: true)
                : error is Errno.NoEntry or notADirectory ? null
                : throw new LinuxException($"open {path} below {root}", error);
        }
    }
}
