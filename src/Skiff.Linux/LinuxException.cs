using System.Runtime.InteropServices;

namespace Skiff.Linux;

/// <summary>The error numbers this code distinguishes.</summary>
public static class Errno
{
    /// <summary>Operation not permitted.</summary>
    public const int NotPermitted = 1;

    /// <summary>No such file or directory.</summary>
    public const int NoEntry = 2;

    /// <summary>No such process.</summary>
    public const int NoProcess = 3;

    /// <summary>Interrupted system call.</summary>
    public const int Interrupted = 4;

    /// <summary>No such device or address: for a FIFO, nobody has the other end.</summary>
    public const int NoDevice = 6;

    /// <summary>No child processes.</summary>
    public const int NoChild = 10;

    /// <summary>Try again.</summary>
    public const int Again = 11;

    /// <summary>Device or resource busy.</summary>
    public const int Busy = 16;

    /// <summary>File exists.</summary>
    public const int Exists = 17;

    /// <summary>Not a directory.</summary>
    public const int NotADirectory = 20;

    /// <summary>Invalid argument.</summary>
    public const int Invalid = 22;

    /// <summary>Broken pipe.</summary>
    public const int BrokenPipe = 32;

    /// <summary>Directory not empty.</summary>
    public const int NotEmpty = 39;

    /// <summary>Too many levels of symbolic links.</summary>
    public const int Loop = 40;
}

/// <summary>A system call failed. The message says what was being done, to what, and the system's reason.</summary>
public sealed class LinuxException : IOException
{
    /// <summary>Wraps error number <paramref name="errno"/> of <paramref name="operation"/>, for example "open /run/x".</summary>
    public LinuxException(string operation, int errno)
        : base($"{operation}: {Marshal.GetPInvokeErrorMessage(errno)}")
    {
        ErrorNumber = errno;
    }

    /// <summary>The error number (<c>errno</c>).</summary>
    public int ErrorNumber { get; }

    internal static LinuxException Last(string operation) => new(operation, Marshal.GetLastPInvokeError());
}
