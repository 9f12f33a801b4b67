using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Skiff.Linux.Files;

/// <summary>Files that are there whole or not at all.</summary>
public static unsafe class AtomicFile
{
    private const string TemporarySuffix = ".tmp";

    /// <summary>
    /// Writes a file beside <paramref name="path"/>, syncs it, and renames it into place: whoever opens the path finds the old content
    /// or the new, also after a power cut.
    /// </summary>
    /// <param name="path">Where; an existing file is replaced.</param>
    /// <param name="content">What.</param>
    /// <param name="mode">Permission bits, exactly (no umask).</param>
    /// <param name="owner">The owner and group it is to have; null: this process's.</param>
    /// <exception cref="LinuxException">It could not be written; nothing is left behind.</exception>
    public static void Write(string path, ReadOnlySpan<byte> content, uint mode, (uint User, uint Group)? owner = null)
    {
        var temporary = $"{path}.{Environment.ProcessId}.{Environment.CurrentManagedThreadId}{TemporarySuffix}";
        try
        {
            var flags = Libc.OpenWriteOnly | Libc.OpenCreate | Libc.OpenExclusive | Libc.OpenCloseOnExec;
            using (var file = OpenFile.Open(temporary, flags, mode))
            {
                var fd = (int)file.DangerousGetHandle();
                if (owner is { } o)
                {
                    Check(Libc.fchown(fd, o.User, o.Group), "chown", temporary);
                }

                Check(Libc.fchmod(fd, mode), "chmod", temporary);
                while (!content.IsEmpty)
                {
                    fixed (byte* start = content)
                    {
                        var written = Libc.write(fd, start, (nuint)content.Length);
                        Check(written, "write", temporary);
                        content = content[(int)written..];
                    }
                }

                Check(Libc.fsync(fd), "sync", temporary);
            }

            Check(Libc.rename(temporary, path), "rename", temporary);
        }
        catch
        {
            File.Delete(temporary);
            throw;
        }

        SyncDirectory(Path.GetDirectoryName(Path.GetFullPath(path))!);
    }

    /// <summary>
    /// Whether <paramref name="name"/> is what a <see cref="Write"/> of <paramref name="target"/> leaves when its process is killed in the
    /// middle: the target's name, two numbers and <c>.tmp</c>.
    /// </summary>
    public static bool IsLeftover(string name, string target)
    {
        ArgumentNullException.ThrowIfNull(name);
        ArgumentNullException.ThrowIfNull(target);
        if (!name.StartsWith(target + ".", StringComparison.Ordinal) || !name.EndsWith(TemporarySuffix, StringComparison.Ordinal)
            || name.Length < target.Length + 1 + TemporarySuffix.Length)
        {
            return false;
        }

        var numbers = name[(target.Length + 1)..^TemporarySuffix.Length].Split('.');
        return numbers.Length == 2 && numbers.All(n => n.Length > 0 && n.All(char.IsAsciiDigit));
    }

    internal static void SyncDirectory(string path)
    {
        using var directory = OpenFile.Open(path, Libc.OpenReadOnly | Libc.OpenCloseOnExec, 0);
        Check(Libc.fsync((int)directory.DangerousGetHandle()), "sync", path);
    }

    private static void Check(nint result, string operation, string path)
    {
        if (result < 0)
        {
            throw LinuxException.Last($"{operation} {path}");
        }
    }
}

/// <summary>open(2).</summary>
internal static class OpenFile
{
    internal static SafeFileHandle Open(string path, int flags, uint mode) =>
        TryOpen(path, flags, mode, out var error) ?? throw new LinuxException($"open {path}", error);

    internal static SafeFileHandle? TryOpen(string path, int flags, uint mode, out int error)
    {
        int fd;
        do
        {
            fd = Libc.open(path, flags, mode);
            error = fd < 0 ? Marshal.GetLastPInvokeError() : 0;
        }
        while (error == Errno.Interrupted);

        return fd < 0 ? null : new SafeFileHandle(fd, ownsHandle: true);
    }
}
