using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Skiff.Linux.Files;

/// <summary>Tells in which folders something was made or removed (inotify); what it was, a look at the folder says.</summary>
/// <remarks>
/// One inotify instance, no thread. The kernel tells only of changes through the same mount of a file system, or a bind mount of it: for
/// cgroups that is the machine's own tree, not one that a container has mounted for itself.
/// </remarks>
public sealed class FolderWatch : IDisposable
{
    private const uint Moved = 0x40 | 0x80;
    private const uint Created = 0x100;
    private const uint Deleted = 0x200;
    private const uint Overflow = 0x4000;
    private const uint Gone = 0x8000;
    private const uint OnlyFolders = 0x01000000;

    private readonly Dictionary<int, string> _folders = [];
    private readonly SafeFileHandle _inotify;

    private FolderWatch(SafeFileHandle inotify) => _inotify = inotify;

    /// <summary>Begins to watch nothing yet.</summary>
    /// <exception cref="LinuxException">This user has all the inotify instances that it may have (fs.inotify.max_user_instances).</exception>
    public static FolderWatch Open()
    {
        const int nonBlocking = 0x800;
        var fd = Libc.inotify_init1(Libc.OpenCloseOnExec | nonBlocking);
        return fd < 0 ? throw LinuxException.Last("inotify_init1 (see fs.inotify.max_user_instances)") : new FolderWatch(new SafeFileHandle(fd, ownsHandle: true));
    }

    /// <summary>Watches a folder until it is removed. Not while <see cref="ChangedAsync"/> runs.</summary>
    /// <returns>Whether it is there.</returns>
    /// <exception cref="LinuxException">There is no watch left (fs.inotify.max_user_watches).</exception>
    public bool Add(string folder)
    {
        var watch = Libc.inotify_add_watch((int)_inotify.DangerousGetHandle(), folder, Moved | Created | Deleted | OnlyFolders);
        if (watch < 0)
        {
            return Marshal.GetLastPInvokeError() is Errno.NoEntry or Errno.NotADirectory
                ? false : throw LinuxException.Last($"watch {folder} (see fs.inotify.max_user_watches)");
        }

        _folders[watch] = folder;
        return true;
    }

    /// <summary>Completes when there was a change.</summary>
    /// <param name="cancellation">Ends the wait.</param>
    /// <returns>Where; null when there were more changes than the kernel keeps, so that it may be anywhere.</returns>
    public async Task<IReadOnlySet<string>?> ChangedAsync(CancellationToken cancellation)
    {
        while (true)
        {
            await Readiness.ReadableAsync(_inotify, cancellation).ConfigureAwait(false);
            var changed = Take();
            if (changed is null or { Count: > 0 })
            {
                return changed;
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _inotify.Dispose();

    private unsafe HashSet<string>? Take()
    {
        // struct inotify_event: watch, mask, cookie, length of the name that follows.
        const int header = 16;
        const int size = 16 << 10;
        HashSet<string> changed = [];
        var all = false;
        var buffer = stackalloc byte[size];
        int count;
        while ((count = (int)Libc.read((int)_inotify.DangerousGetHandle(), buffer, size)) > 0)
        {
            for (var at = 0; at + header <= count; at += header + BinaryPrimitives.ReadInt32LittleEndian(new ReadOnlySpan<byte>(buffer + at + 12, 4)))
            {
                var watch = *(int*)(buffer + at);
                var what = *(uint*)(buffer + at + 4);
                all |= (what & Overflow) != 0;
                if ((what & Gone) != 0)
                {
                    _ = _folders.Remove(watch);
                }
                else if (_folders.TryGetValue(watch, out var folder))
                {
                    _ = changed.Add(folder);
                }
            }
        }

        return all ? null : changed;
    }
}
