using System.Runtime.InteropServices;

namespace Skiff.Run.Engine;

/// <summary>The part of Wasmtime's C API that this program calls, in the <c>libwasmtime.so</c> of the NuGet package.</summary>
/// <remarks>
/// The package's managed classes lack what is needed here and hide the handles it takes to add that: the guest's network
/// (<c>wasi_config_inherit_network</c>), linking without running (<c>wasmtime_linker_instantiate_pre</c>), the imports and exports of
/// components. Half of each would mean two owners for each handle. Names and signatures are the C headers'; those
/// structs that are only passed on are larger here than there, so that a field which a later version appends has room.
/// </remarks>
internal static unsafe partial class Wasmtime
{
    private const string Library = "wasmtime";

    internal const byte ExternFunction = 0;
    internal const byte ComponentValueResult = 19;
    internal const byte OptimizeForSpeed = 1;

    [LibraryImport(Library)]
    internal static partial nint wasm_config_new();

    [LibraryImport(Library)]
    internal static partial nint wasm_engine_new_with_config(nint config);

    [LibraryImport(Library)]
    internal static partial void wasmtime_config_native_unwind_info_set(nint config, byte enable);

    [LibraryImport(Library)]
    internal static partial void wasmtime_config_parallel_compilation_set(nint config, byte enable);

    [LibraryImport(Library)]
    internal static partial void wasmtime_config_cranelift_opt_level_set(nint config, byte level);

    [LibraryImport(Library)]
    internal static partial nint wasmtime_store_new(nint engine, nint data, nint finalizer);

    [LibraryImport(Library)]
    internal static partial nint wasmtime_store_context(nint store);

    [LibraryImport(Library)]
    internal static partial void wasmtime_store_limiter(nint store, long memorySize, long tableElements, long instances, long tables, long memories);

    [LibraryImport(Library)]
    internal static partial nint wasmtime_context_set_wasi(nint context, nint wasiConfig);

    [LibraryImport(Library)]
    internal static partial nint wasmtime_module_new(nint engine, byte* bytes, nuint length, out nint module);

    [LibraryImport(Library)]
    internal static partial nint wasmtime_module_deserialize_file(nint engine, byte* path, out nint module);

    [LibraryImport(Library)]
    internal static partial nint wasmtime_module_serialize(nint module, out Vector bytes);

    [LibraryImport(Library)]
    internal static partial void wasmtime_module_imports(nint module, out Vector imports);

    [LibraryImport(Library)]
    internal static partial void wasmtime_module_exports(nint module, out Vector exports);

    [LibraryImport(Library)]
    internal static partial Vector* wasm_importtype_module(nint import);

    [LibraryImport(Library)]
    internal static partial Vector* wasm_importtype_name(nint import);

    [LibraryImport(Library)]
    internal static partial Vector* wasm_exporttype_name(nint export);

    [LibraryImport(Library)]
    internal static partial nint wasm_exporttype_type(nint export);

    [LibraryImport(Library)]
    internal static partial byte wasm_externtype_kind(nint externType);

    [LibraryImport(Library)]
    internal static partial nint wasmtime_linker_new(nint engine);

    [LibraryImport(Library)]
    internal static partial nint wasmtime_linker_define_wasi(nint linker);

    [LibraryImport(Library)]
    internal static partial byte wasmtime_linker_get(
        nint linker, nint context, byte* module, nuint moduleLength, byte* name, nuint nameLength, out Extern item);

    [LibraryImport(Library)]
    internal static partial nint wasmtime_linker_instantiate_pre(nint linker, nint module, out nint instancePre);

    [LibraryImport(Library)]
    internal static partial nint wasmtime_instance_pre_instantiate(nint instancePre, nint context, out Opaque instance, out nint trap);

    [LibraryImport(Library)]
    internal static partial byte wasmtime_instance_export_get(nint context, in Opaque instance, byte* name, nuint nameLength, out Extern item);

    [LibraryImport(Library)]
    internal static partial nint wasmtime_func_call(
        nint context, in Opaque function, nint args, nuint argCount, nint results, nuint resultCount, out nint trap);

    [LibraryImport(Library)]
    internal static partial nint wasmtime_component_new(nint engine, byte* bytes, nuint length, out nint component);

    [LibraryImport(Library)]
    internal static partial nint wasmtime_component_deserialize_file(nint engine, byte* path, out nint component);

    [LibraryImport(Library)]
    internal static partial nint wasmtime_component_serialize(nint component, out Vector bytes);

