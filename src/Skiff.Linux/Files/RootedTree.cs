using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Microsoft.Win32.SafeHandles;

namespace Skiff.Linux.Files;

/// <summary>
/// The files of a machine whose root directory we see as <see cref="Root"/>: <c>/</c> for this machine, <c>/proc/1/root</c> from a
/// container. Paths are that machine's own; no symbolic link leads out of it (<see cref="RootedPath"/>). Every error names the path as the
/// machine sees it.
/// </summary>
public sealed unsafe class RootedTree(string root)
{
    private const int LinkLimit = 40;
    private const int PathLimit = 4096;

    /// <summary>The machine's root directory as this process sees it.</summary>
    public string Root => root;

    /// <summary>A file's content.</summary>
    /// <param name="path">Which; symbolic links are followed.</param>
    /// <param name="limit">The most bytes it may have.</param>
    /// <returns>Null when there is no such file.</returns>
    /// <exception cref="IOException">It cannot be read, or is larger than the limit.</exception>
    public byte[]? Read(string path, int limit)
    {
        var handle = RootedPath.OpenRead(root, path);
        if (handle is null)
        {
            return null;
        }

        using var stream = new FileStream(handle, FileAccess.Read, bufferSize: 0);
        var content = new byte[Math.Min(limit, Math.Max(stream.Length, 0)) + 1];
        var length = stream.ReadAtLeast(content, content.Length, throwOnEndOfStream: false);
        return length < content.Length ? content[..length] : throw new IOException($"read {path}: it has more than {limit} bytes");
    }

    /// <summary>What there is at a path; a last symbolic link is not followed.</summary>
    /// <returns>Null when there is nothing.</returns>
    public FileStatus? Status(string path)
    {
        using var place = Place.Find(root, path, followLast: false);
        return place is null ? null : FileStatus.Of(place.Path, followLink: false);
    }

    /// <summary>What a path leads to, through symbolic links.</summary>
    /// <returns>Null when it leads nowhere.</returns>
    public FileStatus? Target(string path)
    {
        using var handle = RootedPath.Find(root, path);
        return handle is null ? null : FileStatus.Of(PathOf(handle), followLink: true);
    }

    /// <summary>The names in a folder, sorted; empty when there is no such folder.</summary>
    public IReadOnlyList<string> Names(string folder)
    {
        using var handle = RootedPath.OpenFolder(root, folder);
        return handle is null
            ? [] : [.. Directory.EnumerateFileSystemEntries(PathOf(handle)).Select(p => Path.GetFileName(p)!).Order(StringComparer.Ordinal)];
    }

    /// <summary>Writes a file whole or not at all (<see cref="AtomicFile"/>); one that is there keeps its mode and its owner.</summary>
    /// <param name="path">Which; when it is a symbolic link, the file it leads to is written and the link stays.</param>
    /// <param name="content">What.</param>
    /// <param name="mode">The permission bits of a new file.</param>
    /// <exception cref="LinuxException">It could not be written, or its folder is not there.</exception>
    public void Write(string path, ReadOnlySpan<byte> content, uint mode)
    {
        using var place = Place.Find(root, path, followLast: true) ?? throw new LinuxException($"write {path}", Errno.NoEntry);
        try
        {
            var old = FileStatus.Of(place.Path, followLink: false);
            AtomicFile.Write(place.Path, content, old?.Permissions ?? mode, old is { } o ? (o.UserId, o.GroupId) : null);
        }
        catch (LinuxException e)
        {
            throw new LinuxException($"write {path}", e.ErrorNumber);
        }
    }

    /// <summary>Deletes a file; when it is a symbolic link, the file it leads to. Nothing there is fine.</summary>
    /// <exception cref="LinuxException">The kernel refused.</exception>
    public void Delete(string path)
    {
        using var place = Place.Find(root, path, followLast: true);
        if (place is not null && Libc.unlink(place.Path) < 0 && Marshal.GetLastPInvokeError() != Errno.NoEntry)
        {
            throw LinuxException.Last($"delete {path}");
        }

        place?.Sync();
    }

    /// <summary>Deletes what writes to <paramref name="path"/> left when their process was killed.</summary>
    public void DeleteLeftovers(string path)
    {
        using var place = Place.Find(root, path, followLast: true);
        if (place is not null)
        {
            foreach (var name in Directory.EnumerateFileSystemEntries(place.Folder).Select(p => Path.GetFileName(p)!).ToList())
            {
                if (AtomicFile.IsLeftover(name, place.Name) && Libc.unlink($"{place.Folder}/{name}") < 0)
                {
                    throw LinuxException.Last($"delete {name} beside {path}");
                }
            }
        }
    }

