using System.Runtime.InteropServices;
using Skiff.Run.Engine;

namespace Skiff.Run.Compile;

/// <summary>The <c>engine-key</c> command: one line that changes whenever an artifact would.</summary>
internal static unsafe class EngineKey
{
    /// <summary>Prints version of the engine, digest of its library, and digest of an empty module's artifact.</summary>
    /// <remarks>
    /// The engine writes into each artifact what it depends on (version, settings, target, CPU features) and checks that at load. The
    /// artifact of an empty module is that and nothing else, so its digest is the engine's own word on what matters, and
    /// no list of CPU features has to be kept here.
    /// </remarks>
    internal static Failure? Print()
    {
        ReadOnlySpan<byte> empty = "\0asm\u0001\0\0\0"u8;
        fixed (byte* start = empty)
        {
            EngineError error = EngineError.From(
                Wasmtime.wasmtime_module_new(WasmEngine.Create(), start, (nuint)empty.Length, out nint module));
            Wasmtime.Vector artifact = default;
            if (!error.Happened)
            {
                error = EngineError.From(Wasmtime.wasmtime_module_serialize(module, out artifact));
            }

            if (error.Happened)
            {
                return Failure.CannotRun($"cannot compile an empty module: {error.Summary}. The engine does not work on this machine");
            }

            string architecture = RuntimeInformation.ProcessArchitecture.ToString().ToLowerInvariant();
            Output.WriteLine(
                $"wasmtime-{BuildInfo.EngineVersion}-{architecture}-{BuildInfo.EngineDigest[..16]}-{Fnv1a(artifact.Bytes):x16}");
            return null;
        }
    }

    // Nobody attacks this digest: its input is the engine's. The framework's SHA-256 would need OpenSSL in the container.
    internal static ulong Fnv1a(ReadOnlySpan<byte> bytes)
    {
        ulong hash = 0xcbf29ce484222325;
        foreach (byte value in bytes)
        {
            hash = (hash ^ value) * 0x100000001b3;
        }

        return hash;
    }
}
