namespace Skiff.Run.Engine;

/// <summary>The engine with this project's settings. What compiles and what loads must agree on them: an artifact names its settings.</summary>
internal static class WasmEngine
{
    /// <summary>Makes the engine of this process.</summary>
    internal static nint Create()
    {
        nint config = Wasmtime.wasm_config_new();
        Wasmtime.wasmtime_config_cranelift_opt_level_set(config, Wasmtime.OptimizeForSpeed);

        // Tables for native unwinders and debuggers. The engine's own backtraces do not use them, artifacts are smaller
        // without, and a load need not register them.
        Wasmtime.wasmtime_config_native_unwind_info_set(config, 0);
        return Wasmtime.wasm_engine_new_with_config(config);
    }
}
