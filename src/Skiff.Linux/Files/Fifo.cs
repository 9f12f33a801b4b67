using Microsoft.Win32.SafeHandles;

namespace Skiff.Linux.Files;

/// <summary>Named pipes, opened without ever waiting for the other end.</summary>
public static unsafe class Fifo
{
    /// <summary>Makes a FIFO.</summary>
    /// <exception cref="LinuxException">It could not be made.</exception>
    public static void Create(string path, uint mode)
    {
        if (Libc.mkfifo(path, mode) < 0)
        {
            throw LinuxException.Last($"mkfifo {path}");
        }
    }

    /// <summary>A read end that does not block; it keeps the pipe, and what is in it, alive while no other reader is there.</summary>
    /// <returns>Null when there is no such file.</returns>
    public static SafeFileHandle? OpenReadNonBlocking(string path) => Open(path, Libc.OpenReadOnly | Libc.OpenNonBlock);

    /// <summary>A write end that does not block. If it is a regular file after all, what is written goes to its end.</summary>
    /// <returns>Null when there is no such file, or no reader.</returns>
    public static SafeFileHandle? OpenWriteNonBlocking(string path) => Open(path, Libc.OpenWriteOnly | Libc.OpenNonBlock | Libc.OpenAppend);

    /// <summary>Writes as much as the pipe takes now.</summary>
    /// <returns>False when not all went in: nobody reads, or the pipe is full.</returns>
    public static bool TryWrite(SafeFileHandle file, ReadOnlySpan<byte> content)
    {
        ArgumentNullException.ThrowIfNull(file);
        fixed (byte* start = content)
        {
            return Libc.write((int)file.DangerousGetHandle(), start, (nuint)content.Length) == content.Length;
        }
    }

    private static SafeFileHandle? Open(string path, int flags)
    {
        var file = OpenFile.TryOpen(path, flags | Libc.OpenCloseOnExec, 0, out var error);
        return file is not null || error is Errno.NoEntry or Errno.NoDevice ? file : throw new LinuxException($"open {path}", error);
    }
}
