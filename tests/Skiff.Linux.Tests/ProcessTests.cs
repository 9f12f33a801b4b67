using Microsoft.Win32.SafeHandles;
using Skiff.Linux.Processes;

namespace Skiff.Linux.Tests;

public sealed class ProcessTests
{
    private static readonly TimeSpan _long = TimeSpan.FromSeconds(90);

    private static SpawnRequest Shell(string script) => new() { Path = "/bin/sh", Arguments = ["sh", "-c", script] };

    [Theory]
    [InlineData("exit 0", 0u)]
    [InlineData("exit 42", 42u)]
    [InlineData("exit 255", 255u)]
    [InlineData("kill -TERM $$", 143u)]
    [InlineData("kill -KILL $$", 137u)]
    public async Task an_exit_status_is_exact(string script, uint expected)
    {
        var result = await Command.RunAsync(Shell(script), _long);
        Assert.Equal(expected, result.Exit.ShellCode);
    }

    [Fact]
    public async Task input_output_environment_and_directory_arrive()
    {
        var request = Shell("cat; echo \"$A|$HOME|$PWD\"; echo bad >&2") with { Environment = ["A=b c"], WorkingDirectory = "/usr" };
        var result = await Command.RunAsync(request, _long, "in "u8.ToArray());
        Assert.Equal("in b c||/usr\n", result.OutputText);
        Assert.Equal("bad\n", result.Error);
    }

    [Fact]
    public async Task files_may_swap_their_numbers()
    {
        using var one = File.OpenHandle("/etc/hostname");
        using var two = File.OpenHandle("/etc/passwd");
        Dictionary<int, SafeFileHandle> files = new() { [(int)one.DangerousGetHandle()] = two, [(int)two.DangerousGetHandle()] = one };
        var result = await Command.RunAsync(
            Shell($"readlink /proc/self/fd/{one.DangerousGetHandle()} /proc/self/fd/{two.DangerousGetHandle()}") with { Files = files }, _long);
        Assert.Equal("/etc/passwd\n/etc/hostname\n", result.OutputText);
    }

    [Fact]
    public async Task nothing_else_is_inherited()
    {
        using var open = File.OpenHandle("/etc/hostname");
        var result = await Command.RunAsync(Shell("exec ls -l /proc/self/fd"), _long);
        Assert.DoesNotContain("/etc/hostname", result.OutputText, StringComparison.Ordinal);
    }

    [Fact]
    public async Task a_broken_pipe_ends_a_child_although_this_process_ignores_it()
    {
        var result = await Command.RunAsync(Shell("grep SigIgn /proc/self/status"), _long);
        var ignored = Convert.ToUInt64(result.OutputText.Split('\t')[1].Trim(), 16);
        const int brokenPipe = 13;
        Assert.Equal(0u, ignored & (1u << (brokenPipe - 1)));
    }

    [Fact]
    public async Task a_program_that_hangs_is_killed_when_its_time_is_over()
    {
        var result = await Command.RunAsync(Shell("exec sleep 1000"), TimeSpan.FromMilliseconds(50));
        Assert.True(result.TimedOut);
        Assert.Equal(137u, result.Exit.ShellCode);
    }

    [Fact]
    public void a_program_that_is_not_there_is_named()
    {
        var error = Assert.Throws<LinuxException>(() => Reaper.Shared.Spawn(new SpawnRequest { Path = "/no/such/program", Arguments = ["x"] }));
        Assert.Contains("/no/such/program", error.Message, StringComparison.Ordinal);
        Assert.Equal(Errno.NoEntry, error.ErrorNumber);
    }

    [Fact]
    public async Task a_child_that_has_ended_takes_no_signal()
    {
        var child = Reaper.Shared.Spawn(Shell("exit 3"));
        Assert.Equal(3, (await child.Exit.WaitAsync(_long)).Code);
        Assert.False(child.Signal(Signals.Kill));
    }

    [Fact]
    public async Task two_hundred_children_at_once_keep_their_own_status()
    {
        var children = Enumerable.Range(0, 200).Select(i => (Wanted: i % 256, Child: Reaper.Shared.Spawn(Shell($"exit {i % 256}")))).ToList();
        foreach (var (wanted, child) in children)
        {
            Assert.Equal(wanted, (await child.Exit.WaitAsync(_long)).Code);
        }
    }
}
