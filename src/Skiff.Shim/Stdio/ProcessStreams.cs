using Microsoft.Extensions.Logging;
using Microsoft.Win32.SafeHandles;
using Skiff.Linux.Files;
using Skiff.Linux.Terminals;
using Skiff.Shim.OciRuntime;

namespace Skiff.Shim.Stdio;

/// <summary>
/// The standard streams of one process. FIFOs, files and a logger's pipes are handed over as they are: nothing is copied, so output costs
/// no memory or time here and none is lost when the shim ends. Only a terminal's output has to be copied.
/// </summary>
/// <remarks>
/// <para>stdout and stderr: the process itself holds the write end of its FIFO, and a read end stays open here, without ever being read. It
/// keeps the pipe while containerd restarts, so that no program dies of SIGPIPE and what is in the pipe waits for the next reader, and it
/// lets us open the write end without waiting for one.</para>
/// <para>stdin: a reader sees end-of-file whenever a FIFO has no writer, also before the first one came. So a write end stays open here
/// until containerd asks for the end (CloseIO) or, for clients that may not ask, until the client closes its own (seen by inotify). Where
/// the kubelet is the client, containerd itself is the writer, and its restart must not look like the end of the input; it always asks. A
/// terminal's client may go and come again (detach, attach), so there too only CloseIO counts.</para>
/// </remarks>
internal sealed class ProcessStreams : IAsyncDisposable
{
    private static int _terminals;

    private readonly Lock _lock = new();
    private readonly string _consoleName = $"console-{Interlocked.Increment(ref _terminals)}.sock";
    private readonly StdioRequest _request;
    private readonly StdioOwner _owner;
    private readonly ILogger _log;
    private readonly List<SafeFileHandle> _keepers = [];
    private readonly Dictionary<int, SafeFileHandle> _ends = [];
    private SafeFileHandle? _stdinKeeper;
    private bool _stdinIsOver;
    private CloseWatch? _stdinWatch;
    private LoggerProcess? _logger;
    private ConsoleSocket? _console;
    private Terminal? _terminal;

    private ProcessStreams(StdioRequest request, StdioOwner owner, ILogger log)
    {
        _request = request;
        _owner = owner;
        _log = log;
    }

    /// <summary>What the OCI runtime hands to the process; until <see cref="HandedOver"/>.</summary>
    public RuntimeStdio ForRuntime => _request.Terminal ? new RuntimeStdio(new Dictionary<int, SafeFileHandle>(), _consoleName) : new RuntimeStdio(_ends, null);

    /// <summary>Opens the streams. An empty path, or one where nothing is, means that the stream is not wanted.</summary>
    /// <returns>The streams, or which one cannot be had and why.</returns>
    public static async Task<(ProcessStreams? Streams, string? Problem)> OpenAsync(
        StdioRequest request, StdioOwner owner, ILogger log, CancellationToken cancellation)
    {
        var streams = new ProcessStreams(request, owner, log);
        string? problem;
        try
        {
            problem = await streams.OpenAsync(cancellation).ConfigureAwait(false);
        }
        catch (IOException e)
        {
            problem = e.Message;
        }

        if (problem is null)
        {
            return (streams, null);
        }

        await streams.DisposeAsync().ConfigureAwait(false);
        return (null, $"standard streams: {problem}");
    }

    /// <summary>
    /// The process has its ends: closes ours, so that readers see the end when the process and its children are gone. A terminal is taken
    /// over here, and copied from now on.
    /// </summary>
    /// <returns>Why it has no terminal although it should, or null.</returns>
    public string? HandedOver()
    {
        if (_console is not null)
        {
            var master = _console.TryReceive();
            if (master is null)
            {
                return "the OCI runtime sent no terminal";
            }

            lock (_lock)
            {
                _ = _ends.Remove(0, out var input);
                _ = _ends.Remove(1, out var output);
                _terminal = new Terminal(master, input, output, _log);
            }
        }

        CloseEnds();
        return null;
    }

    /// <summary>Lets the process see the end of its input once it has read what is in the pipe; hangs up a terminal.</summary>
    public void CloseStdin()
    {
        lock (_lock)
        {
            _stdinIsOver = true;
            _stdinKeeper?.Dispose();
            _stdinKeeper = null;
        }
    }

    /// <summary>Sets the terminal's size; one that is not there yet, or not any more, is passed over.</summary>
    /// <exception cref="Skiff.Linux.LinuxException">The kernel refused.</exception>
    public void Resize(ushort columns, ushort rows)
    {
        lock (_lock)
        {
            _terminal?.Resize(columns, rows);
        }
    }

    /// <summary>The process has ended. Its children may still hold streams, but a terminal is its own.</summary>
    public void ProcessEnded()
    {
        lock (_lock)
        {
            _terminal?.ProcessEnded();
        }
    }

