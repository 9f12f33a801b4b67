using Wasmtime;
using Wasmtime.Components;

namespace Skiff.Run;

/// <summary>Loads a module or component and runs it as the container's program.</summary>
internal static class Guest
{
    /// <summary>What a shell shows for a program that ended by SIGABRT, which is what native programs do on a failed assertion.</summary>
    public const int Trapped = 134;

    private const int HeaderSize = 8;

    private const string Fix = "build it for wasm32-wasip1 (a command with _start) or as a wasi:cli component";

    /// <summary>Runs it to its end.</summary>
    /// <returns>The exit status: the guest's own, 134 for a trap, 126 when it cannot be run; stderr then says why.</returns>
    public static int Run(RunOptions options)
    {
        // With an artifact the first bytes are enough: they say which kind it is.
        byte[] bytes;
        try
        {
            bytes = options.Artifact.Length == 0 ? File.ReadAllBytes(options.Module) : ReadHeader(options.Module);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return Libc.Report($"{options.Module} cannot be read: {e.Message}", RunOptions.CannotRun);
        }

        if (!Compilation.IsWasm(bytes))
        {
            return Libc.Report($"{options.Module} is not WebAssembly, or was cut off; {Fix}", RunOptions.CannotRun);
        }

        var component = Compilation.IsComponent(bytes);
        using var engine = Compilation.NewEngine(component, options.MaxMemory);
        using var store = new Store(engine);
        Func<int>? entry;
        try
        {
            if (GuestWasi.Give(store, options) is { } missing)
            {
                return Libc.Report(missing, RunOptions.CannotRun);
            }

            entry = component ? LoadComponent(engine, store, options, bytes) : LoadModule(engine, store, options, bytes);
        }
        catch (WasmtimeException e) when (e is not TrapException && e.ExitCode is null)
        {
            return Libc.Report($"{options.Module} cannot be loaded: {e.Message.TrimEnd()}{(GuestMemory.IsReason(e) ? "" : "; " + Fix)}", RunOptions.CannotRun);
        }
        catch (WasmtimeException e)
        {
            return Ended(e); // by its start function, before its entry
        }

        if (entry is null)
        {
            return Libc.Report($"{options.Module} {(component ? "does not export wasi:cli/run@0.2" : "has no function _start")}; {Fix}", RunOptions.CannotRun);
        }

        try
        {
            return entry();
        }
        catch (WasmtimeException e)
        {
            return Ended(e);
        }
    }

    private static byte[] ReadHeader(string path)
    {
        using var file = File.OpenHandle(path);
        var header = new byte[HeaderSize];
        return header[..RandomAccess.Read(file, header, 0)];
    }

    /// <returns>What runs it, or null when it has no entry.</returns>
    private static Func<int>? LoadModule(Engine engine, Store store, RunOptions options, byte[] bytes)
    {
        var name = Path.GetFileName(options.Module);
        var module = Load(options, bytes, artifact => Module.DeserializeFile(engine, name, artifact), all => Module.FromBytes(engine, name, all));
        using var linker = new Linker(engine);
        linker.DefineWasi();

        // The engine's own proc_exit traps for statuses of 126 and more, which native programs and shells use.
        linker.AllowShadowing = true;
        linker.Define("wasi_snapshot_preview1", "proc_exit", Function.FromCallback(store, (int status) => Libc._exit(status & 0xff)));
        if (linker.Instantiate(store, module).GetAction("_start") is not { } start)
        {
            return null;
        }

        return () =>
        {
            start();
            return 0;
        };
    }

    /// <returns>What runs it, or null when it has no entry.</returns>
    private static Func<int>? LoadComponent(Engine engine, Store store, RunOptions options, byte[] bytes)
    {
        var component = Load(options, bytes, artifact => Component.DeserializeFile(engine, artifact), all => Component.FromBytes(engine, all));
        using var linker = new ComponentLinker(engine);
        linker.AddWasiPreview2();
        if (options.Http)
        {
            GuestWasi.AddHttp(store, linker);
        }

        var instance = linker.Instantiate(store, component);

        // The interface's version is part of its name; any 0.2 will do.
        ComponentFunction? run = null;
        for (var patch = 0; run is null && patch < 32; patch++)
        {
            run = instance.GetFunction($"wasi:cli/run@0.2.{patch}", "run");
        }

        return run is null ? null : () => run.Call() is { IsOk: false } ? 1 : 0;
    }

    /// <summary>Takes what was compiled before, or compiles it where that does not load.</summary>
    private static T Load<T>(RunOptions options, byte[] bytes, Func<string, T> load, Func<byte[], T> compile)
    {
        if (options.Artifact.Length == 0)
        {
            return compile(bytes);
        }

        try
        {
            return load(options.Artifact);
        }
        catch (WasmtimeException e)
        {
            _ = Libc.Report(
                $"what this node has compiled of {options.Module} does not load ({e.Message.ReplaceLineEndings(" ").TrimEnd()}), so it is compiled here, which costs time and memory; "
                + "the node's compiled modules are in /var/lib/skiff/cache and can be removed",
                0);
            return compile(File.ReadAllBytes(options.Module));
        }
    }

    private static int Ended(WasmtimeException e)
    {
        if (e.ExitCode is { } status)
        {
            return status;
        }

        var reason = TrapReason.Of(e.Message);
        Reports.Trapped((int?)TrapReason.CodeOf(e, reason), reason);
        return Libc.Report($"{reason}\n{e.Message.TrimEnd()}", Trapped); // the message holds the backtrace
    }
}
