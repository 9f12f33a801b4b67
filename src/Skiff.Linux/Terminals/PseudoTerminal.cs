using Microsoft.Win32.SafeHandles;
using Skiff.Linux.Files;

namespace Skiff.Linux.Terminals;

/// <summary>Pseudo terminals (pty(7), ioctl_tty(2)).</summary>
public static unsafe class PseudoTerminal
{
    private const nuint SetWindowSize = 0x5414;
    private const nuint GetWindowSize = 0x5413;
    private const nuint GetNumber = 0x80045430;
    private const nuint SetLock = 0x40045431;

    /// <summary>Makes one.</summary>
    /// <returns>Its master side, and the path under which its other side is opened.</returns>
    /// <exception cref="LinuxException">There is no /dev/ptmx, or no terminal left (kernel.pty.max).</exception>
    public static (SafeFileHandle Master, string Path) Create()
    {
        var master = OpenFile.Open("/dev/ptmx", Libc.OpenReadWrite | Libc.OpenNoTerminal | Libc.OpenCloseOnExec, 0);
        int number, unlocked = 0;
        var fd = (int)master.DangerousGetHandle();
        if (Libc.ioctl(fd, SetLock, &unlocked) < 0 || Libc.ioctl(fd, GetNumber, &number) < 0)
        {
            master.Dispose();
            throw LinuxException.Last("make a pseudo terminal");
        }

        return (master, $"/dev/pts/{number}");
    }

    /// <summary>Opens the side that programs use. It does not become this process's terminal.</summary>
    /// <exception cref="LinuxException">It is gone.</exception>
    public static SafeFileHandle OpenProgramSide(string path) =>
        OpenFile.Open(path, Libc.OpenReadWrite | Libc.OpenNoTerminal | Libc.OpenCloseOnExec, 0);

    /// <summary>Sets its size; the programs in front get SIGWINCH.</summary>
    /// <exception cref="LinuxException">It is not a terminal.</exception>
    public static void Resize(SafeFileHandle terminal, ushort columns, ushort rows)
    {
        ArgumentNullException.ThrowIfNull(terminal);

        // struct winsize: rows, columns, and two that nobody uses.
        var size = stackalloc ushort[4] { rows, columns, 0, 0 };
        if (Libc.ioctl((int)terminal.DangerousGetHandle(), SetWindowSize, size) < 0)
        {
            throw LinuxException.Last("resize a terminal");
        }
    }

    /// <summary>Its size.</summary>
    /// <exception cref="LinuxException">It is not a terminal.</exception>
    public static (ushort Columns, ushort Rows) Size(SafeFileHandle terminal)
    {
        ArgumentNullException.ThrowIfNull(terminal);
        var size = stackalloc ushort[4];
        return Libc.ioctl((int)terminal.DangerousGetHandle(), GetWindowSize, size) == 0
            ? (size[1], size[0])
            : throw LinuxException.Last("ask a terminal for its size");
    }
}
