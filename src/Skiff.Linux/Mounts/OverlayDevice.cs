using System.Buffers.Binary;
using Skiff.Linux.Files;

namespace Skiff.Linux.Mounts;

/// <summary>The file system that really holds the files of an overlay.</summary>
public static class OverlayDevice
{
    private const string LowerPrefix = "lowerdir=";
    private const string UpperPrefix = "upperdir=";

    // statfs(2): ext2 to ext4, XFS, Btrfs, F2FS. Their kernel sets the time of a change; one that a program serves (FUSE) or an image was made with
    // (EROFS) says whatever that had in mind.
    private static readonly long[] _local = [0xEF53, 0x58465342, 0x9123683E, 0xF2F52010];

    /// <summary>Finds it.</summary>
    /// <param name="type">The mount's type.</param>
    /// <param name="options">Its options, as containerd gives them.</param>
    /// <returns>
    /// Its device, when all layers are on one local file system: then the overlay's inode numbers are that one's, and its change times the kernel's own.
    /// Null for everything else.
    /// </returns>
    public static ulong? Of(string type, IReadOnlyList<string> options)
    {
        ArgumentNullException.ThrowIfNull(options);
        if (type != "overlay")
        {
            return null;
        }

        try
        {
            ulong? device = null;
            foreach (var layer in Layers(options))
            {
                // Relative ones and escaped ones containerd does not write.
                if (!layer.StartsWith('/') || layer.Contains('\\', StringComparison.Ordinal))
                {
                    return null;
                }

                var own = FileIdentity.Of(layer).Device;
                if (device is null && IsLocal(layer))
                {
                    device = own;
                }

                if (own != device)
                {
                    return null;
                }
            }

            return device;
        }
        catch (LinuxException)
        {
            return null; // a layer that is not there; the mount says so
        }
    }

    private static IEnumerable<string> Layers(IReadOnlyList<string> options) =>
        options.Where(o => o.StartsWith(UpperPrefix, StringComparison.Ordinal)).Select(o => o[UpperPrefix.Length..])
            .Concat(options.Where(o => o.StartsWith(LowerPrefix, StringComparison.Ordinal)).SelectMany(o => o[LowerPrefix.Length..].Split(':')));

    private static unsafe bool IsLocal(string path)
    {
        var status = stackalloc byte[256]; // struct statfs has 120 bytes, and its first number is the kind
        return Libc.statfs(path, status) == 0 && _local.Contains(BinaryPrimitives.ReadInt64LittleEndian(new ReadOnlySpan<byte>(status, sizeof(long))));
    }
}
