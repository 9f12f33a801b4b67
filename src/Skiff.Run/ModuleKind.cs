namespace Skiff.Run;

/// <summary>The two binary formats that begin with <c>\0asm</c>.</summary>
internal enum ModuleKind
{
    /// <summary>Not said on the command line; found from the bytes.</summary>
    Unknown,

    /// <summary>A core module: WASI preview 1, entry point <c>_start</c>.</summary>
    Core,

    /// <summary>A component: WASI 0.2, entry point <c>wasi:cli/run</c>.</summary>
    Component,
}

/// <summary>Tells the formats apart by their first eight bytes.</summary>
internal static class ModuleFormat
{
    /// <summary>The kind of module these bytes begin, or what they are instead.</summary>
    /// <param name="bytes">The file, or at least its first eight bytes.</param>
    /// <param name="problem">Null, or a clause with the fix that fits after the name of the file.</param>
    internal static ModuleKind Detect(ReadOnlySpan<byte> bytes, out string? problem)
    {
        problem = null;
        if (bytes.IsEmpty)
        {
            problem = "is empty. Check how the file gets into the image";
            return ModuleKind.Unknown;
        }

        if (!bytes.StartsWith("\0asm"u8))
        {
            problem = "is not WebAssembly: " + Describe(bytes) + ". Give a .wasm file (it begins with 00 61 73 6d)";
            return ModuleKind.Unknown;
        }

        if (bytes.Length < 8)
        {
            problem = "is cut off within its header. Copy or build it again";
            return ModuleKind.Unknown;
        }

        switch (BitConverter.ToUInt32(bytes[4..8]))
        {
            case 0x0000_0001:
                return ModuleKind.Core;
            case 0x0001_000d:
                return ModuleKind.Component;
            default:
                problem = $"is WebAssembly of an unknown version ({Hex(bytes[4..8])}): neither a core module (01 00 00 00) nor a "
                    + "component (0d 00 01 00). Build it with a toolchain that makes one of these";
                return ModuleKind.Unknown;
        }
    }

    private static string Describe(ReadOnlySpan<byte> bytes)
    {
        if (bytes.StartsWith("\u007fELF"u8))
        {
            return "it is an ELF file (a native program, or a module that is compiled already)";
        }

        if (bytes.StartsWith("#!"u8))
        {
            return "it is a script";
        }

        if (bytes.StartsWith("(module"u8) || bytes.StartsWith("(component"u8))
        {
            return "it is the text format; assemble it first";
        }

        return "it begins with " + Hex(bytes[..Math.Min(8, bytes.Length)]);
    }

    private static string Hex(ReadOnlySpan<byte> bytes)
    {
        string text = string.Empty;
        foreach (byte value in bytes)
        {
            text += (text.Length == 0 ? string.Empty : " ") + value.ToString("x2");
        }

        return text;
    }
}
