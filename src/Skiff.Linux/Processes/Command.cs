using System.Text;
using Microsoft.Win32.SafeHandles;
using Skiff.Linux.Files;

namespace Skiff.Linux.Processes;

/// <summary>A program run to its end.</summary>
/// <param name="Exit">How it ended.</param>
/// <param name="TimedOut">Whether it was killed because its time was over.</param>
/// <param name="Output">What it wrote to standard output.</param>
/// <param name="Error">What it wrote to standard error.</param>
public sealed record CommandResult(ExitStatus Exit, bool TimedOut, byte[] Output, string Error)
{
    /// <summary>Standard output as text.</summary>
    public string OutputText => Encoding.UTF8.GetString(Output);
}

/// <summary>Runs a program to its end and keeps what it wrote.</summary>
public static class Command
{
    /// <summary>The most that is kept of each stream, in bytes.</summary>
    public const int CaptureLimit = 8 << 20;

    /// <summary>
    /// Runs the program; descriptors 0-2 that <paramref name="request"/> names stay as they are. Output goes through memory files, not
    /// pipes: a grandchild that keeps the stream open cannot hold us up, and no thread is needed to drain it.
    /// </summary>
    /// <param name="request">The program.</param>
    /// <param name="timeout">After this long it is killed, and with it those that it started if it leads a process group.</param>
    /// <param name="input">What it reads from standard input.</param>
    /// <param name="cancellation">Kills it as well.</param>
    /// <exception cref="LinuxException">It could not be started.</exception>
    /// <exception cref="OperationCanceledException">Cancelled; the program has been killed and reaped.</exception>
    public static async Task<CommandResult> RunAsync(
        SpawnRequest request, TimeSpan timeout, ReadOnlyMemory<byte> input = default, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(request);
        using var output = MemoryFile.Create("stdout");
        using var error = MemoryFile.Create("stderr");
        using var stdin = MemoryFile.Create("stdin");
        MemoryFile.Fill(stdin, input.Span);

        Dictionary<int, SafeFileHandle> files = new(request.Files);
        _ = files.TryAdd(0, stdin);
        _ = files.TryAdd(1, output);
        _ = files.TryAdd(2, error);
        var child = Reaper.Shared.Spawn(request with { Files = files });

        var timedOut = false;
        ExitStatus exit;
        try
        {
            exit = await child.Exit.WaitAsync(timeout, cancellation).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
            timedOut = true;
            Kill();
            exit = await child.Exit.ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            Kill();
            _ = await child.Exit.ConfigureAwait(false);
            throw;
        }

        return new CommandResult(
            exit, timedOut, MemoryFile.Read(output, CaptureLimit), Encoding.UTF8.GetString(MemoryFile.Read(error, CaptureLimit)));

        void Kill()
        {
            if (request.NewProcessGroup || request.NewSession)
            {
                child.KillGroup();
            }
            else
            {
                _ = child.Signal(Signals.Kill);
            }
        }
    }
}
