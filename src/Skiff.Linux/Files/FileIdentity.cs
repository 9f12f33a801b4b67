using System.Buffers.Binary;
using Microsoft.Win32.SafeHandles;

namespace Skiff.Linux.Files;

/// <summary>Which file it is, and in which state: once its content or its attributes change, so does this, because the kernel sets the time of a change.</summary>
/// <param name="Device">The file system that says so; an overlay's files have the overlay's.</param>
/// <param name="Inode">Its number there; an overlay's files have that of the file below.</param>
/// <param name="Size">Bytes.</param>
/// <param name="Modified">When its content was changed, in nanoseconds since 1970; its owner can set this one.</param>
/// <param name="Changed">When anything of it was changed, in nanoseconds since 1970.</param>
public readonly record struct FileIdentity(ulong Device, ulong Inode, long Size, long Modified, long Changed)
{
    /// <summary>Of an open file or folder.</summary>
    /// <exception cref="LinuxException">The kernel refused.</exception>
    public static FileIdentity Of(SafeFileHandle file)
    {
        ArgumentNullException.ThrowIfNull(file);
        const int emptyPath = 0x1000;
        return Of((int)file.DangerousGetHandle(), "", emptyPath);
    }

    /// <summary>Of the file or folder that a path leads to.</summary>
    /// <exception cref="LinuxException">There is none, or the kernel refused.</exception>
    public static FileIdentity Of(string path)
    {
        const int currentDirectory = -100;
        return Of(currentDirectory, path, 0);
    }

    private static unsafe FileIdentity Of(int directory, string path, int flags)
    {
        const uint basic = 0x7ff;
        var status = stackalloc byte[256];
        if (Libc.statx(directory, path, flags, basic, status) < 0)
        {
            throw LinuxException.Last($"stat {(path.Length > 0 ? path : "an open file")}");
        }

        // struct statx: stx_ino at 32, stx_size at 40, stx_ctime at 96, stx_mtime at 112 (seconds, nanoseconds), stx_dev at 136 (two numbers).
        ReadOnlySpan<byte> s = new(status, 256);
        return new FileIdentity(
            BinaryPrimitives.ReadUInt64LittleEndian(s[136..]), BinaryPrimitives.ReadUInt64LittleEndian(s[32..]), BinaryPrimitives.ReadInt64LittleEndian(s[40..]), Time(s[112..]), Time(s[96..]));

        static long Time(ReadOnlySpan<byte> at) => (BinaryPrimitives.ReadInt64LittleEndian(at) * 1_000_000_000) + BinaryPrimitives.ReadUInt32LittleEndian(at[8..]);
    }
}
