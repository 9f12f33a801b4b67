using System.Globalization;
using System.Text;
using Microsoft.Win32.SafeHandles;
using Skiff.Containerd.Types;
using Skiff.Linux;
using Skiff.Linux.Files;
using Skiff.Linux.Mounts;

namespace Skiff.Shim.Wasm;

/// <summary>A container's root file system, whose files can be told again when another container of the same image has them.</summary>
/// <param name="Device">Its own device.</param>
/// <param name="Layers">The device that its layers are on.</param>
internal readonly record struct ImageRoot(ulong Device, ulong Layers)
{
    /// <summary>Looks at a mounted root.</summary>
    /// <param name="rootfs">Where it is mounted.</param>
    /// <param name="mounts">What was mounted there.</param>
    /// <returns>Null where its files cannot be told again.</returns>
    public static ImageRoot? Of(string rootfs, IReadOnlyList<Mount> mounts) =>
        mounts is [{ Target: "" } mount] && OverlayDevice.Of(mount.Type, mount.Options) is { } layers ? new ImageRoot(FileIdentity.Of(rootfs).Device, layers) : null;
}

/// <summary>
/// The SHA-256 of modules. One of many megabytes takes longer to hash than all else that a start does, so what was hashed once is known again by the
/// file: its inode, size and times of change in the image's layers.
/// </summary>
/// <remarks>
/// <para>That is believed only of files whose time of change the kernel alone sets and whose inode numbers are one file system's: those of an overlay's
/// layers on a local file system (<see cref="OverlayDevice"/>). A volume is hashed each time. A program that writes to its copy of the file, in the upper
/// layer, changes the time; so does an inode that is used again. A file that changed just now is not remembered, because within one tick of the kernel's
/// clock it could change once more and look the same.</para>
/// <para>To forget is harmless: the file is hashed again.</para>
/// </remarks>
/// <param name="folder">Where the digests are kept, one small file each; only root may come in.</param>
/// <param name="time">The clock.</param>
internal sealed class ModuleDigests(string folder, TimeProvider time)
{
    /// <summary>How large a file is that is worth remembering, in bytes: this much is hashed in about a millisecond.</summary>
    public const long Worth = 256 << 10;

    // Some hundred bytes of an inode each. The half that was not used for longest goes when there are more.
    private const int Most = 4_096;

    private const int HexLength = 2 * Sha256.Size;

    private static readonly TimeSpan _settled = TimeSpan.FromSeconds(2);

    /// <summary>The digest of a module, in lower-case hexadecimal.</summary>
    /// <param name="module">The module, readable from its start.</param>
    /// <param name="root">The root file system that it may be in; null: it is hashed.</param>
    /// <exception cref="IOException">It cannot be read.</exception>
    /// <exception cref="LinuxException">It cannot be read.</exception>
    public string Of(SafeFileHandle module, ImageRoot? root)
    {
        var before = FileIdentity.Of(module);
        if (root is not { } image || before.Device != image.Device || before.Size < Worth)
        {
            return Read(module, copy: null);
        }

        var known = Path.Combine(folder, NameOf(before, image));
        if (Recall(known) is { } recalled)
        {
            return recalled;
        }

        var digest = Read(module, copy: null);
        if (FileIdentity.Of(module) == before && time.GetUtcNow() - DateTimeOffset.UnixEpoch - TimeSpan.FromMicroseconds(before.Changed / 1000) > _settled)
        {
            Remember(known, digest);
        }

        return digest;
    }

    /// <summary>Hashes a module, and copies it where asked.</summary>
    /// <exception cref="IOException">It cannot be read, or the copy not written.</exception>
    public static string Read(SafeFileHandle module, SafeFileHandle? copy)
    {
        var hash = new Sha256();
        var block = new byte[64 << 10];
        long at = 0;
        for (int count; (count = RandomAccess.Read(module, block, at)) > 0; at += count)
        {
            hash.Append(block.AsSpan(0, count));
            if (copy is not null)
            {
                RandomAccess.Write(copy, block.AsSpan(0, count), at);
            }
        }

        return hash.FinishHex();
    }

    private static string NameOf(FileIdentity file, ImageRoot image) => Sha256.HexOf(Encoding.UTF8.GetBytes(
        string.Create(CultureInfo.InvariantCulture, $"{image.Layers}:{file.Inode}:{file.Size}:{file.Modified}:{file.Changed}")))[..(HexLength / 2)];

    private string? Recall(string known)
    {
        try
        {
            var text = File.ReadAllText(known);
            if (text.Length != HexLength || !text.All(char.IsAsciiHexDigitLower))
            {
                return null;
            }

            File.SetLastWriteTimeUtc(known, time.GetUtcNow().UtcDateTime);
            return text;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    private void Remember(string known, string digest)
    {
        try
        {
            _ = Directory.CreateDirectory(folder, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
            var all = new DirectoryInfo(folder).GetFiles();
            if (all.Length >= Most)
            {
                foreach (var file in all.OrderBy(f => f.LastWriteTimeUtc).Take(Most / 2))
                {
                    file.Delete();
                }
            }

            AtomicFile.Write(known, Encoding.ASCII.GetBytes(digest), 0x180); // 0600
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // A full disk, say. It is hashed again next time.
        }
    }
}
