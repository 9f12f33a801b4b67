using Skiff.Testing;

namespace Skiff.Contract;

/// <summary>What programs see and how they end, for each kind of program on each containerd.</summary>
public sealed class ProgramTests(Containerds containerds)
{
    private static readonly string[] _kinds = [".wasm", ".component.wasm", ".native"];

    public static TheoryData<string, string> Kinds => [.. ContainerdVersion.Tested.SelectMany(v => _kinds.Select(k => (v.Name, k)))];

    public static TheoryData<string, string, string, uint> Statuses =>
        [.. ContainerdVersion.Tested.SelectMany(v => new uint[] { 0, 1, 42, 255 }.Select(s => (v.Name, s)))
            .SelectMany(x => new[] { (x.Name, ".wasm", $"{x.s}", x.s), (x.Name, ".native", $"{x.s}", x.s) })];

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task hello_says_hello(string version, string kind)
    {
        var containerd = await containerds.GetAsync(version);
        var result = await containerd.RunAsync(Id(), "/hello" + kind, "a", "b");
        Assert.Equal((0u, $"hello from {(kind == ".native" ? "native" : "wasm")}, 3 arguments\n"), (result.Status, result.Text));
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task a_program_sees_its_arguments_environment_directory_input_files_and_mounts(string version, string kind)
    {
        var containerd = await containerds.GetAsync(version);
        var folder = Directory.CreateDirectory(Path.Combine(containerd.Folder, "mounts-" + Id())).FullName;
        _ = Directory.CreateDirectory(folder + "/ro");
        _ = Directory.CreateDirectory(folder + "/rw");
        await File.WriteAllTextAsync(folder + "/ro/data.txt", "data");
        var result = await containerd.RunAsync(
            "from stdin"u8.ToArray(),
            ["--cwd", "/work", "--env", "SKIFF_CHECK=a=b c", "--mount", $"type=bind,src={folder}/ro,dst=/data,options=rbind:ro",
                "--mount", $"type=bind,src={folder}/rw,dst=/rw,options=rbind:rw"],
            Id(), "/check" + kind, "one", "two words", "");
        Assert.Equal(
            "ok args\nok env\nok stdin\nok cwd\nok rootfs-read\nok rootfs-write\nok mount-read\nok mount-write\nok mount-read-only\n", result.Output);
        Assert.Equal((0u, "checked\n"), (result.Status, result.Error));
        Assert.Equal("new", await File.ReadAllTextAsync(folder + "/rw/new.txt"));
    }

    [Theory]
    [MemberData(nameof(Statuses))]
    public async Task an_exit_status_is_exact(string version, string kind, string argument, uint expected)
    {
        var containerd = await containerds.GetAsync(version);
        Assert.Equal(expected, (await containerd.RunAsync(Id(), "/exit" + kind, argument)).Status);
    }

    // wasi:cli/exit of WASI 0.2 takes a result, not a number.
    [Theory]
    [MemberData(nameof(Containerds.Versions), MemberType = typeof(Containerds))]
    public async Task a_component_exits_with_0_or_1(string version)
    {
        var containerd = await containerds.GetAsync(version);
        Assert.Equal(0u, (await containerd.RunAsync(Id(), "/exit.component.wasm", "0")).Status);
        Assert.Equal(1u, (await containerd.RunAsync(Id(), "/exit.component.wasm", "42")).Status);
    }

    [Theory]
    [InlineData("unreachable", "unreachable")]
    [InlineData("oob", "out of bounds memory access")]
    [InlineData("stack", "call stack exhausted")]
    [InlineData("div0", "integer divide by zero")]
    [Trait(Containerds.Runs, Containerds.Once)]
    public async Task a_trap_is_134_with_its_reason_and_backtrace(string trap, string reason)
    {
        var containerd = await containerds.GetAsync("1.6");
        foreach (var kind in (string[])[".wasm", ".component.wasm"])
        {
            var result = await containerd.RunAsync(Id(), "/trap" + kind, trap);
            Assert.Equal(134u, result.Status);
            Assert.Contains(reason, result.Error, StringComparison.Ordinal);
            Assert.Contains("wasm backtrace", result.Error, StringComparison.Ordinal);
        }
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task a_megabyte_goes_through_unchanged(string version, string kind)
    {
        var containerd = await containerds.GetAsync(version);
        var input = new byte[1 << 20];
        new Random(1).NextBytes(input);
        for (var i = 0; i < input.Length; i++)
        {
            input[i] = (byte)('a' + (input[i] % 26));
        }

        var result = await containerd.RunAsync(input, [], Id(), "/cat" + kind);
        Assert.Equal(0u, result.Status);
        Assert.Equal(System.Text.Encoding.ASCII.GetString(input), result.Output);
    }

    internal static string Id() => "c" + Guid.NewGuid().ToString("n")[..12];
}