    /// <summary>Makes a folder and those it is in.</summary>
    /// <returns>Those that were not there before, the outermost first.</returns>
    /// <exception cref="LinuxException">The kernel refused, or something there is no folder.</exception>
    public IReadOnlyList<string> MakeFolder(string path, uint mode)
    {
        ArgumentNullException.ThrowIfNull(path);
        List<string> made = [];
        var current = "";
        foreach (var name in path.Split('/', StringSplitOptions.RemoveEmptyEntries))
        {
            current += "/" + name;
            using var there = RootedPath.OpenFolder(root, current);
            if (there is not null)
            {
                continue;
            }

            using var place = Place.Find(root, current, followLast: true);
            if (place is null || Libc.mkdir(place.Path, mode) < 0)
            {
                throw place is null ? new LinuxException($"make the folder {current}", Errno.NoEntry) : LinuxException.Last($"make the folder {current}");
            }

            using var folder = OpenFile.Open(place.Path, Libc.OpenReadOnly | Libc.OpenCloseOnExec, 0);
            if (Libc.fchmod((int)folder.DangerousGetHandle(), mode) < 0)
            {
                throw LinuxException.Last($"chmod {current}");
            }

            place.Sync();
            made.Add(current);
        }

        return made;
    }

    /// <summary>Removes a folder that is empty.</summary>
    /// <returns>Whether it is gone: false when something is in it.</returns>
    /// <exception cref="LinuxException">The kernel refused.</exception>
    public bool RemoveIfEmpty(string folder)
    {
        using var place = Place.Find(root, folder, followLast: false);
        if (place is null || Libc.rmdir(place.Path) == 0)
        {
            return true;
        }

        return Marshal.GetLastPInvokeError() switch
        {
            Errno.NoEntry => true,
            Errno.NotEmpty or Errno.Exists or Errno.NotADirectory => false,
            _ => throw LinuxException.Last($"remove the folder {folder}"),
        };
    }

    /// <summary>Deletes a folder and everything in it, or a file; links are not followed. Nothing there is fine.</summary>
    /// <exception cref="IOException">It could not be done.</exception>
    public void DeleteTree(string path)
    {
        using var place = Place.Find(root, path, followLast: false);
        if (place is null || FileStatus.Of(place.Path, followLink: false) is not { } status)
        {
            return;
        }

        if (!status.IsFolder)
        {
            if (Libc.unlink(place.Path) < 0)
            {
                throw LinuxException.Last($"delete {path}");
            }
        }
        else
        {
            Directory.Delete(place.Path, recursive: true);
        }

        place.Sync();
    }

    /// <summary>Where a symbolic link leads, as it is written there; null when there is none.</summary>
    public string? LinkTarget(string path)
    {
        using var place = Place.Find(root, path, followLast: false);
        return place?.LinkTarget();
    }

    /// <summary>Makes a symbolic link, or makes one that is there lead elsewhere, at once: whoever looks finds the old or the new one.</summary>
    /// <exception cref="LinuxException">The kernel refused.</exception>
    public void SwitchLink(string path, string target)
    {
        using var place = Place.Find(root, path, followLast: false) ?? throw new LinuxException($"link {path}", Errno.NoEntry);
        var temporary = place.Path + ".new";
        _ = Libc.unlink(temporary); // of a process that was killed
        if (Libc.symlink(target, temporary) < 0 || Libc.rename(temporary, place.Path) < 0)
        {
            throw LinuxException.Last($"link {path} to {target}");
        }

        place.Sync();
    }

    /// <summary>Gives a folder or file another name in the same file system.</summary>
    /// <exception cref="LinuxException">The kernel refused.</exception>
    public void Rename(string from, string to)
    {
        using var source = Place.Find(root, from, followLast: false) ?? throw new LinuxException($"rename {from}", Errno.NoEntry);
        using var target = Place.Find(root, to, followLast: false) ?? throw new LinuxException($"rename {from} to {to}", Errno.NoEntry);
        if (Libc.rename(source.Path, target.Path) < 0)
        {
            throw LinuxException.Last($"rename {from} to {to}");
        }

        target.Sync();
        source.Sync();
    }

