using Microsoft.Win32.SafeHandles;
using Skiff.Linux;
using Skiff.Linux.Files;
using Skiff.Shim.OciRuntime;

namespace Skiff.Shim.Wasm;

/// <summary>What a container's first argument is.</summary>
internal enum ProgramKind
{
    /// <summary>An ELF file or a script: the OCI runtime runs it.</summary>
    Native,

    /// <summary>Not there, as far as we can see.</summary>
    Missing,

    /// <summary>A core WebAssembly module.</summary>
    Core,

    /// <summary>A WebAssembly component.</summary>
    Component,
}

/// <summary>Finds the program that a container will run, as the OCI runtime will, and tells what it is by its first bytes.</summary>
internal static class ProgramDetection
{
    private const string DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    private const int HeaderSize = 8;

    /// <summary>Looks at the program.</summary>
    /// <param name="process">What is to run.</param>
    /// <param name="open">Opens a file by its path in the container; null when there is none.</param>
    /// <returns>Its kind and its path in the container, or why it cannot be run, naming each step that was tried.</returns>
    public static (ProgramKind Kind, string Path, string? Problem) Detect(OciProcess process, Func<string, SafeFileHandle?> open)
    {
        foreach (var (path, wasmOnly) in Candidates(process))
        {
            byte[]? header;
            try
            {
                header = ReadHeader(open, path);
            }
            catch (LinuxException e)
            {
                return (ProgramKind.Native, path, $"the program {path} cannot be read: {e.Message}");
            }

            if (header is null)
            {
                continue;
            }

            var (kind, problem) = Classify(header, path);
            if (!wasmOnly || (kind != ProgramKind.Native && problem is null))
            {
                return (kind, path, problem);
            }
        }

        return (ProgramKind.Missing, process.Arguments[0], null);
    }

    /// <summary>Tells the kind by magic number (WebAssembly core specification 5.5.16; component-model Binary.md for the layer field).</summary>
    internal static (ProgramKind Kind, string? Problem) Classify(ReadOnlySpan<byte> header, string path)
    {
        if (CompiledModule.IsOne(header))
        {
            return (ProgramKind.Native, $"the program {path} was compiled from WebAssembly before (wasmtime compile), for one engine and one kind of processor; "
                + "put the WebAssembly file itself into the image: each node compiles it once");
        }

        if (header.StartsWith("\u007fELF"u8) || header.StartsWith("#!"u8))
        {
            return (ProgramKind.Native, null);
        }

        if (header.StartsWith("\0asm"u8))
        {
            return header.Length < HeaderSize
                ? (ProgramKind.Core, $"the program {path} is a WebAssembly file cut off within its first {HeaderSize} bytes; build the image again")
                : header[4..] switch
                {
                    [1, 0, 0, 0] => (ProgramKind.Core, null),
                    [_, _, 1, 0] => (ProgramKind.Component, null),
                    _ => (ProgramKind.Core, $"the program {path} is WebAssembly of an unknown version ({Convert.ToHexStringLower(header[4..])}); "
                        + "core modules (01000000) and components (0d000100) are known"),
                };
        }

        var what = header.IsEmpty ? "is empty" : "is neither a native program nor WebAssembly";
        return (ProgramKind.Native, $"the program {path} {what}: tried ELF, script (#!) and WebAssembly (\\0asm); "
            + "its first bytes are " + (header.IsEmpty ? "none" : Convert.ToHexStringLower(header)) + "; check the image's entrypoint");
    }

    private static IEnumerable<(string Path, bool WasmOnly)> Candidates(OciProcess process)
    {
        var name = process.Arguments[0];
        if (name.Contains('/'))
        {
            yield return (Path.Combine(process.WorkingDirectory, name), false);
            yield break;
        }

        var search = process.Environment.LastOrDefault(e => e.StartsWith("PATH=", StringComparison.Ordinal))?[5..] ?? DefaultPath;
        foreach (var folder in search.Split(':', StringSplitOptions.RemoveEmptyEntries))
        {
            yield return (Path.Combine(process.WorkingDirectory, folder, name), false);
        }

        // Images made for Wasm often say just "app.wasm"; no OCI runtime would find that.
        yield return (Path.Combine(process.WorkingDirectory, name), true);
    }

    /// <summary>Looks at a module outside the container.</summary>
    public static (ProgramKind Kind, string? Problem) DetectModule(SafeFileHandle module, string path)
    {
        var (kind, problem) = Classify(ReadHeader(module) ?? [], path);
        return (kind, problem ?? (kind == ProgramKind.Native ? $"{path} is no WebAssembly" : null));
    }

    /// <returns>Null when there is no regular file.</returns>
    private static byte[]? ReadHeader(Func<string, SafeFileHandle?> open, string path)
    {
        using var file = open(path);
        return file is null ? null : ReadHeader(file);
    }

    private static byte[]? ReadHeader(SafeFileHandle file)
    {
        try
        {
            var header = new byte[HeaderSize];
            return header[..RandomAccess.Read(file, header, 0)];
        }
        catch (Exception e) when (e is UnauthorizedAccessException or NotSupportedException or IOException)
        {
            return null; // a folder, a FIFO, a device
        }
    }

    /// <summary>Opens a file of a container that is not built yet: in its mounted root, or in a volume that will cover the place.</summary>
    internal static SafeFileHandle? Open(OciSpec spec, string rootfs, string path)
    {
        // The last mount over a path is the one that is seen.
        for (var i = spec.Binds.Count - 1; i >= 0; i--)
        {
            var (destination, source) = spec.Binds[i];
            destination = destination.TrimEnd('/');
            if (path == destination)
            {
                return File.Exists(source) ? RootedPath.OpenRead("/", source) : null;
            }

            if (path.StartsWith(destination + "/", StringComparison.Ordinal))
            {
                return Directory.Exists(source) ? RootedPath.OpenRead(source, path[(destination.Length + 1)..]) : null;
            }
        }

        return RootedPath.OpenRead(rootfs, path);
    }
}
