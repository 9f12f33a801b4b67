using System.Runtime.InteropServices;
using System.Text;

namespace Skiff.Run;

/// <summary>The C library's calls that this program makes. Numbers and layouts are Linux's on x86-64 and arm64.</summary>
internal static unsafe partial class Libc
{
    private const string Library = "libc";

    internal const int StandardInput = 0;
    internal const int StandardOutput = 1;
    internal const int StandardError = 2;

    internal const int CloneNewNs = 0x00020000;
    internal const int CloneNewUts = 0x04000000;
    internal const int CloneNewIpc = 0x08000000;
    internal const int CloneNewNet = 0x40000000;

    internal const int PrSetDumpable = 4;
    internal const int PrSetNoNewPrivs = 38;

    internal const int RlimitCpu = 0;
    internal const int RlimitFsize = 1;
    internal const int RlimitCore = 4;
    internal const int RlimitNofile = 7;

    internal const ulong MsRdonly = 1;
    internal const ulong MsRec = 0x4000;
    internal const ulong MsPrivate = 1 << 18;

    internal const uint CloseRangeCloexec = 4;

    internal const int StatfsSize = 256;

    internal const int Eintr = 4;
    private const int OpenCloseOnExec = 0x80000;

    [LibraryImport(Library)]
    internal static partial void _exit(int status);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int open(byte* path, int flags);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int close(int fd);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial nint read(int fd, byte* buffer, nuint count);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial nint write(int fd, byte* buffer, nuint count);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial byte* getcwd(byte* buffer, nuint size);

    [LibraryImport(Library)]
    internal static partial int clearenv();

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int setenv(string name, string value, int overwrite);

    [LibraryImport(Library)]
    internal static partial uint geteuid();

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int unshare(int flags);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int setgroups(nuint size, uint* list);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int setresgid(uint real, uint effective, uint saved);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int setresuid(uint real, uint effective, uint saved);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int prctl(int option, nuint argument2, nuint argument3, nuint argument4, nuint argument5);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int setrlimit(int resource, in ResourceLimit limit);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int getrlimit(int resource, out ResourceLimit limit);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int close_range(uint first, uint last, uint flags);

    [LibraryImport(Library, SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int mount(string? source, string target, string? type, ulong flags, string? data);

    [LibraryImport(Library, SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int statfs(string path, byte* result);

    [LibraryImport(Library, SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int chroot(string path);

    [LibraryImport(Library, SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int chdir(string path);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial int execve(byte* path, byte** argv, byte** envp);

    /// <summary>The text of the last call's <c>errno</c>.</summary>
    internal static string LastError() => Marshal.GetPInvokeErrorMessage(Marshal.GetLastPInvokeError());

    /// <summary>Opens a file for reading; a negative result is a failure with <c>errno</c> set.</summary>
    internal static int OpenForReading(string path)
    {
        fixed (byte* name = Terminated(path))
        {
            return open(name, OpenCloseOnExec);
        }
    }

    /// <summary>Writes everything, or returns false with <c>errno</c> set.</summary>
    internal static bool WriteAll(int fd, byte* start, nuint length)
    {
        while (length > 0)
        {
            nint written = write(fd, start, length);
            if (written < 0)
            {
                if (Marshal.GetLastPInvokeError() == Eintr)
                {
                    continue;
                }

                return false;
            }

            start += written;
            length -= (nuint)written;
        }

        return true;
    }

    /// <summary>The string as C wants it.</summary>
    internal static byte[] Terminated(string text)
    {
        byte[] bytes = new byte[Encoding.UTF8.GetByteCount(text) + 1];
        Encoding.UTF8.GetBytes(text, bytes);
        return bytes;
    }

    /// <summary><c>struct rlimit</c>.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct ResourceLimit
    {
        internal ulong Soft;
        internal ulong Hard;
    }
}
