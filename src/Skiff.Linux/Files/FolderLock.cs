using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Skiff.Linux.Files;

/// <summary>An exclusive lock on a folder between processes (flock(2)); it ends with its holder and leaves no file.</summary>
public sealed class FolderLock : IDisposable
{
    private const int Exclusive = 2;
    private const int NonBlocking = 4;
    private const int Unlock = 8;

    private readonly SafeFileHandle _folder;

    private FolderLock(SafeFileHandle folder) => _folder = folder;

    /// <summary>Waits for the lock and takes it.</summary>
    /// <exception cref="LinuxException">There is no such folder.</exception>
    public static FolderLock Acquire(string path) => Take(path, Exclusive)!;

    /// <summary>Takes the lock if nobody has it.</summary>
    /// <returns>Null when somebody has it, or there is no such folder any more.</returns>
    public static FolderLock? TryAcquire(string path)
    {
        try
        {
            return Take(path, Exclusive | NonBlocking);
        }
        catch (LinuxException e) when (e.ErrorNumber == Errno.NoEntry)
        {
            return null;
        }
    }

    /// <summary>Gives the lock back, whoever has a copy of its descriptor.</summary>
    public void Dispose()
    {
        // Closing is not enough: the lock lasts as long as any copy of its descriptor, and a process that another thread is just starting
        // has one until its exec.
        if (!_folder.IsClosed)
        {
            _ = Libc.flock((int)_folder.DangerousGetHandle(), Unlock);
        }

        _folder.Dispose();
    }

    private static FolderLock? Take(string path, int operation)
    {
        var folder = OpenFile.Open(path, Libc.OpenReadOnly | Libc.OpenCloseOnExec, 0);
        int error;
        do
        {
            error = Libc.flock((int)folder.DangerousGetHandle(), operation) < 0 ? Marshal.GetLastPInvokeError() : 0;
        }
        while (error == Errno.Interrupted);

        if (error == 0)
        {
            return new FolderLock(folder);
        }

        folder.Dispose();
        return error == Errno.Again ? null : throw new LinuxException($"lock {path}", error);
    }
}