    /// <summary>
    /// Copies a file of this process's own tree in, whole or not at all: beside its place first, then synced, read back and compared, and
    /// renamed. It belongs to this process's user.
    /// </summary>
    /// <param name="source">The file, as this process sees it.</param>
    /// <param name="path">Where.</param>
    /// <param name="mode">Permission bits.</param>
    /// <param name="sha256">What its content's hash has to be.</param>
    /// <exception cref="IOException">It could not be copied, or what arrived is something else.</exception>
    public void CopyIn(string source, string path, uint mode, ReadOnlySpan<byte> sha256)
    {
        using var place = Place.Find(root, path, followLast: false) ?? throw new LinuxException($"write {path}", Errno.NoEntry);
        var temporary = place.Path + ".new";
        _ = Libc.unlink(temporary); // of a process that was killed
        try
        {
            using (var from = File.OpenHandle(source))
            using (var to = OpenFile.Open(temporary, Libc.OpenWriteOnly | Libc.OpenCreate | Libc.OpenExclusive | Libc.OpenCloseOnExec, mode))
            using (FileStream input = new(from, FileAccess.Read, bufferSize: 0))
            using (FileStream output = new(to, FileAccess.Write, bufferSize: 0))
            {
                input.CopyTo(output, 1 << 20);
                if (Libc.fchmod((int)to.DangerousGetHandle(), mode) < 0 || Libc.fsync((int)to.DangerousGetHandle()) < 0)
                {
                    throw LinuxException.Last($"sync {path}");
                }
            }

            if (!HashOf(temporary).AsSpan().SequenceEqual(sha256))
            {
                throw new IOException($"write {path}: what was read back is not what was written");
            }

            if (Libc.rename(temporary, place.Path) < 0)
            {
                throw LinuxException.Last($"rename {path}");
            }
        }
        catch
        {
            _ = Libc.unlink(temporary);
            throw;
        }

        place.Sync();
    }

    /// <summary>The SHA-256 of a regular file's content; null when there is none.</summary>
    public byte[]? Hash(string path)
    {
        using var place = Place.Find(root, path, followLast: false);
        return place is not null && FileStatus.Of(place.Path, followLink: false) is { IsFile: true } ? HashOf(place.Path) : null;
    }

    /// <summary>The bytes that may still be written to the file system that holds <paramref name="path"/>, or the nearest folder that is there.</summary>
    public long FreeSpace(string path)
    {
        for (var folder = path; ; folder = Path.GetDirectoryName(folder)!)
        {
            using var handle = RootedPath.OpenFolder(root, folder);
            if (handle is not null)
            {
                return new DriveInfo(PathOf(handle)).AvailableFreeSpace;
            }
        }
    }

    /// <summary>Takes the lock of a folder if nobody has it (<see cref="FolderLock.TryAcquire"/>).</summary>
    /// <exception cref="LinuxException">There is no such folder.</exception>
    public FolderLock? TryLock(string folder)
    {
        using var handle = RootedPath.OpenFolder(root, folder) ?? throw new LinuxException($"lock {folder}", Errno.NoEntry);
        return FolderLock.TryAcquire(PathOf(handle));
    }

    private static string PathOf(SafeFileHandle handle) => $"/proc/self/fd/{handle.DangerousGetHandle()}";

    private static byte[] HashOf(string path)
    {
        using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0);
        return SHA256.HashData(stream);
    }

    /// <summary>A name in a folder that is held open: every call that is made through it stays in that folder.</summary>
    private sealed class Place : IDisposable
    {
        private readonly SafeFileHandle _folder;

        private Place(SafeFileHandle folder, string name)
        {
            _folder = folder;
            Name = name;
        }

        public string Name { get; }

        public string Folder => PathOf(_folder);

        public string Path => $"{Folder}/{Name}";

        /// <summary>Where a path is, through the links of its last component too if that is asked for; null when its folder is not there.</summary>
        public static Place? Find(string root, string path, bool followLast)
        {
            var wanted = path;
            for (var links = 0; links <= LinkLimit; links++)
            {
                var trimmed = path.TrimEnd('/');
                var slash = trimmed.LastIndexOf('/');
                var name = trimmed[(slash + 1)..];
                if (slash < 0 || name is "" or "." or "..")
                {
                    throw new ArgumentException($"not an absolute path of a file: {wanted}", nameof(path));
                }

                // Not normalized: what .. means behind a symbolic link, the kernel knows.
                var folder = RootedPath.OpenFolder(root, slash == 0 ? "/" : trimmed[..slash]);
                if (folder is null)
                {
                    return null;
                }

                Place place = new(folder, name);
                if (!followLast || place.LinkTarget() is not { } target)
                {
                    return place;
                }

                place.Dispose();
                path = target.StartsWith('/') ? target : $"{trimmed[..slash]}/{target}";
            }

            throw new LinuxException($"open {wanted}", Errno.Loop);
        }

        public string? LinkTarget()
        {
            var buffer = stackalloc byte[PathLimit];
            var length = Libc.readlink(Path, buffer, PathLimit);
            return length < 0 ? null : Marshal.PtrToStringUTF8((nint)buffer, (int)length);
        }

        /// <summary>Makes what was renamed, made or deleted here outlast a power cut.</summary>
        public void Sync() => AtomicFile.SyncDirectory(Folder);

        public void Dispose() => _folder.Dispose();
    }
}
