using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace Skiff.Linux.Processes;

/// <summary>
/// Starts children, adopts those that the kernel hands us as subreaper, and reaps each through its pidfd.
/// </summary>
/// <remarks>
/// <para>Nothing here waits for "any child": that would take the exit code of a process whose owner has not asked for it yet. One thread
/// waits on all pidfds with epoll and reaps exactly the one that is readable.</para>
/// <para>A subreaper also becomes the parent of processes it never heard of (a daemon whose parent died). Those are reaped on SIGCHLD,
/// but a process that somebody is about to <see cref="Adopt"/> looks the same: a container's init can die between the OCI runtime's
/// return and our reading of its pid file. While an <see cref="ExpectAdoption"/> scope is open, unknown zombies are therefore left
/// alone; closing the last scope looks again.</para>
/// </remarks>
public sealed unsafe class Reaper
{
    private const int EpollAdd = 1;
    private const uint EpollIn = 1;
    private const int SignalInfoSize = 128;

    private static readonly Lazy<Reaper> _shared = new(() => new Reaper(TimeProvider.System));

    // struct epoll_event is packed on x86-64 only.
    private static readonly int _eventSize = RuntimeInformation.ProcessArchitecture == Architecture.X64 ? 12 : 16;
    private static readonly int _eventData = _eventSize - 8;

    private readonly Lock _lock = new();
    private readonly Dictionary<int, ChildProcess> _children = [];
    private readonly TimeProvider _time;
    private readonly int _epoll; // open as long as the process
    private PosixSignalRegistration? _childSignal;
    private int _expected;

    private Reaper(TimeProvider time)
    {
        _time = time;
        _epoll = Libc.epoll_create1(Libc.OpenCloseOnExec);
        if (_epoll < 0)
        {
            throw LinuxException.Last("epoll_create1");
        }

        new Thread(Watch, maxStackSize: 128 * 1024) { IsBackground = true, Name = "reaper" }.Start();
    }

    /// <summary>The one reaper of this process: children belong to a process, not to an object.</summary>
    public static Reaper Shared => _shared.Value;

    /// <summary>Starts a program.</summary>
    /// <exception cref="LinuxException">It could not be started; the message names it.</exception>
    public ChildProcess Spawn(SpawnRequest request)
    {
        ArgumentNullException.ThrowIfNull(request);

        // Under the lock, so that a sweep for orphans cannot meet the child before it is known.
        lock (_lock)
        {
            return Track(Spawner.Spawn(request));
        }
    }

    /// <summary>Takes over a child that somebody else started, usually a container's init whose creator has exited.</summary>
    /// <exception cref="LinuxException">There is no such process.</exception>
    public ChildProcess Adopt(int pid)
    {
        lock (_lock)
        {
            return _children.TryGetValue(pid, out var known) ? known : Track(pid);
        }
    }

    /// <summary>Makes the kernel hand us orphaned descendants (PR_SET_CHILD_SUBREAPER), and reaps those nobody adopts.</summary>
    public void BecomeSubreaper()
    {
        const int setChildSubreaper = 36;
        if (Libc.prctl(setChildSubreaper, 1, 0, 0, 0) < 0)
        {
            throw LinuxException.Last("prctl PR_SET_CHILD_SUBREAPER");
        }

        _childSignal ??= PosixSignalRegistration.Create(PosixSignal.SIGCHLD, _ => ReapOrphans());
        ReapOrphans();
    }

    /// <summary>Until disposed, zombies that nobody knows are left for <see cref="Adopt"/>.</summary>
    public AdoptionScope ExpectAdoption()
    {
        lock (_lock)
        {
            _expected++;
        }

        return new AdoptionScope(this);
    }

    private ChildProcess Track(int pid)
    {
        var pidFd = PidFds.Open(pid) ?? throw new LinuxException($"adopt process {pid}", Errno.NoProcess);
        var child = new ChildProcess(pid, pidFd);
        _children[pid] = child;

        var e = stackalloc byte[16];
        BinaryPrimitives.WriteUInt32LittleEndian(new Span<byte>(e, 4), EpollIn);
        BinaryPrimitives.WriteInt64LittleEndian(new Span<byte>(e + _eventData, 8), pid);
        if (Libc.epoll_ctl(_epoll, EpollAdd, (int)pidFd.DangerousGetHandle(), e) < 0)
        {
            throw LinuxException.Last($"watch process {pid}");
        }

        return child;
    }

    private void Watch()
    {
        const int batch = 16;
        var events = stackalloc byte[16 * batch];
        while (true)
        {
            var count = Libc.epoll_wait(_epoll, events, batch, -1);
            for (var i = 0; i < count; i++)
            {
                Reap((int)BinaryPrimitives.ReadInt64LittleEndian(new ReadOnlySpan<byte>(events + (i * _eventSize) + _eventData, 8)));
            }
        }
    }

    private void Reap(int pid)
    {
        ChildProcess? child;
        ExitStatus status;
        lock (_lock)
        {
            if (!_children.Remove(pid, out child))
            {
                return;
            }

            var info = stackalloc byte[SignalInfoSize];
            var fd = (uint)child.PidFd.DangerousGetHandle();
            status = Libc.waitid(Libc.WaitPidFd, fd, info, Libc.WaitExited, null) == 0
                ? Decode(info)
                : new ExitStatus(255, 0, _time.GetUtcNow()); // not our child: that it ended is all that can be known
        }

        child.Ended(status);
        ReapOrphans(); // a sweep stops at a zombie it has to leave to us, so look again
    }

    private ExitStatus Decode(byte* info)
    {
        const int exited = 1;
        var code = *(int*)(info + 8);
        var status = *(int*)(info + 24);
        return code == exited ? new ExitStatus(status, 0, _time.GetUtcNow()) : new ExitStatus(0, status, _time.GetUtcNow());
    }

    private void ReapOrphans()
    {
        lock (_lock)
        {
            if (_childSignal is null)
            {
                return;
            }

            var info = stackalloc byte[SignalInfoSize];
            while (_expected == 0)
            {
                *(int*)(info + 16) = 0;
                var found = Libc.waitid(Libc.WaitAny, 0, info, Libc.WaitExited | Libc.WaitNoHang | Libc.WaitNoReap, null);
                var pid = *(int*)(info + 16);
                if (found < 0 || pid == 0 || _children.ContainsKey(pid))
                {
                    return;
                }

                _ = Libc.waitid(Libc.WaitPid, (uint)pid, info, Libc.WaitExited | Libc.WaitNoHang, null);
            }
        }
    }

    private void AdoptionEnded()
    {
        lock (_lock)
        {
            _expected--;
        }

        ReapOrphans();
    }

    /// <summary>The time in which a child may appear that somebody will adopt.</summary>
    public readonly struct AdoptionScope : IDisposable
    {
        private readonly Reaper _reaper;

        internal AdoptionScope(Reaper reaper) => _reaper = reaper;

        /// <summary>Nobody is coming any more: unknown zombies are reaped again.</summary>
        public void Dispose() => _reaper.AdoptionEnded();
    }
}
