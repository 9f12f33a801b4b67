using Microsoft.Extensions.Logging;
using Microsoft.Win32.SafeHandles;
using Skiff.Linux;
using Skiff.Linux.Files;
using Skiff.Linux.Terminals;

namespace Skiff.Shim.Stdio;

/// <summary>
/// The master side of a process's terminal, and the copying between it and the streams. What the process wrote before it ended arrives in
/// full, however slowly it is read: a terminal keeps what was written until it has been read, and the copy ends only when nothing is left.
/// </summary>
internal sealed partial class Terminal : IAsyncDisposable
{
    // As long as containerd's own shim waits for output that nobody takes.
    private static readonly TimeSpan _patience = TimeSpan.FromSeconds(10);

    private readonly Lock _lock = new();
    private readonly SafeFileHandle _master;
    private readonly ILogger _logger;

    // Cancelled when no more output is to be expected.
    private readonly CancellationTokenSource _last = new();

    // Cancelled when no more input is wanted.
    private readonly CancellationTokenSource _noInput = new();
    private readonly CancellationTokenSource _stop = new();
    private readonly Task _copying;

    /// <summary>Takes over the descriptors and starts to copy.</summary>
    /// <param name="master">The terminal.</param>
    /// <param name="input">What is typed; null: nothing ever.</param>
    /// <param name="output">Where its output goes; null: nowhere.</param>
    /// <param name="logger">Where a copy that fails is reported.</param>
    public Terminal(SafeFileHandle master, SafeFileHandle? input, SafeFileHandle? output, ILogger logger)
    {
        _master = master;
        _logger = logger;
        OpenDescriptor.SetBlocking(master, blocking: false);

        // One number can be waited for in one direction only.
        var inputSide = OpenDescriptor.Duplicate(master);
        _copying = CopyAsync(inputSide, input, output ?? File.OpenHandle("/dev/null", FileMode.Open, FileAccess.Write));
    }

    /// <summary>Sets its size, if it is still there.</summary>
    /// <exception cref="LinuxException">The kernel refused.</exception>
    public void Resize(ushort columns, ushort rows)
    {
        lock (_lock)
        {
            if (!_master.IsClosed)
            {
                PseudoTerminal.Resize(_master, columns, rows);
            }
        }
    }

    /// <summary>The process has ended: what it wrote is still copied. Processes that it left behind lose the terminal.</summary>
    public void ProcessEnded()
    {
        _noInput.Cancel();
        _last.Cancel();
    }

    /// <summary>Waits until all output has been taken, but not for ever.</summary>
    public async ValueTask DisposeAsync()
    {
        ProcessEnded();
        await _copying.WaitAsync(_patience).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await _stop.CancelAsync().ConfigureAwait(false);
        await _copying.ConfigureAwait(false);
        _last.Dispose();
        _noInput.Dispose();
        _stop.Dispose();
    }

    private async Task CopyAsync(SafeFileHandle inputSide, SafeFileHandle? input, SafeFileHandle output)
    {
        var typing = input is null ? Task.CompletedTask : TypeAsync(input, inputSide);
        using (output) // its end is the end that readers see
        {
            await TryCopyAsync(_master, output, _last.Token).ConfigureAwait(false);
        }

        await _noInput.CancelAsync().ConfigureAwait(false);
        await typing.ConfigureAwait(false);
        inputSide.Dispose();
        lock (_lock)
        {
            _master.Dispose();
        }
    }

    private async Task TypeAsync(SafeFileHandle input, SafeFileHandle inputSide)
    {
        using (input)
        {
            await TryCopyAsync(input, inputSide, _noInput.Token).ConfigureAwait(false);
        }

        // Nobody will ever type again. A terminal has no end of input, so it is hung up, as when a connection breaks.
        await _last.CancelAsync().ConfigureAwait(false);
    }

    private async Task TryCopyAsync(SafeFileHandle source, SafeFileHandle sink, CancellationToken last)
    {
        try
        {
            await StreamCopy.CopyAsync(source, sink, last, _stop.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            // Stopped: the reader did not take it in time.
        }
        catch (LinuxException e)
        {
            Log.CopyFailed(_logger, e);
        }
    }

    private static partial class Log
    {
        [LoggerMessage(40, LogLevel.Warning, "A terminal's stream could not be copied to its end")]
        public static partial void CopyFailed(ILogger logger, Exception error);
    }
}
