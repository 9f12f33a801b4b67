using Wasmtime;
using Wasmtime.Components;

namespace Skiff.Run;

/// <summary>
/// Turns a module into the engine's native code. It reads untrusted input, so the shim runs it in a container of its own, with nothing
/// but two open files: the module as standard input, the artifact as standard output.
/// </summary>
internal static class Compilation
{
    private const int HeaderSize = 8;

    /// <summary>The largest module that is compiled, in bytes; the largest that anybody ships today are a tenth of it.</summary>
    private const long Limit = 512 << 20;

    /// <summary>Compiles standard input to standard output.</summary>
    /// <returns>0; 126 when it is no module that can be compiled, with the reason on stderr.</returns>
    public static int Run(RunOptions options)
    {
        using var input = Console.OpenStandardInput();
        using var buffer = new MemoryStream();
        var block = new byte[64 << 10];
        for (int count; (count = input.Read(block)) > 0;)
        {
            buffer.Write(block, 0, count);
            if (buffer.Length > Limit)
            {
                return Libc.Report($"the module is larger than {Limit >> 20} MiB", RunOptions.CannotRun);
            }
        }

        var module = buffer.GetBuffer().AsSpan(0, (int)buffer.Length);
        if (!IsWasm(module))
        {
            return Libc.Report("the module is not WebAssembly, or was cut off", RunOptions.CannotRun);
        }

        byte[] artifact;
        try
        {
            var isComponent = IsComponent(module);
            using var engine = NewEngine(isComponent, options.MaxMemory);
            if (isComponent)
            {
                using var component = Component.FromBytes(engine, module);
                artifact = component.Serialize();
            }
            else
            {
                using var core = Module.FromBytes(engine, "module", module);
                artifact = core.Serialize();
            }
        }
        catch (WasmtimeException e)
        {
            return Libc.Report(e.Message.TrimEnd(), RunOptions.CannotRun);
        }

        using var output = Console.OpenStandardOutput();
        output.Write(artifact);
        return 0;
    }

    /// <summary>The engine, set up alike for compiling and for running: an artifact loads only under the settings it was made with.</summary>
    /// <param name="isComponent">Whether it is for a component.</param>
    /// <param name="maxMemory">The most memory the guest may have, in bytes, or null. An artifact made with a limit runs only with one, of whatever size.</param>
    public static Engine NewEngine(bool isComponent, ulong? maxMemory = null)
    {
        using var config = new Config();
        _ = config.WithComponentModel(isComponent);
        if (maxMemory is { } limit)
        {
            GuestMemory.Limit(config, limit);
        }

        return new Engine(config);
    }

    /// <summary>Whether it begins like WebAssembly (core specification 5.5.16).</summary>
    public static bool IsWasm(ReadOnlySpan<byte> header) => header.Length >= HeaderSize && header.StartsWith("\0asm"u8);

    /// <summary>Whether a header that is WebAssembly's says component (component-model Binary.md, the layer field).</summary>
    public static bool IsComponent(ReadOnlySpan<byte> header) => header[6] == 1;
}
