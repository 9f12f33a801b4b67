using System.Runtime.InteropServices;
using System.Text;

namespace Skiff.Run.Compile;

/// <summary>How the compiler gives up everything before it reads a module, which may come from anybody.</summary>
/// <remarks>
/// <para>In two halves, because namespaces and <c>no_new_privs</c> belong to a thread, and the runtime has started others before
/// <c>Main</c>: the first half sets what survives <c>execve</c> and executes the program again, which leaves one thread and no handle but 0, 1
/// and 2. The second half gives up the file system and the user. That comes last because the program and its libraries may lie in a
/// folder that nobody else may enter.</para>
/// <para>What is not permitted to begin with (namespaces when not root, or root without CAP_SYS_ADMIN) is done without.
/// What keeps the process from being root must work.</para>
/// </remarks>
internal static unsafe class Confinement
{
    private const uint Nobody = 65534;

    // A folder that every machine has and that nothing here needs; /proc is read while the runtime starts.
    private const string EmptyRoot = "/sys";

    // Seconds of CPU time over all threads. The 26 MB of CPython take 15.
    private const ulong CpuSeconds = 120;

    // Handles: three streams, and what the engine's thread pool takes.
    private const ulong OpenFiles = 64;

    // The largest artifact, in bytes: code is up to four times the size of its module.
    private const ulong FileSize = 4ul * 512 << 20;

    /// <summary>The first half. Returns only when it failed.</summary>
    /// <param name="args">The program's own arguments, the first of which is to become <see cref="CommandLine.ConfinedVerb"/>.</param>
    internal static Failure? EnterByExecutingAgain(string[] args)
    {
        if (Libc.geteuid() == 0)
        {
            // Refused without CAP_SYS_ADMIN.
            _ = Libc.unshare(Libc.CloneNewNet | Libc.CloneNewIpc | Libc.CloneNewNs | Libc.CloneNewUts) == 0
                && Libc.mount(null, "/", null, Libc.MsRec | Libc.MsPrivate, null) == 0
                && Libc.mount("none", EmptyRoot, "tmpfs", Libc.MsRdonly, "size=4k,mode=555") == 0;
        }

        if (Libc.prctl(Libc.PrSetNoNewPrivs, 1, 0, 0, 0) != 0)
        {
            return Failed("set no_new_privs");
        }

        if (!Limit(Libc.RlimitCore, 0) || !Limit(Libc.RlimitFsize, FileSize) || !Limit(Libc.RlimitNofile, OpenFiles)
            || !Limit(Libc.RlimitCpu, CpuSeconds))
        {
            return Failed("set resource limits");
        }

        if (Libc.close_range(3, uint.MaxValue, Libc.CloseRangeCloexec) != 0)
        {
            return Failed("mark handles to be closed");
        }

        return ExecuteAgain(args.Length);
    }

    /// <summary>The second half.</summary>
    internal static Failure? Complete()
    {
        if (Libc.geteuid() == 0)
        {
            LeaveFileSystem();
            if (Libc.setgroups(0, null) != 0 || Libc.setresgid(Nobody, Nobody, Nobody) != 0 || Libc.setresuid(Nobody, Nobody, Nobody) != 0)
            {
                return Failed("become nobody");
            }
        }

        // After the last change of user, which may reset it. Keeps others who are nobody from attaching.
        return Libc.prctl(Libc.PrSetDumpable, 0, 0, 0, 0) == 0 ? null : Failed("become undumpable");
    }

    // Moves to the empty, read-only root, if the first half could make one. It is told by its file system: whoever runs the
    // second half by hand must not be moved into the machine's own /sys.
    private static void LeaveFileSystem()
    {
        const long TmpfsMagic = 0x01021994;
        byte* info = stackalloc byte[Libc.StatfsSize];
        _ = Libc.statfs(EmptyRoot, info) == 0
            && *(long*)info == TmpfsMagic
            && Libc.chroot(EmptyRoot) == 0
            && Libc.chdir("/") == 0;
    }

    private static bool Limit(int resource, ulong value)
    {
        if (Libc.getrlimit(resource, out Libc.ResourceLimit limit) != 0)
        {
            return false;
        }

        limit.Hard = ulong.Min(limit.Hard, resource == Libc.RlimitCpu ? value + 5 : value);
        limit.Soft = ulong.Min(limit.Hard, value);
        return Libc.setrlimit(resource, limit) == 0;
    }

    // The same command line with another verb, also when it begins with an explicit loader
    // (ld-linux --library-path DIR DIR/skiff-run compile): /proc/self/exe is the loader then, and the arguments are its.
    private static Failure? ExecuteAgain(int argumentCount)
    {
        using NativeBuffer? commandLine = NativeBuffer.ReadFile("/proc/self/cmdline", 1 << 20, out string? problem);
        if (commandLine is null)
        {
            return Failure.CannotRun($"cannot confine the compiler: read /proc/self/cmdline: {problem}");
        }

        var arguments = new List<nint>();
        byte* start = commandLine.Start;
        byte* end = start + commandLine.Length;
        while (start < end)
        {
            arguments.Add((nint)start);
            start += MemoryMarshal.CreateReadOnlySpanFromNullTerminated(start).Length + 1;
        }

        int verb = arguments.Count - argumentCount;
        arguments.Add(0);
        nint environment = 0;
        fixed (byte* program = "/proc/self/exe\0"u8)
        fixed (byte* confined = Encoding.UTF8.GetBytes(CommandLine.ConfinedVerb + "\0"))
        fixed (nint* pointers = CollectionsMarshal.AsSpan(arguments))
        {
            pointers[verb] = (nint)confined;
            _ = Libc.execve(program, (byte**)pointers, (byte**)&environment);
        }

        return Failed("execute again");
    }

    private static Failure Failed(string what) => Failure.CannotRun($"cannot confine the compiler: {what}: {Libc.LastError()}");
}
