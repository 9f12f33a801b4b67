using System.Text;

namespace Skiff.Run.Engine;

/// <summary>A core module that is a WASI preview 1 command.</summary>
internal sealed unsafe class CoreGuest(nint engine, string name, nint module) : Guest(engine, name)
{
    /// <inheritdoc/>
    internal override Failure? Check()
    {
        Failure? failure = Link(out _);
        if (failure is not null)
        {
            return failure;
        }

        Wasmtime.wasmtime_module_exports(module, out Wasmtime.Vector exports);
        foreach (nint export in exports.Pointers)
        {
            if (Wasmtime.wasm_exporttype_name(export)->Bytes.SequenceEqual("_start"u8)
                && Wasmtime.wasm_externtype_kind(Wasmtime.wasm_exporttype_type(export)) == Wasmtime.ExternFunction)
            {
                return null;
            }
        }

        return NoEntryPoint();
    }

    /// <inheritdoc/>
    internal override Failure? Run(WasiContext wasi, out int exitCode)
    {
        exitCode = 0;
        Failure? failure = Link(out nint instancePre) ?? wasi.CreateStore(Engine, out nint context);
        if (failure is not null)
        {
            return failure;
        }

        // Runs guest code already, if the module has a start function.
        nint error = Wasmtime.wasmtime_instance_pre_instantiate(instancePre, context, out Wasmtime.Opaque instance, out nint trap);
        EngineError ended = EngineError.From(error, trap);
        if (!ended.Happened)
        {
            Wasmtime.Extern start;
            fixed (byte* startName = "_start"u8)
            {
                if (Wasmtime.wasmtime_instance_export_get(context, instance, startName, 6, out start) == 0
                    || start.Kind != Wasmtime.ExternFunction)
                {
                    return NoEntryPoint();
                }
            }

            error = Wasmtime.wasmtime_func_call(context, start.Of, 0, 0, 0, 0, out trap);
            ended = EngineError.From(error, trap);
        }

        return !ended.Happened || ended.IsExit(out exitCode) ? null : ended.ToTrap(Name);
    }

    /// <inheritdoc/>
    internal override Failure? Serialize(out Wasmtime.Vector artifact)
    {
        EngineError error = EngineError.From(Wasmtime.wasmtime_module_serialize(module, out artifact));
        return error.Happened ? Failure.CannotRun($"cannot write out the compiled {Name}: {error.Summary}") : null;
    }

    private Failure? Link(out nint instancePre)
    {
        nint linker = Wasmtime.wasmtime_linker_new(Engine);
        EngineError error = EngineError.From(Wasmtime.wasmtime_linker_define_wasi(linker));
        if (!error.Happened)
        {
            error = EngineError.From(Wasmtime.wasmtime_linker_instantiate_pre(linker, module, out instancePre));
            if (!error.Happened)
            {
                return null;
            }
        }

        instancePre = 0;
        string missing = MissingImports(linker);
        return Failure.CannotRun(missing.Length > 0
            ? $"cannot link {Name}: nothing provides what it imports: {missing}. A core module gets wasi_snapshot_preview1 (WASI 0.1) and "
                + "no more: build it for wasm32-wasip1 and leave out what needs another host (emscripten, a browser, wasi-threads)"
            : $"cannot link {Name}: {error.Summary}. Build it for wasm32-wasip1 with a current toolchain");
    }

    // The engine names the first one only; all of them say sooner what the module was built for.
    private string MissingImports(nint linker)
    {
        nint store = Wasmtime.wasmtime_store_new(Engine, 0, 0);
        nint context = Wasmtime.wasmtime_store_context(store);
        Wasmtime.wasmtime_module_imports(module, out Wasmtime.Vector imports);
        var names = new StringBuilder();
        foreach (nint import in imports.Pointers)
        {
            Wasmtime.Vector* from = Wasmtime.wasm_importtype_module(import);
            Wasmtime.Vector* item = Wasmtime.wasm_importtype_name(import);
            if (Wasmtime.wasmtime_linker_get(linker, context, from->Data, from->Size, item->Data, item->Size, out _) == 0)
            {
                names.Append(names.Length == 0 ? string.Empty : ", ")
                    .Append('"').Append(Encoding.UTF8.GetString(item->Bytes)).Append("\" from module \"")
                    .Append(Encoding.UTF8.GetString(from->Bytes)).Append('"');
            }
        }

        return names.ToString();
    }

    private Failure NoEntryPoint() => Failure.CannotRun(
        $"cannot run {Name}: it exports no function \"_start\", so it is a library and not a program. Build it as a command "
        + "(a binary crate; clang without -mexec-model=reactor)");
}
