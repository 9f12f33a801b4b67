using System.Runtime.InteropServices;

namespace Skiff.Operator.Tests.Node;

/// <summary>A bundle of a few bytes.</summary>
internal sealed class FakeBundle : IDisposable
{
    public FakeBundle(string content = "one")
    {
        Folder = Directory.CreateTempSubdirectory("skiff-bundle-").FullName;
        _ = Directory.CreateDirectory(Path.Combine(Folder, "bin"));
        _ = Directory.CreateDirectory(Path.Combine(Folder, "run", "deeper"));
        var machine = RuntimeInformation.OSArchitecture == Architecture.Arm64 ? (byte)183 : (byte)62;
        byte[] elf = [0x7F, (byte)'E', (byte)'L', (byte)'F', .. new byte[14], machine, 0, .. System.Text.Encoding.UTF8.GetBytes(content)];
        File.WriteAllBytes(Shim, elf);
        File.SetUnixFileMode(Shim, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        File.WriteAllText(Path.Combine(Folder, "run", "skiff-run"), "runner");
        File.WriteAllText(Path.Combine(Folder, "run", "deeper", "library"), "library");
        File.WriteAllText(Path.Combine(Folder, "bin", "skiff-operator"), "not installed");
    }

    public string Folder { get; }

    public string Shim => Path.Combine(Folder, "bin", "containerd-shim-skiff-v1");

    public void Dispose() => Directory.Delete(Folder, recursive: true);
}
