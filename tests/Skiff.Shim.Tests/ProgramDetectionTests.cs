using Skiff.Shim.OciRuntime;
using Skiff.Shim.Wasm;

namespace Skiff.Shim.Tests;

public sealed class ProgramDetectionTests : IDisposable
{
    private static readonly byte[] _core = [0, (byte)'a', (byte)'s', (byte)'m', 1, 0, 0, 0];
    private static readonly byte[] _component = [0, (byte)'a', (byte)'s', (byte)'m', 13, 0, 1, 0];

    private readonly string _bundle = Directory.CreateTempSubdirectory("skiff-bundle-").FullName;

    public ProgramDetectionTests()
    {
        _ = Directory.CreateDirectory(_bundle + "/rootfs/bin");
        _ = Directory.CreateDirectory(_bundle + "/volume");
        File.WriteAllBytes(_bundle + "/rootfs/bin/app.wasm", _core);
        File.WriteAllBytes(_bundle + "/rootfs/here.wasm", _component);
        File.WriteAllBytes(_bundle + "/volume/mounted.wasm", _core);
        File.WriteAllText(_bundle + "/rootfs/bin/script", "#!/bin/sh\n");
        _ = File.CreateSymbolicLink(_bundle + "/rootfs/bin/link", "/bin/app.wasm");
    }

    public void Dispose() => Directory.Delete(_bundle, recursive: true);

    [Theory]
    [InlineData("/bin/app.wasm", "Core", "/bin/app.wasm")]
    [InlineData("app.wasm", "Core", "/bin/app.wasm")]
    [InlineData("link", "Core", "/bin/link")]
    [InlineData("bin/app.wasm", "Core", "/bin/app.wasm")]
    [InlineData("here.wasm", "Component", "/here.wasm")]
    [InlineData("/data/mounted.wasm", "Core", "/data/mounted.wasm")]
    [InlineData("script", "Native", "/bin/script")]
    [InlineData("/not/there", "Missing", "/not/there")]
    [InlineData("/bin", "Missing", "/bin")]
    public void the_program_is_found_as_the_oci_runtime_finds_it(string argument, string kind, string path)
    {
        File.WriteAllText(_bundle + "/config.json", $$"""
            {"process":{"args":["{{argument}}"],"cwd":"/","env":["PATH=/usr/bin:/bin"]},
             "mounts":[{"destination":"/data","type":"bind","source":"{{_bundle}}/volume"}]}
            """);
        var (spec, problem) = OciSpec.Load(_bundle);
        Assert.Null(problem);
        var found = ProgramDetection.Detect(spec!.Process, p => ProgramDetection.Open(spec, _bundle + "/rootfs", p));
        Assert.Equal((Enum.Parse<ProgramKind>(kind), path, null), found);
    }

    [Fact]
    public void what_was_compiled_before_is_refused_with_what_to_ship_instead()
    {
        var (_, problem) = ProgramDetection.Classify([0x7f, (byte)'E', (byte)'L', (byte)'F', 2, 1, 1, 200], "/app.cwasm");
        Assert.StartsWith("the program /app.cwasm was compiled from WebAssembly before (wasmtime compile)", problem, StringComparison.Ordinal);
        Assert.Equal((ProgramKind.Native, null), ProgramDetection.Classify([0x7f, (byte)'E', (byte)'L', (byte)'F', 2, 1, 1, 0], "/app"));
    }
}
