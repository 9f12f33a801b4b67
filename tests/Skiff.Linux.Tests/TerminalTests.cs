using System.Text;
using Microsoft.Win32.SafeHandles;
using Skiff.Linux.Files;
using Skiff.Linux.Processes;
using Skiff.Linux.Terminals;

namespace Skiff.Linux.Tests;

public sealed class TerminalTests : IDisposable
{
    private static readonly TimeSpan _long = TimeSpan.FromSeconds(90);

    private readonly string _folder = Directory.CreateTempSubdirectory("skiff-terminal-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void a_terminal_has_the_size_it_was_given()
    {
        var (master, path) = PseudoTerminal.Create();
        using (master)
        using (var side = PseudoTerminal.OpenProgramSide(path))
        {
            PseudoTerminal.Resize(master, 132, 43);
            Assert.Equal(((ushort)132, (ushort)43), PseudoTerminal.Size(side));
        }
    }

    [Fact]
    public async Task what_a_program_wrote_before_its_end_is_copied_whole_to_a_slow_reader()
    {
        var (master, path) = PseudoTerminal.Create();
        var (read, write) = Pipe.Create();
        using (master)
        using (read)
        {
            OpenDescriptor.SetBlocking(master, blocking: false);
            OpenDescriptor.SetBlocking(write, blocking: false);
            ChildProcess child;
            using (var side = PseudoTerminal.OpenProgramSide(path))
            {
                child = Reaper.Shared.Spawn(new SpawnRequest
                {
                    Path = "/bin/sh",
                    Arguments = ["sh", "-c", "i=0; while [ $i -lt 30000 ]; do echo line $i; i=$((i+1)); done"],
                    Files = new Dictionary<int, SafeFileHandle> { [0] = side, [1] = side, [2] = side },
                    NewSession = true,
                });
            }

            using var last = new CancellationTokenSource();
            var copying = CopyAsync(master, write, last.Token);
            var seen = new StringBuilder();
            var reading = Task.Run(() => ReadToEnd(read, seen));
            _ = await child.Exit.WaitAsync(_long);
            await last.CancelAsync();
            await copying.WaitAsync(_long);
            await reading.WaitAsync(_long);
            var expected = string.Concat(Enumerable.Range(0, 30000).Select(i => $"line {i}\r\n"));
            Assert.Equal(expected.Length, seen.Length);
            Assert.Equal(expected, seen.ToString());
        }
    }

    [Fact]
    public async Task a_copy_ends_when_nobody_reads_any_more_or_when_it_is_stopped()
    {
        var (source, input) = Pipe.Create();
        var (read, write) = Pipe.Create();
        using (source)
        using (input)
        using (write)
        {
            OpenDescriptor.SetBlocking(source, blocking: false);
            OpenDescriptor.SetBlocking(write, blocking: false);
            using var stop = new CancellationTokenSource();
            var stopped = StreamCopy.CopyAsync(source, write, CancellationToken.None, stop.Token);
            await stop.CancelAsync();
            _ = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => stopped.WaitAsync(_long));

            // A process that another test is just starting has a copy of the reader's end until its exec: the sink is full, so that this is waited for.
            while (Fifo.TryWrite(write, new byte[4096]))
            {
            }

            read.Dispose();
            Assert.True(Fifo.TryWrite(input, "x"u8));
            await StreamCopy.CopyAsync(source, write, CancellationToken.None, CancellationToken.None).WaitAsync(_long);
        }
    }

    [Fact]
    public async Task many_waits_at_once_end_each_by_itself()
    {
        var pipes = Enumerable.Range(0, 100).Select(_ => Pipe.Create()).ToList();
        using var stop = new CancellationTokenSource();
        var waits = pipes.Select(p => Readiness.ReadableAsync(p.Read, stop.Token)).ToList();
        for (var i = 0; i < pipes.Count; i += 2)
        {
            Assert.True(Fifo.TryWrite(pipes[i].Write, "x"u8));
            await waits[i].WaitAsync(_long);
        }

        Assert.All(waits.Where((_, i) => i % 2 == 1), w => Assert.False(w.IsCompleted));
        await stop.CancelAsync();
        foreach (var wait in waits.Where((_, i) => i % 2 == 1))
        {
            _ = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => wait.WaitAsync(_long));
        }

        foreach (var (read, write) in pipes)
        {
            read.Dispose();
            write.Dispose();
        }
    }

    [Fact]
    public void a_console_socket_in_a_folder_with_a_long_path_is_there_and_goes_and_gives_nothing_unless_it_is_sent()
    {
        var folder = Directory.CreateDirectory(Path.Combine(_folder, new string('a', 100), new string('b', 100))).FullName;
        using (var socket = ConsoleSocket.Listen(folder, "console.sock"))
        {
            Assert.True(File.Exists(folder + "/console.sock"));
            Assert.Null(socket.TryReceive());
        }

        Assert.False(File.Exists(folder + "/console.sock"));
    }

    [Fact]
    public async Task a_program_that_hangs_takes_those_with_it_that_it_started()
    {
        var file = _folder + "/pid";
        var request = new SpawnRequest { Path = "/bin/sh", Arguments = ["sh", "-c", $"sleep 1000 & echo $! > {file}; wait"], NewProcessGroup = true };
        using var stop = new CancellationTokenSource();
        var run = Command.RunAsync(request, _long, cancellation: stop.Token);
        while (!File.Exists(file) || new FileInfo(file).Length == 0)
        {
            await Task.Yield();
        }

        using var child = PidFds.Open(int.Parse(await File.ReadAllTextAsync(file)));
        await stop.CancelAsync();
        _ = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => run);
        await Readiness.ReadableAsync(child!, CancellationToken.None).WaitAsync(_long); // a pidfd is readable when the process has ended
    }

    private static async Task CopyAsync(SafeFileHandle source, SafeFileHandle sink, CancellationToken last)
    {
        using (sink)
        {
            await StreamCopy.CopyAsync(source, sink, last, CancellationToken.None);
        }
    }

    private static void ReadToEnd(SafeFileHandle file, StringBuilder seen)
    {
        var buffer = new byte[1000];
        while (OpenDescriptor.TryRead(file, buffer) is { } count and > 0)
        {
            _ = seen.Append(Encoding.ASCII.GetString(buffer, 0, count));
            _ = Thread.Yield();
        }
    }
}
