using System.Runtime.InteropServices;
using System.Text;

namespace Skiff.Linux.Processes;

/// <summary>
/// posix_spawn(3). A runtime with threads must not fork: between fork and exec only async-signal-safe code may run, which managed code
/// is not. The C library's posix_spawn shares memory with the child until it has exec'd, so it costs the same however large we are.
/// </summary>
internal static unsafe class Spawner
{
    // Both types are opaque; glibc's are 80 and 336 bytes, sigset_t is 128.
    private const int FileActionsSize = 512;
    private const int AttributesSize = 512;
    private const int SignalSetSize = 128;

    private const short SetProcessGroup = 0x02;
    private const short SetSignalDefault = 0x04;
    private const short SetSignalMask = 0x08;
    private const short SetSession = 0x80;

    /// <summary>Starts the program and returns its process id. The caller has to reap it.</summary>
    /// <exception cref="LinuxException">It could not be started; the message names the program.</exception>
    internal static int Spawn(SpawnRequest request)
    {
        var actions = stackalloc byte[FileActionsSize];
        var attributes = stackalloc byte[AttributesSize];
        var signals = stackalloc byte[SignalSetSize];
        List<int> sources = [];
        var added = false;
        byte** argv = null;
        byte** envp = null;

        Check(Libc.posix_spawn_file_actions_init(actions), request);
        Check(Libc.posix_spawnattr_init(attributes), request);
        try
        {
            // 1. Signals: the runtime ignores SIGPIPE and blocks some in its threads; a program must not inherit either.
            Check(Libc.sigfillset(signals), request);
            Check(Libc.posix_spawnattr_setsigdefault(attributes, signals), request);
            Check(Libc.sigemptyset(signals), request);
            Check(Libc.posix_spawnattr_setsigmask(attributes, signals), request);
            var flags = (short)(SetSignalDefault | SetSignalMask);
            if (request.NewSession)
            {
                flags |= SetSession;
            }
            else if (request.NewProcessGroup)
            {
                flags |= SetProcessGroup;
                Check(Libc.posix_spawnattr_setpgroup(attributes, 0), request);
            }

            Check(Libc.posix_spawnattr_setflags(attributes, flags), request);

            // 2. Files: every descriptor of this process is close-on-exec; dup2 clears that for the ones named.
            for (var fd = 0; fd <= 2; fd++)
            {
                if (!request.Files.ContainsKey(fd))
                {
                    Check(Libc.posix_spawn_file_actions_addopen(actions, fd, "/dev/null", Libc.OpenReadWrite, 0), request);
                }
            }

            // Sources are first moved above all targets, so that no dup2 of the list overwrites one that a later dup2 still needs; and not far above:
            // where the kernel's table of descriptors has to grow (at 64, 128, …), a process with threads waits for all processors, some 10 ms.
            var above = request.Files.Keys.DefaultIfEmpty().Max() + 1;
            foreach (var (target, handle) in request.Files)
            {
                handle.DangerousAddRef(ref added);
                var source = Libc.fcntl((int)handle.DangerousGetHandle(), Libc.FcntlDupCloseOnExec, above);
                var error = Marshal.GetLastPInvokeError();
                handle.DangerousRelease();
                added = false;
                Check(source < 0 ? error : 0, request);
                sources.Add(source);
                Check(Libc.posix_spawn_file_actions_adddup2(actions, source, target), request);
            }

            // 3. The working directory comes last, so that a relative program path is looked up there, as after a chdir.
            if (request.WorkingDirectory is { } directory)
            {
                Check(Libc.posix_spawn_file_actions_addchdir_np(actions, directory), request);
            }

            argv = Strings(request.Arguments);
            envp = Strings(request.Environment ?? ThisProcess.EnvironmentWithout());
            // 4. Go. In other namespaces only this call is made.
            return request.NamespacesOf is { } process
                ? Namespaces.RunIn(process, () => Start(request, actions, attributes, argv, envp))
                : Start(request, actions, attributes, argv, envp);
        }
        finally
        {
            _ = Libc.posix_spawn_file_actions_destroy(actions);
            _ = Libc.posix_spawnattr_destroy(attributes);
            foreach (var source in sources)
            {
                _ = Libc.close(source);
            }

            NativeMemory.Free(argv);
            NativeMemory.Free(envp);
        }
    }

    private static int Start(SpawnRequest request, byte* actions, byte* attributes, byte** argv, byte** envp)
    {
        int pid;
        Check(Libc.posix_spawn(&pid, request.Path, actions, attributes, argv, envp), request);
        return pid;
    }

    private static void Check(int error, SpawnRequest request)
    {
        if (error != 0)
        {
            throw new LinuxException($"start {request.Path}", error);
        }
    }

    /// <summary>One block: the null-ended array of pointers, then the strings it points to.</summary>
    private static byte** Strings(IReadOnlyList<string> values)
    {
        var table = (values.Count + 1) * sizeof(byte*);
        var size = table;
        for (var i = 0; i < values.Count; i++)
        {
            if (values[i].Contains('\0'))
            {
                throw new ArgumentException($"argument {i} holds a NUL character", nameof(values));
            }

            size += Encoding.UTF8.GetByteCount(values[i]) + 1;
        }

        var block = (byte*)NativeMemory.Alloc((nuint)size);
        var pointers = (byte**)block;
        var next = block + table;
        for (var i = 0; i < values.Count; i++)
        {
            pointers[i] = next;
            next += Encoding.UTF8.GetBytes(values[i], new Span<byte>(next, (int)(block + size - next)));
            *next++ = 0;
        }

        pointers[values.Count] = null;
        return pointers;
    }
}