    [LibraryImport(Library)]
    internal static partial nint wasmtime_component_type(nint component);

    [LibraryImport(Library)]
    internal static partial byte wasmtime_component_type_export_nth(
        nint type, nint engine, nuint index, out byte* name, out nuint nameLength, out Opaque item);

    [LibraryImport(Library)]
    internal static partial nint wasmtime_component_linker_new(nint engine);

    [LibraryImport(Library)]
    internal static partial nint wasmtime_component_linker_add_wasip2(nint linker);

    [LibraryImport(Library)]
    internal static partial nint wasmtime_component_linker_instantiate(nint linker, nint context, nint component, out Opaque instance);

    [LibraryImport(Library)]
    internal static partial nint wasmtime_component_instance_get_export_index(
        in Opaque instance, nint context, nint parentIndex, byte* name, nuint nameLength);

    [LibraryImport(Library)]
    internal static partial byte wasmtime_component_instance_get_func(in Opaque instance, nint context, nint index, out Opaque function);

    [LibraryImport(Library)]
    internal static partial nint wasmtime_component_func_call(
        in Opaque function, nint context, nint args, nuint argCount, ref ComponentValue results, nuint resultCount);

    [LibraryImport(Library)]
    internal static partial nint wasi_config_new();

    [LibraryImport(Library)]
    internal static partial byte wasi_config_set_argv(nint config, nuint count, byte** values);

    [LibraryImport(Library)]
    internal static partial byte wasi_config_set_env(nint config, nuint count, byte** names, byte** values);

    [LibraryImport(Library)]
    internal static partial void wasi_config_inherit_stdin(nint config);

    [LibraryImport(Library)]
    internal static partial void wasi_config_inherit_stdout(nint config);

    [LibraryImport(Library)]
    internal static partial void wasi_config_inherit_stderr(nint config);

    [LibraryImport(Library)]
    internal static partial void wasi_config_inherit_network(nint config);

    [LibraryImport(Library)]
    internal static partial void wasi_config_allow_ip_name_lookup(nint config, byte enable);

    [LibraryImport(Library)]
    internal static partial byte wasi_config_preopen_dir(nint config, byte* hostPath, byte* guestPath, byte mutable);

    [LibraryImport(Library)]
    internal static partial void wasmtime_error_message(nint error, out Vector message);

    [LibraryImport(Library)]
    internal static partial byte wasmtime_error_exit_status(nint error, out int status);

    [LibraryImport(Library)]
    internal static partial void wasm_trap_message(nint trap, out Vector message);

    [LibraryImport(Library)]
    internal static partial void wasm_trap_trace(nint trap, out Vector frames);

    [LibraryImport(Library)]
    internal static partial void wasmtime_error_wasm_trace(nint error, out Vector frames);

    [LibraryImport(Library)]
    internal static partial Vector* wasmtime_frame_func_name(nint frame);

    [LibraryImport(Library)]
    internal static partial Vector* wasmtime_frame_module_name(nint frame);

    [LibraryImport(Library)]
    internal static partial nuint wasm_frame_module_offset(nint frame);

    [LibraryImport(Library)]
    internal static partial uint wasm_frame_func_index(nint frame);

    /// <summary><c>wasm_byte_vec_t</c>, and the vectors of pointers, which look the same.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct Vector
    {
        internal nuint Size;
        internal byte* Data;

        /// <summary>The bytes of a byte vector.</summary>
        internal readonly ReadOnlySpan<byte> Bytes => new(Data, (int)Size);

        /// <summary>The elements of a vector of pointers.</summary>
        internal readonly ReadOnlySpan<nint> Pointers => new(Data, (int)Size);
    }

    /// <summary>An instance, function or item that is only handed back: 16 to 32 bytes in this version.</summary>
    [StructLayout(LayoutKind.Sequential, Size = 64)]
    internal struct Opaque
    {
        internal ulong First;
    }

    /// <summary><c>wasmtime_extern_t</c>: a kind and a union that begins at the next multiple of eight.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct Extern
    {
        internal byte Kind;
        internal Opaque Of;
    }

    /// <summary><c>wasmtime_component_val_t</c>, as far as a <c>result</c> without values needs it.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 64)]
    internal struct ComponentValue
    {
        [FieldOffset(0)]
        internal byte Kind;

        [FieldOffset(8)]
        internal byte ResultIsOk;
    }
}