    /// <summary>Closes all, once a terminal's output has been taken and a logger has written what it got (12 seconds each at most).</summary>
    public async ValueTask DisposeAsync()
    {
        _stdinWatch?.Dispose();
        CloseStdin();
        if (_terminal is not null)
        {
            await _terminal.DisposeAsync().ConfigureAwait(false);
        }

        CloseEnds();
        foreach (var keeper in _keepers)
        {
            keeper.Dispose();
        }

        _keepers.Clear();
        if (_logger is not null)
        {
            await _logger.DisposeAsync().ConfigureAwait(false);
        }
    }

    private void CloseEnds()
    {
        foreach (var end in _ends.Values)
        {
            end.Dispose();
        }

        _ends.Clear();
        _console?.Dispose();
        _console = null;
    }

    private async Task<string?> OpenAsync(CancellationToken cancellation)
    {
        var (stdout, problem) = OutputTarget.Parse(_request.Stdout);
        var (stderr, otherProblem) = OutputTarget.Parse(_request.Terminal ? "" : _request.Stderr);
        if (stdout is null || stderr is null)
        {
            return problem ?? otherProblem;
        }

        OpenInput();
        if (stdout.Kind == OutputKind.Logger || stderr.Kind == OutputKind.Logger)
        {
            if (stdout.Kind == stderr.Kind && _request.Stdout != _request.Stderr)
            {
                return "stdout and stderr name two loggers; one gets both";
            }

            (_logger, problem) = await LoggerProcess.StartAsync(stdout.Kind == OutputKind.Logger ? stdout : stderr, _owner, cancellation).ConfigureAwait(false);
            if (_logger is null)
            {
                return problem;
            }

            if (stdout.Kind != OutputKind.Logger)
            {
                _logger.Stdout.Dispose();
            }

            if (stderr.Kind != OutputKind.Logger)
            {
                _logger.Stderr.Dispose();
            }
        }

        OpenOutput(1, stdout);
        OpenOutput(2, stderr);
        if (_request.Terminal)
        {
            _console = ConsoleSocket.Listen(_owner.Bundle, _consoleName);
            return null;
        }

        for (var descriptor = 0; descriptor <= 2; descriptor++)
        {
            if (_ends.TryGetValue(descriptor, out var end))
            {
                OpenDescriptor.SetBlocking(end, blocking: true);
            }
            else
            {
                _ends[descriptor] = File.OpenHandle("/dev/null", FileMode.Open, descriptor == 0 ? FileAccess.Read : FileAccess.Write);
            }
        }

        return null;
    }

    private void OpenInput()
    {
        if (_request.Stdin.Length == 0 || !File.Exists(_request.Stdin))
        {
            return;
        }

        // The watch comes first: a client that waits for a reader gets through with our open, and may be done a moment later.
        if (_owner.ClientClosesInput && !_request.Terminal)
        {
            _stdinWatch = CloseWatch.Start(_request.Stdin, CloseStdin);
        }

        if (Fifo.OpenReadNonBlocking(_request.Stdin) is { } end)
        {
            Give(end);
            _ends[0] = end;
            var keeper = Fifo.OpenWriteNonBlocking(_request.Stdin);

            // A client with little to say has come and gone since our open let it through; nobody would close the keeper then.
            lock (_lock)
            {
                if (_stdinIsOver)
                {
                    keeper?.Dispose();
                }
                else
                {
                    _stdinKeeper = keeper;
                }
            }
        }
    }

    private void OpenOutput(int descriptor, OutputTarget target)
    {
        switch (target.Kind)
        {
            case OutputKind.Fifo when Fifo.OpenReadNonBlocking(target.Path) is { } keeper:
                _keepers.Add(keeper);
                if (Fifo.OpenWriteNonBlocking(target.Path) is { } end)
                {
                    Give(end);
                    _ends[descriptor] = end;
                }

                break;

            case OutputKind.File:
                _ = Directory.CreateDirectory(Path.GetDirectoryName(target.Path)!);
                _ends[descriptor] = OpenDescriptor.OpenAppend(target.Path, 0x1A4); // 0644
                break;

            case OutputKind.Logger:
                _ends[descriptor] = descriptor == 1 ? _logger!.Stdout : _logger!.Stderr;
                OpenDescriptor.SetBlocking(_ends[descriptor], blocking: false);
                break;
        }
    }

    /// <summary>A program that is not root may want to open its streams again by /proc/self/fd.</summary>
    private void Give(SafeFileHandle end)
    {
        if (_owner.IoUid != 0 || _owner.IoGid != 0)
        {
            OpenDescriptor.SetOwner(end, _owner.IoUid, _owner.IoGid);
        }
    }
}
