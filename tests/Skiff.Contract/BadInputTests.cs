using System.Text;
using Skiff.Linux.Processes;
using Skiff.Testing;

namespace Skiff.Contract;

/// <summary>Wrong input gets an error of its own, through containerd to the user, and leaves nothing.</summary>
public sealed class BadInputTests(Containerds containerds)
{
    private static readonly (string Program, string Says)[] _programs =
    [
        ("/truncated.wasm", "/truncated.wasm cannot be compiled"),
        ("/cut.wasm", "cut off within its first 8 bytes"),
        ("/empty", "the program /empty is empty"),
        ("/text.txt", "is neither a native program nor WebAssembly"),
        ("/future.wasm", "unknown version (09090909)"),
        ("/unknown-import.wasm", "env::frobnicate"),
        ("/missing.wasm", "no such file or directory"),
    ];

    public static TheoryData<string, string, string> Programs =>
        [.. ContainerdVersion.Tested.SelectMany(v => _programs.Select(p => (v.Name, p.Program, p.Says)))];

    [Theory]
    [MemberData(nameof(Programs))]
    public async Task a_file_that_is_no_program_is_refused_with_its_reason(string version, string program, string says)
    {
        var containerd = await containerds.GetAsync(version);
        var result = await containerd.RunAsync(ProgramTests.Id(), program);
        Assert.NotEqual(0u, result.Status);
        Assert.Contains(says, result.Error, StringComparison.Ordinal);
        await Containerds.NothingLeftAsync(containerd);
    }

    [Theory]
    [MemberData(nameof(Containerds.Versions), MemberType = typeof(Containerds))]
    public async Task a_spec_without_a_process_is_refused(string version)
    {
        var containerd = await containerds.GetAsync(version);
        var spec = Path.Combine(containerd.Folder, "no-process.json");
        await File.WriteAllTextAsync(spec, """{"ociVersion":"1.0.2","root":{"path":"rootfs"},"linux":{}}""");
        var result = await containerd.CtrAsync("run", "--rm", "--runtime", Repository.Shim, "--config", spec, "--rootfs", "/tmp", ProgramTests.Id());
        var other = await containerd.CtrAsync("run", "--rm", "--runtime", Repository.Shim, "--config", spec, ProgramTests.Id());
        Assert.Contains("no object \"process\"", result.Text + other.Text, StringComparison.Ordinal);
        await Containerds.NothingLeftAsync(containerd);
    }

    [Theory]
    [MemberData(nameof(Containerds.Versions), MemberType = typeof(Containerds))]
    public async Task a_runtime_that_is_not_there_is_named(string version)
    {
        var containerd = await containerds.GetAsync(version);
        var settings = Path.Combine(containerd.Folder, "options.toml");
        await File.WriteAllTextAsync(settings, "BinaryName = \"no-such-runc\"\n");
        var result = await containerd.RunAsync(default, ["--runtime-config-path", settings], ProgramTests.Id(), "/hello.wasm");
        Assert.NotEqual(0u, result.Status);
        Assert.Contains("no-such-runc", result.Error, StringComparison.Ordinal);
        await Containerds.NothingLeftAsync(containerd);
    }

    [Fact]
    [Trait(Containerds.Runs, Containerds.Once)]
    public async Task start_refuses_what_is_wrong_and_says_so()
    {
        if (Repository.Missing is { } missing)
        {
            Assert.Skip(missing);
        }

        var bundle = Directory.CreateTempSubdirectory("skiff-bundle-").FullName;
        try
        {
            await SaysAsync(bundle, "c1", "", "config.json cannot be read");
            await File.WriteAllTextAsync(bundle + "/config.json", "this is { not JSON");
            await SaysAsync(bundle, "c1", "", "is not valid JSON");
            await File.WriteAllTextAsync(bundle + "/config.json", "[]");
            await SaysAsync(bundle, "c1", "", "is not a JSON object");
            await File.WriteAllTextAsync(bundle + "/config.json", """{"process":{"args":[]}}""");
            await SaysAsync(bundle, "c1", "", "process.args is empty");
            await SaysAsync(bundle, new string('a', 600), "", "-id has 600 characters; containerd allows 76");
            await SaysAsync(bundle, "../../etc", "", "holds the character '/'");
            await SaysAsync(bundle, "c1", "neither of the two", "is neither the bootstrap parameters");
            await File.WriteAllTextAsync(bundle + "/config.json", new string(' ', 17 << 20));
            await SaysAsync(bundle, "c1", "", "at most 16 MiB are read");
        }
        finally
        {
            Directory.Delete(bundle, recursive: true);
        }
    }

    private static async Task SaysAsync(string bundle, string id, string input, string says)
    {
        var request = new SpawnRequest
        {
            Path = Repository.Shim,
            Arguments = [Repository.Shim, "-namespace", "skiff-test", "-id", id, "-address", bundle + "/none.sock", "start"],
            WorkingDirectory = bundle,
        };
        var result = await Command.RunAsync(request, RunningContainer.Patience, Encoding.UTF8.GetBytes(input));
        Assert.Equal((1u, ""), (result.Exit.ShellCode, result.OutputText));
        Assert.Contains(says, result.Error, StringComparison.Ordinal);
    }
}
