using Microsoft.Win32.SafeHandles;
using Skiff.Linux.Files;

namespace Skiff.Shim.Stdio;

/// <summary>
/// The standard streams of a container's process: containerd's FIFOs, handed over as they are. Nothing is copied, so output costs no
/// memory or time here and none is lost when the shim ends.
/// </summary>
/// <remarks>
/// <para>stdout and stderr: a read end stays open here, without ever being read. It keeps the pipe while containerd restarts, so that
/// no program dies of SIGPIPE, and it lets us open the write end without waiting for a reader.</para>
/// <para>stdin: a reader sees end-of-file whenever a FIFO has no writer, also before the first one came. So a write end stays open
/// here until the client closes its own (seen by inotify) or asks for it (CloseIO).</para>
/// </remarks>
internal sealed class ContainerStdio : IDisposable
{
    private readonly Lock _lock = new();
    private readonly List<SafeFileHandle> _keepers = [];
    private readonly Dictionary<int, SafeFileHandle> _ends = [];
    private SafeFileHandle? _stdinKeeper;
    private CloseWatch? _stdinWatch;

    private ContainerStdio(string stdin, string stdout, string stderr)
    {
        Stdin = stdin;
        Stdout = stdout;
        Stderr = stderr;
    }

    public string Stdin { get; }

    public string Stdout { get; }

    public string Stderr { get; }

    /// <summary>The container's ends by descriptor; those that are not wanted are /dev/null. Gone after <see cref="HandedOver"/>.</summary>
    public IReadOnlyDictionary<int, SafeFileHandle> Ends => _ends;

    /// <summary>Opens the streams. An empty path, or one where nothing is, means that the stream is not wanted.</summary>
    /// <returns>The streams, or which one cannot be had and why.</returns>
    public static (ContainerStdio? Stdio, string? Problem) Open(string stdin, string stdout, string stderr)
    {
        foreach (var (name, path) in new[] { ("stdin", stdin), ("stdout", stdout), ("stderr", stderr) })
        {
            if (path.Length > 0 && path[0] != '/')
            {
                return (null, $"{name} \"{path}\": log URIs are not implemented yet; absolute paths of FIFOs are");
            }
        }

        var stdio = new ContainerStdio(stdin, stdout, stderr);
        try
        {
            stdio.OpenInput();
            stdio.OpenOutput(1, stdout);
            stdio.OpenOutput(2, stderr);
            for (var descriptor = 0; descriptor <= 2; descriptor++)
            {
                if (!stdio._ends.ContainsKey(descriptor))
                {
                    stdio._ends[descriptor] = File.OpenHandle("/dev/null", FileMode.Open, descriptor == 0 ? FileAccess.Read : FileAccess.Write);
                }
            }

            return (stdio, null);
        }
        catch (IOException e)
        {
            stdio.Dispose();
            return (null, $"standard streams: {e.Message}");
        }
    }

    /// <summary>The container has its ends: closes ours, so that readers see the end when the container's processes are gone.</summary>
    public void HandedOver()
    {
        foreach (var end in _ends.Values)
        {
            end.Dispose();
        }

        _ends.Clear();
    }

    /// <summary>Lets the container see the end of its input once it has read what is in the pipe.</summary>
    public void CloseStdin()
    {
        lock (_lock)
        {
            _stdinKeeper?.Dispose();
            _stdinKeeper = null;
        }
    }

    public void Dispose()
    {
        _stdinWatch?.Dispose();
        CloseStdin();
        HandedOver();
        foreach (var keeper in _keepers)
        {
            keeper.Dispose();
        }

        _keepers.Clear();
    }

    private void OpenInput()
    {
        if (Stdin.Length == 0 || !File.Exists(Stdin))
        {
            return;
        }

        // The watch comes first: a client that waits for a reader gets through with our open, and may be done a moment later.
        _stdinWatch = CloseWatch.Start(Stdin, CloseStdin);
        if (Fifo.OpenReadNonBlocking(Stdin) is { } end)
        {
            _ends[0] = end;
            var keeper = Fifo.OpenWriteNonBlocking(Stdin);
            lock (_lock)
            {
                _stdinKeeper = keeper;
            }

            Fifo.SetBlocking(end);
        }
    }

    private void OpenOutput(int descriptor, string path)
    {
        if (path.Length == 0 || Fifo.OpenReadNonBlocking(path) is not { } keeper)
        {
            return;
        }

        _keepers.Add(keeper);
        if (Fifo.OpenWriteNonBlocking(path) is { } end)
        {
            Fifo.SetBlocking(end);
            _ends[descriptor] = end;
        }
    }
}
