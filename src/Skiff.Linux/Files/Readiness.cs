using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Skiff.Linux.Files;

/// <summary>Waits until a descriptor can be read or written, without a thread for each.</summary>
/// <remarks>One epoll instance and one thread serve all waits of a process; both start with the first wait and stay.</remarks>
public static class Readiness
{
    private const int Add = 1;
    private const int Delete = 2;
    private const uint In = 1;
    private const uint Priority = 2;
    private const uint Out = 4;
    private const uint OneShot = 1u << 30;

    // struct epoll_event is packed on x86-64 only.
    private static readonly int _eventSize = RuntimeInformation.ProcessArchitecture == Architecture.X64 ? 12 : 16;
    private static readonly int _eventData = _eventSize - 8;

    private static readonly Lock _lock = new();
    private static readonly Dictionary<long, Waiter> _waiters = [];
    private static long _last;
    private static int _epoll = -1;

    /// <summary>Completes when a read would not block: there is data, or the end.</summary>
    /// <param name="file">Its descriptor; only one wait at a time, of either kind. A regular file is always ready.</param>
    /// <param name="cancellation">Ends the wait.</param>
    /// <exception cref="LinuxException">The kernel cannot watch it.</exception>
    public static Task ReadableAsync(SafeFileHandle file, CancellationToken cancellation) => WaitAsync(file, In, cancellation);

    /// <summary>Completes when a write would not block: there is room, or nobody reads any more.</summary>
    /// <param name="file">Its descriptor; only one wait at a time, of either kind. A regular file is always ready.</param>
    /// <param name="cancellation">Ends the wait.</param>
    /// <exception cref="LinuxException">The kernel cannot watch it.</exception>
    public static Task WritableAsync(SafeFileHandle file, CancellationToken cancellation) => WaitAsync(file, Out, cancellation);

    /// <summary>
    /// Completes when the content of a file of the kernel's (sysfs, cgroups) may be another than when it was last read through this
    /// descriptor; only for files of which the kernel says so, such as <c>memory.events</c>.
    /// </summary>
    /// <param name="file">Its descriptor; only one wait at a time, of either kind.</param>
    /// <param name="cancellation">Ends the wait.</param>
    /// <exception cref="LinuxException">The kernel cannot watch it.</exception>
    public static Task ChangedAsync(SafeFileHandle file, CancellationToken cancellation) => WaitAsync(file, Priority, cancellation);

    private static async Task WaitAsync(SafeFileHandle file, uint what, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(file);
        cancellation.ThrowIfCancellationRequested();
        var added = false;
        file.DangerousAddRef(ref added); // its number must not become another file's while we watch it
        try
        {
            if (Watch((int)file.DangerousGetHandle(), what) is not var (id, ready))
            {
                return;
            }

            using (cancellation.UnsafeRegister(static (state, token) => End((long)state!)?.TrySetCanceled(token), id))
            {
                await ready.ConfigureAwait(false);
            }
        }
        finally
        {
            file.DangerousRelease();
        }
    }

    /// <returns>Null when it is a regular file.</returns>
    private static unsafe (long Id, Task Ready)? Watch(int fd, uint what)
    {
        lock (_lock)
        {
            if (_epoll < 0)
            {
                _epoll = Libc.epoll_create1(Libc.OpenCloseOnExec);
                if (_epoll < 0)
                {
                    throw LinuxException.Last("epoll_create1");
                }

                new Thread(Serve, maxStackSize: 128 * 1024) { IsBackground = true, Name = "readiness" }.Start();
            }

            var id = ++_last;
            var e = stackalloc byte[16];
            BinaryPrimitives.WriteUInt32LittleEndian(new Span<byte>(e, 4), what | OneShot);
            BinaryPrimitives.WriteInt64LittleEndian(new Span<byte>(e + _eventData, 8), id);
            if (Libc.epoll_ctl(_epoll, Add, fd, e) < 0)
            {
                return Marshal.GetLastPInvokeError() == Errno.NotPermitted ? null : throw LinuxException.Last($"watch descriptor {fd}");
            }

            var waiter = new Waiter(fd, new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously));
            _waiters[id] = waiter;
            return (id, waiter.Ready.Task);
        }
    }

    /// <summary>Stops watching; whoever gets the waiter completes it.</summary>
    private static unsafe TaskCompletionSource? End(long id)
    {
        lock (_lock)
        {
            if (!_waiters.Remove(id, out var waiter))
            {
                return null;
            }

            _ = Libc.epoll_ctl(_epoll, Delete, waiter.Descriptor, null);
            return waiter.Ready;
        }
    }

    private static unsafe void Serve()
    {
        const int batch = 16;
        var events = stackalloc byte[16 * batch];
        while (true)
        {
            var count = Libc.epoll_wait(_epoll, events, batch, -1);
            for (var i = 0; i < count; i++)
            {
                _ = End(BinaryPrimitives.ReadInt64LittleEndian(new ReadOnlySpan<byte>(events + (i * _eventSize) + _eventData, 8)))?.TrySetResult();
            }
        }
    }

    private sealed record Waiter(int Descriptor, TaskCompletionSource Ready);
}
