using System.Runtime.InteropServices;

namespace Skiff.Run.Engine;

/// <summary>The <c>run</c> command.</summary>
internal static unsafe class GuestRunner
{
    /// <summary>The largest module that is read: the engine's own limit on a function body is far below, and memory is not endless.</summary>
    internal const nuint ModuleSizeLimit = 512u << 20;

    /// <summary>Loads what the command line names and runs it.</summary>
    internal static Failure? Run(CommandLine command, out int exitCode)
    {
        // 1. What the container gives, before the environment is cleared.
        string workingDirectory = Preopens.WorkingDirectory();
        IReadOnlyList<Preopen> directories = command.Directories.Count > 0
            ? command.Directories
            : Preopens.Default(workingDirectory, Preopens.TopLevelDirectories);
        var wasi = new WasiContext(command.GuestArguments, GuestEnvironment(workingDirectory), directories);

        // 2. The engine reads variables as well (RUST_BACKTRACE, WASMTIME_*, RAYON_*, TOKIO_*). The container's are meant for the guest, so
        //    the engine sees none of them, but for this: its runtime would start a thread for each of the node's CPUs.
        _ = Libc.clearenv();
        _ = Libc.setenv("TOKIO_WORKER_THREADS", "1", 1);

        // 3. The module.
        exitCode = 0;
        nint engine = WasmEngine.Create();
        Failure? failure = command.IsArtifact
            ? Guest.Load(engine, command.Kind, command.Path, out Guest? guest)
            : CompileFile(engine, command, out guest);

        // 4. The guest.
        return failure ?? guest!.Run(wasi, out exitCode);
    }

    private static Failure? CompileFile(nint engine, CommandLine command, out Guest? guest)
    {
        guest = null;
        using NativeBuffer? bytes = NativeBuffer.ReadFile(command.Path, ModuleSizeLimit, out string? problem);
        if (bytes is null)
        {
            return Failure.CannotRun($"cannot read {command.Path}: {problem}. Check the path of the module in the image");
        }

        ModuleKind kind = ModuleFormat.Detect(bytes.Span, out problem);
        if (problem is not null)
        {
            return Failure.CannotRun($"{command.Path} {problem}");
        }

        if (command.Kind != ModuleKind.Unknown && command.Kind != kind)
        {
            return Failure.CannotRun($"{command.Path} is a {kind.ToString().ToLowerInvariant()} module, which --kind denies. Leave out --kind");
        }

        return Guest.Compile(engine, kind, command.Path, bytes, out guest);
    }

    // The C library's array: the managed environment would lose order, duplicates and bytes that are not UTF-8.
    private static byte** GuestEnvironment(string workingDirectory)
    {
        byte** own = *(byte***)NativeLibrary.GetExport(NativeLibrary.GetMainProgramHandle(), "environ");
        if (own == null)
        {
            own = (byte**)NativeMemory.AllocZeroed((nuint)sizeof(byte*));
        }

        nuint count = 0;
        bool hasPwd = false;
        for (; own[count] != null; count++)
        {
            hasPwd |= MemoryMarshal.CreateReadOnlySpanFromNullTerminated(own[count]).StartsWith("PWD="u8);
        }

        byte** all = (byte**)NativeMemory.AllocZeroed(count + 2, (nuint)sizeof(byte*));
        for (nuint i = 0; i < count; i++)
        {
            all[i] = own[i];
        }

        // A shell would have set it, and it is how Go's guests learn their working directory.
        if (!hasPwd && workingDirectory != "/")
        {
            all[count] = (byte*)Marshal.StringToCoTaskMemUTF8("PWD=" + workingDirectory);
        }

        return all;
    }
}
