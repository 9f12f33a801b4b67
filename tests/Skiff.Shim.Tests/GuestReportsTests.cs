using System.Text;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using Skiff.Containerd.Events;
using Skiff.Linux.Files;
using Skiff.Shim.Wasm;

namespace Skiff.Shim.Tests;

public sealed class GuestReportsTests
{
    private readonly List<GuestReport> _said = [];
    private readonly FakeTimeProvider _time = new();

    [Theory]
    [InlineData("memory 65536 131072 196608", """{ "memory": { "asked": "65536", "used": "131072", "limit": "196608" } }""")]
    [InlineData("trap 9 wasm trap: wasm `unreachable` instruction executed", """{ "trap": { "code": 9, "reason": "wasm trap: wasm `unreachable` instruction executed" } }""")]
    [InlineData("trap -1 cannot leave the component", """{ "trap": { "reason": "cannot leave the component" } }""")]
    [InlineData("requests 3 9 wasm trap: wasm `unreachable` instruction executed",
        """{ "trap": { "code": 9, "reason": "wasm trap: wasm `unreachable` instruction executed", "requests": 3 } }""")]
    [InlineData("requests 1 -1 no entry", """{ "trap": { "reason": "no entry", "requests": 1 } }""")]
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
    [InlineData("requests 0 1 reason")]
    [InlineData("requests 4294967296 1 reason")]
    [InlineData("requests 1 reason")]
    public void what_makes_no_sense_is_none(string line) => Assert.Null(GuestReports.Parse(Encoding.UTF8.GetBytes(line)));

    [Fact]
    public void a_reason_has_an_end() => Assert.Equal(256, GuestReports.Parse(Encoding.UTF8.GetBytes("trap 1 " + new string('x', 3000)))!.Trap.Reason.Length);

    [Fact]
    public async Task what_was_written_before_the_runner_ended_is_reported_though_somebody_holds_the_pipe()
    {
        await using var reports = new GuestReports(_said.Add, NullLogger.Instance, _time);
        using var held = OpenDescriptor.Duplicate(reports.ForRunner);
        reports.HandedOver();
        Write(held, "memory 1 2 3\nnonsense\ntrap 1 last\ntrap 2 cut o");
        await reports.CompleteAsync();
        Assert.Equal([1u, 0u], _said.Select(r => r.Trap?.Code ?? 0).OrderDescending());
        Assert.Equal(["memory", "trap"], _said.Select(r => r.Memory is not null ? "memory" : "trap"));
    }

    [Fact]
    public async Task no_process_says_more_than_four_kilobytes_in_a_minute()
    {
        const string Line = "memory 1 2 3\n";
        const int Most = GuestReports.MostBytes / 13; // the line's length;
        using var full = new SemaphoreSlim(0);
        await using var reports = new GuestReports(
            report =>
            {
                _said.Add(report);
                if (_said.Count % Most == 0)
                {
                    _ = full.Release();
                }
            },
            NullLogger.Instance,
            _time);
        Write(reports.ForRunner, string.Concat(Enumerable.Repeat(Line, 2 * Most)));
        await full.WaitAsync();
        Assert.Equal(Most, _said.Count);

        // Its wait for the next minute may begin after the clock was put on, so that is done until it has heard more.
        while (!await full.WaitAsync(TimeSpan.FromMilliseconds(10)))
        {
            _time.Advance(TimeSpan.FromMinutes(1));
        }

        await reports.CompleteAsync();
        Assert.Equal(2 * Most, _said.Count);
    }

    private static void Write(Microsoft.Win32.SafeHandles.SafeFileHandle file, string text)
    {
        using var stream = new FileStream(OpenDescriptor.Duplicate(file), FileAccess.Write, 0);
        stream.Write(Encoding.UTF8.GetBytes(text));
    }
}
