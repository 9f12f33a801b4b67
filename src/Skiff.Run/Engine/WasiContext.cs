using System.Runtime.InteropServices;
using System.Text;

namespace Skiff.Run.Engine;

/// <summary>What the guest gets from its container: arguments, environment, standard streams, directories, network.</summary>
internal sealed unsafe class WasiContext(ReadOnlyMemory<string> arguments, byte** environment, IReadOnlyList<Preopen> directories)
{
    /// <summary>Makes the store that the guest runs in.</summary>
    internal Failure? CreateStore(nint engine, out nint context)
    {
        nint config = Wasmtime.wasi_config_new();
        Wasmtime.wasi_config_inherit_stdin(config);
        Wasmtime.wasi_config_inherit_stdout(config);
        Wasmtime.wasi_config_inherit_stderr(config);

        // Which addresses there are to reach is for the container's network namespace to say, as for a native program. Only components
        // can ask; preview 1 has no sockets to open.
        Wasmtime.wasi_config_inherit_network(config);
        Wasmtime.wasi_config_allow_ip_name_lookup(config, 1);

        context = 0;
        Failure? failure = SetArguments(config) ?? SetEnvironment(config) ?? SetDirectories(config);
        if (failure is not null)
        {
            return failure;
        }

        nint store = Wasmtime.wasmtime_store_new(engine, 0, 0);
        context = Wasmtime.wasmtime_store_context(store);
        EngineError error = EngineError.From(Wasmtime.wasmtime_context_set_wasi(context, config));
        return error.Happened ? Failure.CannotRun($"cannot set up WASI: {error.Summary}") : null;
    }

    private Failure? SetArguments(nint config)
    {
        ReadOnlySpan<string> values = arguments.Span;
        byte** pointers = (byte**)NativeMemory.Alloc((nuint)values.Length, (nuint)sizeof(byte*));
        for (int i = 0; i < values.Length; i++)
        {
            pointers[i] = (byte*)Marshal.StringToCoTaskMemUTF8(values[i]);
        }

        return Wasmtime.wasi_config_set_argv(config, (nuint)values.Length, pointers) != 0
            ? null
            : Failure.CannotRun("an argument is not UTF-8, which WASI needs it to be");
    }

    // Byte for byte and in order, with duplicates, as execve(2) left it: NAME=value pairs that end with a null pointer.
    private Failure? SetEnvironment(nint config)
    {
        nuint count = 0;
        for (byte** entry = environment; *entry != null; entry++)
        {
            count++;
        }

        byte** names = (byte**)NativeMemory.Alloc(count + 1, (nuint)sizeof(byte*));
        byte** values = (byte**)NativeMemory.Alloc(count + 1, (nuint)sizeof(byte*));
        nuint used = 0;
        for (byte** entry = environment; *entry != null; entry++)
        {
            ReadOnlySpan<byte> text = MemoryMarshal.CreateReadOnlySpanFromNullTerminated(*entry);
            int split = text.IndexOf((byte)'=');
            if (split <= 0)
            {
                // Not a variable; C programs cannot find it either.
                continue;
            }

            byte* copy = (byte*)NativeMemory.Alloc((nuint)text.Length + 1);
            text.CopyTo(new Span<byte>(copy, text.Length));
            copy[text.Length] = 0;
            copy[split] = 0;
            names[used] = copy;
            values[used] = copy + split + 1;
            used++;
        }

        return Wasmtime.wasi_config_set_env(config, used, names, values) != 0
            ? null
            : Failure.CannotRun("an environment variable is not UTF-8, which WASI needs it to be");
    }

    private Failure? SetDirectories(nint config)
    {
        foreach (Preopen directory in directories)
        {
            fixed (byte* host = Libc.Terminated(directory.HostPath))
            fixed (byte* guest = Libc.Terminated(directory.GuestPath))
            {
                if (Wasmtime.wasi_config_preopen_dir(config, host, guest, directory.ReadOnly ? (byte)0 : (byte)1) != 0)
                {
                    continue;
                }
            }

            if (!directory.Optional)
            {
                return Failure.CannotRun(
                    $"cannot open the directory {directory.HostPath} (for the guest: {directory.GuestPath}). Check that it is there, is a "
                    + "directory and that the container's user may read it");
            }
        }

        return null;
    }
}
