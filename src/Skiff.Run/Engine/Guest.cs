namespace Skiff.Run.Engine;

/// <summary>A loaded module of either kind.</summary>
/// <remarks>Nothing is released: each process loads one module and exits with it.</remarks>
internal abstract class Guest
{
    /// <param name="engine">The engine that loaded it.</param>
    /// <param name="name">The name of its file, for messages.</param>
    private protected Guest(nint engine, string name)
    {
        Engine = engine;
        Name = name;
    }

    /// <summary>The engine that loaded the module.</summary>
    private protected nint Engine { get; }

    /// <summary>The name of the module's file, for messages.</summary>
    private protected string Name { get; }

    /// <summary>Compiles a module.</summary>
    internal static unsafe Failure? Compile(nint engine, ModuleKind kind, string name, NativeBuffer bytes, out Guest? guest)
    {
        guest = null;
        nint handle;
        EngineError error = EngineError.From(kind == ModuleKind.Core
            ? Wasmtime.wasmtime_module_new(engine, bytes.Start, bytes.Length, out handle)
            : Wasmtime.wasmtime_component_new(engine, bytes.Start, bytes.Length, out handle));
        if (error.Happened)
        {
            return Failure.CannotRun(
                $"cannot compile {name}: {error.Summary}. The file is damaged or cut off (copy or build it again), or uses a "
                + $"feature that wasmtime {BuildInfo.EngineVersion} does not have (build it without)");
        }

        guest = Create(engine, kind, name, handle);
        return null;
    }

    /// <summary>Maps an artifact: its pages are shared by all processes that map it.</summary>
    internal static unsafe Failure? Load(nint engine, ModuleKind kind, string path, out Guest? guest)
    {
        guest = null;
        nint handle;
        EngineError error;
        fixed (byte* pathBytes = Libc.Terminated(path))
        {
            error = EngineError.From(kind == ModuleKind.Core
                ? Wasmtime.wasmtime_module_deserialize_file(engine, pathBytes, out handle)
                : Wasmtime.wasmtime_component_deserialize_file(engine, pathBytes, out handle));
        }

        if (error.Happened)
        {
            return Failure.CannotRun(
                $"cannot load the compiled {Word(kind)} {path}: {error.Summary}. It has to come from `skiff-run compile` of this "
                + "version on this kind of CPU: remove it from the cache, so that it is compiled again");
        }

        guest = Create(engine, kind, path, handle);
        return null;
    }

    /// <summary>Checks that the module could run, its imports and its entry point, without running any of it.</summary>
    internal abstract Failure? Check();

    /// <summary>Runs the guest to its end.</summary>
    /// <param name="wasi">What the guest gets from its container.</param>
    /// <param name="exitCode">The guest's exit code, when there is no failure.</param>
    internal abstract Failure? Run(WasiContext wasi, out int exitCode);

    /// <summary>The artifact: what <see cref="Load"/> takes.</summary>
    internal abstract Failure? Serialize(out Wasmtime.Vector artifact);

    /// <summary>How users call the kind.</summary>
    private protected static string Word(ModuleKind kind) => kind == ModuleKind.Core ? "module" : "component";

    private static Guest Create(nint engine, ModuleKind kind, string name, nint handle) =>
        kind == ModuleKind.Core ? new CoreGuest(engine, name, handle) : new ComponentGuest(engine, name, handle);
}
