using System.Text;
using Microsoft.Extensions.Logging.Abstractions;
using Skiff.Containerd.Events;
using Skiff.Linux.Files;
using Skiff.Shim.Wasm;

namespace Skiff.Shim.Tests;

public sealed class GuestReportsTests
{
    private readonly List<GuestReport> _said = [];

    [Theory]
    [InlineData("memory 65536 131072 196608", """{ "memory": { "asked": "65536", "used": "131072", "limit": "196608" } }""")]
    [InlineData("trap 9 wasm trap: wasm `unreachable` instruction executed", """{ "trap": { "code": 9, "reason": "wasm trap: wasm `unreachable` instruction executed" } }""")]
    [InlineData("trap -1 cannot leave the component", """{ "trap": { "reason": "cannot leave the component" } }""")]
    [InlineData("trap 1 a\tb\u0007c", """{ "trap": { "code": 1, "reason": "a b c" } }""")]
    public void a_line_is_a_report(string line, string expected) => Assert.Equal(expected, GuestReports.Parse(Encoding.UTF8.GetBytes(line))!.ToString());

    [Theory]
    [InlineData("")]
    [InlineData("trap")]
    [InlineData("trap 1 ")]
    [InlineData("trap one reason")]
    [InlineData("memory 1 2")]
    [InlineData("memory 1 2 3 4")]
    [InlineData("memory -1 2 3")]
    [InlineData("memory 1 2 99999999999999999999999")]
    [InlineData("exit 1 x")]
    public void what_makes_no_sense_is_none(string line) => Assert.Null(GuestReports.Parse(Encoding.UTF8.GetBytes(line)));

    [Fact]
    public void a_reason_has_an_end() => Assert.Equal(256, GuestReports.Parse(Encoding.UTF8.GetBytes("trap 1 " + new string('x', 3000)))!.Trap.Reason.Length);

    [Fact]
    public async Task what_was_written_before_the_runner_ended_is_reported_though_somebody_holds_the_pipe()
    {
        await using var reports = new GuestReports(_said.Add, NullLogger.Instance);
        using var held = OpenDescriptor.Duplicate(reports.ForRunner);
        reports.HandedOver();
        Write(held, "memory 1 2 3\nnonsense\ntrap 1 last\ntrap 2 cut o");
        await reports.CompleteAsync();
        Assert.Equal([1u, 0u], _said.Select(r => r.Trap?.Code ?? 0).OrderDescending());
        Assert.Equal(["memory", "trap"], _said.Select(r => r.Memory is not null ? "memory" : "trap"));
    }

    [Fact]
    public async Task no_process_says_more_than_four_kilobytes()
    {
        await using var reports = new GuestReports(_said.Add, NullLogger.Instance);
        Write(reports.ForRunner, string.Concat(Enumerable.Repeat("memory 1 2 3\n", 1000)));
        await reports.CompleteAsync();
        Assert.Equal(GuestReports.MostBytes / "memory 1 2 3\n".Length, _said.Count);
    }

    private static void Write(Microsoft.Win32.SafeHandles.SafeFileHandle file, string text)
    {
        using var stream = new FileStream(OpenDescriptor.Duplicate(file), FileAccess.Write, 0);
        stream.Write(Encoding.UTF8.GetBytes(text));
    }
}
