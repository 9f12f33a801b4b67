using System.Text;

namespace Skiff.Run.Engine;

/// <summary>A component that is a <c>wasi:cli</c> command.</summary>
internal sealed unsafe class ComponentGuest(nint engine, string name, nint component) : Guest(engine, name)
{
    private const string ResourceLimit = "resource limit exceeded";

    /// <inheritdoc/>
    /// <remarks>
    /// The C API cannot link a component without instantiating it, and instantiating runs code. So this instantiates it in a
    /// store that may hold no instance: imports are matched first, then the first core instance is refused, before
    /// any code runs.
    /// </remarks>
    internal override Failure? Check()
    {
        if (EntryPoint() is null)
        {
            return NoEntryPoint();
        }

        nint store = Wasmtime.wasmtime_store_new(Engine, 0, 0);
        Wasmtime.wasmtime_store_limiter(store, memorySize: -1, tableElements: -1, instances: 0, tables: -1, memories: -1);
        EngineError error = Instantiate(Wasmtime.wasmtime_store_context(store), out _);
        return !error.Happened || error.Message.Contains(ResourceLimit, StringComparison.Ordinal) ? null : CannotLink(error);
    }

    /// <inheritdoc/>
    internal override Failure? Run(WasiContext wasi, out int exitCode)
    {
        exitCode = 0;
        if (EntryPoint() is not string entryPoint)
        {
            return NoEntryPoint();
        }

        Failure? failure = wasi.CreateStore(Engine, out nint context);
        if (failure is not null)
        {
            return failure;
        }

        EngineError error = Instantiate(context, out Wasmtime.Opaque instance);
        if (error.Happened)
        {
            return error.IsExit(out exitCode) ? null : IsTrap(error) ? error.ToTrap(Name) : CannotLink(error);
        }

        if (!FindRun(context, instance, entryPoint, out Wasmtime.Opaque run))
        {
            return NoEntryPoint();
        }

        // run: func() -> result
        var result = default(Wasmtime.ComponentValue);
        error = EngineError.From(Wasmtime.wasmtime_component_func_call(run, context, 0, 0, ref result, 1));
        if (error.Happened)
        {
            return error.IsExit(out exitCode) ? null : error.ToTrap(Name);
        }

        exitCode = result.Kind == Wasmtime.ComponentValueResult && result.ResultIsOk == 0 ? 1 : 0;
        return null;
    }

    /// <inheritdoc/>
    internal override Failure? Serialize(out Wasmtime.Vector artifact)
    {
        EngineError error = EngineError.From(Wasmtime.wasmtime_component_serialize(component, out artifact));
        return error.Happened ? Failure.CannotRun($"cannot write out the compiled {Name}: {error.Summary}") : null;
    }

    private static bool FindRun(nint context, in Wasmtime.Opaque instance, string entryPoint, out Wasmtime.Opaque run)
    {
        byte[] interfaceName = Encoding.UTF8.GetBytes(entryPoint);
        nint function = 0;
        fixed (byte* start = interfaceName)
        {
            nint parent = Wasmtime.wasmtime_component_instance_get_export_index(instance, context, 0, start, (nuint)interfaceName.Length);
            fixed (byte* runName = "run"u8)
            {
                if (parent != 0)
                {
                    function = Wasmtime.wasmtime_component_instance_get_export_index(instance, context, parent, runName, 3);
                }
            }
        }

        run = default;
        return function != 0 && Wasmtime.wasmtime_component_instance_get_func(instance, context, function, out run) != 0;
    }

    private static bool IsTrap(EngineError error)
    {
        string message = error.Message;
        return message.Contains("wasm trap", StringComparison.Ordinal) || message.Contains("wasm backtrace", StringComparison.Ordinal);
    }

    private EngineError Instantiate(nint context, out Wasmtime.Opaque instance)
    {
        nint linker = Wasmtime.wasmtime_component_linker_new(Engine);
        EngineError error = EngineError.From(Wasmtime.wasmtime_component_linker_add_wasip2(linker));
        if (error.Happened)
        {
            instance = default;
            return error;
        }

        return EngineError.From(Wasmtime.wasmtime_component_linker_instantiate(linker, context, component, out instance));
    }

    // The version is part of the name: wasi:cli/run@0.2.6.
    private string? EntryPoint()
    {
        nint type = Wasmtime.wasmtime_component_type(component);
        for (nuint index = 0;
            Wasmtime.wasmtime_component_type_export_nth(type, Engine, index, out byte* export, out nuint length, out _) != 0;
            index++)
        {
            var exportName = new ReadOnlySpan<byte>(export, (int)length);
            if (exportName.StartsWith("wasi:cli/run@0.2"u8))
            {
                return Encoding.UTF8.GetString(exportName);
            }
        }

        return null;
    }

    private Failure CannotLink(EngineError error) => Failure.CannotRun(
        $"cannot link {Name}: {error.Summary}. A component gets the interfaces of WASI 0.2 (wasi:cli, filesystem, sockets, clocks, "
        + "random, io) and no more: build it for the wasi:cli/command world, or compose what it lacks into it");

    private Failure NoEntryPoint() => Failure.CannotRun(
        $"cannot run {Name}: it exports no wasi:cli/run@0.2, so it is a library and not a program (a server exports "
        + "wasi:http/incoming-handler instead). Build it for the wasi:cli/command world");
}
