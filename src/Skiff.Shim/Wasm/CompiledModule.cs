using System.Buffers.Binary;
using Microsoft.Win32.SafeHandles;

namespace Skiff.Shim.Wasm;

/// <summary>The files that Wasmtime compiles modules to: ELF files of a kind of their own (Wasmtime, crates/environ/src/obj.rs).</summary>
internal static class CompiledModule
{
    private const int HeaderSize = 64;

    // Places in an ELF header of 64 bits (gABI, "ELF Header").
    private const int OsAbi = 7;
    private const int SectionsAt = 40;
    private const int SectionSizeAt = 58;
    private const int SectionCountAt = 60;

    private const byte OsAbiOfWasmtime = 200;

    /// <summary>Whether a file begins as one of them.</summary>
    /// <param name="header">Its first 8 bytes.</param>
    public static bool IsOne(ReadOnlySpan<byte> header) => header.StartsWith("\u007fELF"u8) && header.Length > OsAbi && header[OsAbi] == OsAbiOfWasmtime;

    /// <summary>Whether a file is one of them, and not cut off. What is in it only the engine knows.</summary>
    /// <param name="file">The file.</param>
    /// <exception cref="IOException">It cannot be read.</exception>
    public static bool IsWhole(SafeFileHandle file)
    {
        Span<byte> header = stackalloc byte[HeaderSize];
        if (RandomAccess.Read(file, header, 0) != HeaderSize || !IsOne(header))
        {
            return false;
        }

        // The table of its sections comes last.
        var start = BinaryPrimitives.ReadUInt64LittleEndian(header[SectionsAt..]);
        var size = (ulong)BinaryPrimitives.ReadUInt16LittleEndian(header[SectionSizeAt..]) * BinaryPrimitives.ReadUInt16LittleEndian(header[SectionCountAt..]);
        var length = (ulong)RandomAccess.GetLength(file);
        return size > 0 && start <= length && size <= length - start;
    }
}
