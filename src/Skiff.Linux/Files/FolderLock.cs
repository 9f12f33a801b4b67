using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Skiff.Linux.Files;

/// <summary>An exclusive lock on a folder between processes (flock(2)); it ends with its holder and leaves no file.</summary>
public sealed class FolderLock : IDisposable
{
    private const int Exclusive = 2;
    private const int NonBlocking = 4;

    private readonly SafeFileHandle _folder;

    private FolderLock(SafeFileHandle folder) => _folder = folder;

    /// <summary>Waits for the lock and takes it.</summary>
    /// <exception cref="LinuxException">There is no such folder.</exception>
    public static FolderLock Acquire(string path) => Take(path, Exclusive)!;

    /// <summary>Takes the lock if nobody has it.</summary>
    /// <returns>Null when somebody has it.</returns>
    /// <exception cref="LinuxException">There is no such folder.</exception>
    public static FolderLock? TryAcquire(string path) => Take(path, Exclusive | NonBlocking);

    private static FolderLock? Take(string path, int operation)
    {
        var folder = OpenFile.Open(path, Libc.OpenReadOnly | Libc.OpenCloseOnExec, 0);
        int result;
        do
        {
            result = Libc.flock((int)folder.DangerousGetHandle(), operation);
        }
        while (result < 0 && Marshal.GetLastPInvokeError() == Errno.Interrupted);

        if (result < 0)
        {
            folder.Dispose();
            return Marshal.GetLastPInvokeError() == Errno.Again ? null : throw LinuxException.Last($"lock {path}");
        }

        return new FolderLock(folder);
    }

    /// <summary>Gives the lock back.</summary>
    public void Dispose() => _folder.Dispose();
}
