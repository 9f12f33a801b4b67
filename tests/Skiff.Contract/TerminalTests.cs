using System.Text;
using Microsoft.Win32.SafeHandles;
using Skiff.Linux.Files;
using Skiff.Linux.Processes;
using Skiff.Linux.Terminals;
using Skiff.Testing;

namespace Skiff.Contract;

/// <summary>Sessions on a terminal, with ctr on one as well.</summary>
[Trait(Containerds.Cgroup, Containerds.Any)]
public sealed class TerminalTests(Containerds containerds)
{
    public static TheoryData<string, string> Kinds => [.. ContainerdVersion.Tested.SelectMany(v => new[] { (v.Name, ".wasm"), (v.Name, ".native") })];

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task a_container_has_a_terminal_that_is_resized(string version, string kind)
    {
        var containerd = await containerds.GetAsync(version);
        var (ctr, terminal) = containerd.OnTerminal(
            "run", "--rm", "--tty", "--runtime", Repository.Shim, PrivateContainerd.Image, ProgramTests.Id(), "/terminal" + kind);
        await TalkAsync(ctr, terminal, kind);
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task an_exec_has_a_terminal_that_is_resized(string version, string kind)
    {
        var containerd = await containerds.GetAsync(version);
        await using var container = await RunningContainer.StartAsync(containerd, [], "/sleep" + kind);
        var (ctr, terminal) = containerd.OnTerminal("task", "exec", "--tty", "--exec-id", ProgramTests.Id(), container.Id, "/terminal" + kind);
        await TalkAsync(ctr, terminal, kind);
        Assert.Empty(Directory.GetFiles(containerd.Bundle(container.Id), "*.sock"));
    }

    private static async Task TalkAsync(ChildProcess ctr, SafeFileHandle terminal, string kind)
    {
        using (terminal)
        using (var session = new Session(terminal))
        {
            await session.SeesAsync("terminal 1 1 1");
            session.Type("hello there\n");
            await session.SeesAsync("you said hello there");
            if (kind == ".native")
            {
                // WASI has no call for it.
                PseudoTerminal.Resize(terminal, 123, 45);
                await session.SeesAsync("size 123x45", () =>
                {
                    // SIGWINCH, because ctr's terminal is not its controlling one; again, because ctr listens for it only after the start.
                    Assert.True(ctr.Signal(28));
                    session.Type("size\n");
                });
            }

            session.Type("burst\n");
            await session.SeesAsync("burst line 0");
            Assert.Equal(7u, (await ctr.Exit.WaitAsync(RunningContainer.Patience)).ShellCode);
        }
    }

    /// <summary>What somebody at the terminal sees and types.</summary>
    private sealed class Session : IDisposable
    {
        private readonly StringBuilder _seen = new();
        private readonly CancellationTokenSource _stop = new();
        private readonly SafeFileHandle _terminal;
        private readonly Task _reading;

        public Session(SafeFileHandle terminal)
        {
            _terminal = terminal;
            OpenDescriptor.SetBlocking(terminal, blocking: false);
            _reading = ReadAsync();
        }

        public void Type(string text) => Assert.True(Fifo.TryWrite(_terminal, Encoding.UTF8.GetBytes(text)));

        /// <summary>Waits for a text; <paramref name="again"/> is done until it comes.</summary>
        public async Task SeesAsync(string text, Action? again = null) => Assert.True(
            await Until.HoldsAsync(
                () =>
                {
                    again?.Invoke();
                    return Task.FromResult(Seen().Contains(text, StringComparison.Ordinal));
                },
                RunningContainer.Patience),
            $"\"{text}\" did not come: {Seen()}");

        public void Dispose()
        {
            _stop.Cancel();
            _ = _reading.Wait(RunningContainer.Patience);
            _stop.Dispose();
        }

        private string Seen()
        {
            lock (_seen)
            {
                return _seen.ToString();
            }
        }

        private async Task ReadAsync()
        {
            var buffer = new byte[4096];
            try
            {
                while (true)
                {
                    switch (OpenDescriptor.TryRead(_terminal, buffer))
                    {
                        case null:
                            await Readiness.ReadableAsync(_terminal, _stop.Token);
                            break;
                        case 0:
                            return;
                        case { } count:
                            lock (_seen)
                            {
                                _ = _seen.Append(Encoding.UTF8.GetString(buffer, 0, count));
                            }

                            break;
                    }
                }
            }
            catch (OperationCanceledException)
            {
                // The session is over.
            }
        }
    }
}
