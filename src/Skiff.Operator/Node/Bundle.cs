using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using Skiff.Linux.Files;

namespace Skiff.Operator.Node;

/// <summary>A file of a bundle.</summary>
/// <param name="Path">Its path in the bundle, such as <c>bin/containerd-shim-skiff-v1</c>.</param>
/// <param name="Source">Where this process finds it.</param>
/// <param name="Size">Bytes.</param>
/// <param name="Sha256">The hash of its content.</param>
/// <param name="IsProgram">Whether it is executable.</param>
internal sealed record BundleFile(string Path, string Source, long Size, byte[] Sha256, bool IsProgram)
{
    /// <summary>Its permission bits on a node: 0755 or 0644.</summary>
    public uint Mode => IsProgram ? 0x1EDu : 0x1A4u;
}

/// <summary>What is installed: the shim, what it reads images with, and the folder that becomes <c>/.skiff</c> in a Wasm container. Other files beside them are left out.</summary>
internal sealed class Bundle
{
    /// <summary>The most files it may have.</summary>
    public const int FileLimit = 1000;

    /// <summary>The most bytes that all files may have together.</summary>
    public const long SizeLimit = 1L << 30;

    private const int DigestLength = 32;

    private Bundle(IReadOnlyList<BundleFile> files)
    {
        Files = files;
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var file in files)
        {
            hash.AppendData(Encoding.UTF8.GetBytes($"{(file.IsProgram ? 'x' : '-')} {Convert.ToHexStringLower(file.Sha256)} {file.Path}\n"));
        }

        Digest = Convert.ToHexStringLower(hash.GetCurrentHash())[..DigestLength];
    }

    /// <summary>Its files, ordered by path.</summary>
    public IReadOnlyList<BundleFile> Files { get; }

    /// <summary>The first 32 hexadecimal digits of a SHA-256 over every path, mode and content: its name on a node.</summary>
    public string Digest { get; }

    /// <summary>The bytes of all files.</summary>
    public long Size => Files.Sum(f => f.Size);

    /// <summary>Whether a folder below <see cref="NodePaths.Versions"/> has the form of a digest.</summary>
    public static bool IsDigest(string name) => name.Length == DigestLength && name.All(char.IsAsciiHexDigitLower);

    /// <summary>Reads and hashes a bundle.</summary>
    /// <returns>The bundle, or what is wrong with it and what to do.</returns>
    public static bool TryRead(string folder, [NotNullWhen(true)] out Bundle? bundle, [NotNullWhen(false)] out string? problem)
    {
        bundle = null;
        try
        {
            problem = Read(folder, out bundle);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            problem = $"the bundle {folder} cannot be read: {e.Message}";
        }

        return problem is null && bundle is not null;
    }

    private static string? Read(string folder, out Bundle? bundle)
    {
        bundle = null;
        const string remedy = "--bundle names a folder with bin/containerd-shim-skiff-v1 and run/ (hack/build makes one: out/)";
        var shim = Path.Combine(folder, NodePaths.Shim);
        var run = Path.Combine(folder, NodePaths.Run);
        if (!File.Exists(shim) || !Directory.Exists(run))
        {
            return $"{folder} is no bundle: {(File.Exists(shim) ? "run/" : NodePaths.Shim)} is not in it; {remedy}";
        }

        if (ArchitectureProblem(shim) is { } wrong)
        {
            return wrong;
        }

        // Not following links: a link could lead out of the bundle, to what is there on another machine.
        var options = new EnumerationOptions { RecurseSubdirectories = true, AttributesToSkip = 0, ReturnSpecialDirectories = false };
        List<string> paths = [NodePaths.Shim];
        if (File.Exists(Path.Combine(folder, NodePaths.ImageReader)))
        {
            paths.Add(NodePaths.ImageReader);
        }

        foreach (var path in Directory.EnumerateFileSystemEntries(run, "*", options))
        {
            var status = FileStatus.Of(path, followLink: false);
            if (status is { IsFolder: true })
            {
                continue;
            }

            if (status is not { IsFile: true })
            {
                return $"{path} in the bundle is not a regular file: copy its content there instead; {remedy}";
            }

            paths.Add(Path.GetRelativePath(folder, path));
            if (paths.Count > FileLimit)
            {
                return $"{folder} has more than {FileLimit} files: that is no bundle; {remedy}";
            }
        }

        paths.Sort(StringComparer.Ordinal);
        List<BundleFile> files = [];
        long size = 0;
        foreach (var path in paths)
        {
            var source = Path.Combine(folder, path);
            using var content = new FileStream(source, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0);
            size += content.Length;
            if (size > SizeLimit)
            {
                return $"{folder} has more than {SizeLimit >> 20} MiB: that is no bundle; {remedy}";
            }

            const uint anyExecute = 0x49;
            files.Add(new BundleFile(
                path, source, content.Length, SHA256.HashData(content), (FileStatus.Of(source, followLink: true)!.Value.Mode & anyExecute) != 0));
        }

        bundle = new Bundle(files);
        return null;
    }

    private static string? ArchitectureProblem(string program)
    {
        // ELF: the magic number, and e_machine at 18.
        var header = new byte[20];
        using var file = File.OpenHandle(program);
        if (RandomAccess.Read(file, header, 0) < header.Length || !header.AsSpan().StartsWith((ReadOnlySpan<byte>)[0x7F, (byte)'E', (byte)'L', (byte)'F']))
        {
            return $"{program} is not a program (no ELF header): build the bundle again (hack/build)";
        }

        int machine = BinaryPrimitives.ReadUInt16LittleEndian(header.AsSpan(18));
        const int x64 = 62;
        const int arm64 = 183;
        var wanted = RuntimeInformation.OSArchitecture switch { Architecture.X64 => x64, Architecture.Arm64 => arm64, _ => -1 };
        return machine == wanted ? null
            : wanted < 0 ? $"this node's processor ({RuntimeInformation.OSArchitecture}) is not supported: x86-64 and arm64 are; "
                + "keep this node out by a nodeSelector"
            : $"{program} is for another processor (ELF machine {machine}, this node's is {wanted}): use the bundle for {RuntimeInformation.OSArchitecture}";
    }
}
