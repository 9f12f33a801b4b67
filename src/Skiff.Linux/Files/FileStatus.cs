using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace Skiff.Linux.Files;

/// <summary>What statx(2) says of a file.</summary>
/// <param name="Mode">Kind and permission bits, as in <c>st_mode</c>.</param>
/// <param name="UserId">Its owner.</param>
/// <param name="GroupId">Its group.</param>
/// <param name="Size">Bytes.</param>
/// <param name="Modified">When its content was last changed.</param>
public readonly record struct FileStatus(uint Mode, uint UserId, uint GroupId, long Size, DateTimeOffset Modified)
{
    private const uint KindMask = 0xF000;

    /// <summary>The permission bits.</summary>
    public uint Permissions => Mode & 0xFFF;

    /// <summary>Whether it is a regular file.</summary>
    public bool IsFile => (Mode & KindMask) == 0x8000;

    /// <summary>Whether it is a folder.</summary>
    public bool IsFolder => (Mode & KindMask) == 0x4000;

    /// <summary>Whether it is a symbolic link.</summary>
    public bool IsLink => (Mode & KindMask) == 0xA000;

    /// <summary>Asks for a file's status.</summary>
    /// <param name="path">Which.</param>
    /// <param name="followLink">Whether a symbolic link stands for what it leads to.</param>
    /// <returns>Null when there is no such file.</returns>
    /// <exception cref="LinuxException">The kernel refused.</exception>
    public static unsafe FileStatus? Of(string path, bool followLink)
    {
        const int currentDirectory = -100;
        const int noFollow = 0x100;
        const uint basic = 0x7ff;
        var status = stackalloc byte[256];
        if (Libc.statx(currentDirectory, path, followLink ? 0 : noFollow, basic, status) < 0)
        {
            return Marshal.GetLastPInvokeError() is Errno.NoEntry or Errno.NotADirectory ? null : throw LinuxException.Last($"stat {path}");
        }

        // struct statx: stx_uid at 20, stx_gid, stx_mode at 28, stx_size at 40, stx_mtime at 112 (seconds, nanoseconds).
        ReadOnlySpan<byte> s = new(status, 256);
        return new FileStatus(
            BinaryPrimitives.ReadUInt16LittleEndian(s[28..]),
            BinaryPrimitives.ReadUInt32LittleEndian(s[20..]),
            BinaryPrimitives.ReadUInt32LittleEndian(s[24..]),
            BinaryPrimitives.ReadInt64LittleEndian(s[40..]),
            DateTimeOffset.FromUnixTimeSeconds(BinaryPrimitives.ReadInt64LittleEndian(s[112..]))
                .AddTicks(BinaryPrimitives.ReadUInt32LittleEndian(s[120..]) / 100));
    }
}
