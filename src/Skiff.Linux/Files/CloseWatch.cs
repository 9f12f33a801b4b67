using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Skiff.Linux.Files;

/// <summary>Tells when somebody who had a file open for writing closes it (inotify IN_CLOSE_WRITE, which FIFOs report too).</summary>
/// <remarks>One thread and one inotify instance serve all watches of a process; both start with the first watch.</remarks>
public sealed unsafe class CloseWatch : IDisposable
{
    private const uint CloseWrite = 8;

    private static readonly Lock _lock = new();
    private static readonly Dictionary<int, CloseWatch> _watches = [];
    private static SafeFileHandle? _inotify;

    private readonly int _watch;
    private readonly Action _closed;
    private bool _over;

    private CloseWatch(int watch, Action closed)
    {
        _watch = watch;
        _closed = closed;
    }

    /// <summary>Calls <paramref name="closed"/> each time a writer of <paramref name="path"/> closes it, until disposed.</summary>
    /// <exception cref="LinuxException">There is no such file, or no watch left (fs.inotify.max_user_watches).</exception>
    public static CloseWatch Start(string path, Action closed)
    {
        lock (_lock)
        {
            if (_inotify is null)
            {
                var fd = Libc.inotify_init1(Libc.OpenCloseOnExec);
                if (fd < 0)
                {
                    throw LinuxException.Last("inotify_init1");
                }

                _inotify = new SafeFileHandle(fd, ownsHandle: true);
                new Thread(Read, maxStackSize: 128 * 1024) { IsBackground = true, Name = "close-watch" }.Start();
            }

            var watch = Libc.inotify_add_watch((int)_inotify.DangerousGetHandle(), path, CloseWrite);
            if (watch < 0)
            {
                throw LinuxException.Last($"watch {path}");
            }

            return _watches[watch] = new CloseWatch(watch, closed);
        }
    }

    /// <summary>Ends the watch.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            if (!_over)
            {
                _over = true;
                _ = _watches.Remove(_watch);
                _ = Libc.inotify_rm_watch((int)_inotify!.DangerousGetHandle(), _watch);
            }
        }
    }

    private static void Read()
    {
        // struct inotify_event: watch, mask, cookie, length of the name that follows (none for a watched file).
        const int header = 16;
        const int size = 4096;
        var buffer = stackalloc byte[size];
        while (true)
        {
            var count = (int)Libc.read((int)_inotify!.DangerousGetHandle(), buffer, size);
            if (count < 0 && Marshal.GetLastPInvokeError() != Errno.Interrupted)
            {
                return;
            }

            for (var at = 0; at + header <= count; at += header + BinaryPrimitives.ReadInt32LittleEndian(new ReadOnlySpan<byte>(buffer + at + 12, 4)))
            {
                CloseWatch? watch;
                lock (_lock)
                {
                    _ = _watches.TryGetValue(*(int*)(buffer + at), out watch);
                }

                if ((*(uint*)(buffer + at + 4) & CloseWrite) != 0)
                {
                    watch?._closed();
                }
            }
        }
    }
}
