using Microsoft.Win32.SafeHandles;
using Skiff.Linux;
using Skiff.Linux.Files;
using Skiff.Linux.Processes;

namespace Skiff.Shim.Stdio;

/// <summary>
/// A logging program (containerd core/runtime/v2/logging): it reads stdout from descriptor 3 and stderr from 4, closes 5 when it is ready,
/// and finds the container's id and namespace in CONTAINER_ID and CONTAINER_NAMESPACE. It ends by itself when both streams have ended.
/// </summary>
internal sealed class LoggerProcess : IAsyncDisposable
{
    private static readonly TimeSpan _readyTime = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan _flushTime = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan _endTime = TimeSpan.FromSeconds(2);

    private readonly ChildProcess _process;

    private LoggerProcess(ChildProcess process, SafeFileHandle stdout, SafeFileHandle stderr)
    {
        _process = process;
        Stdout = stdout;
        Stderr = stderr;
    }

    /// <summary>Where stdout is written; whoever takes it closes it.</summary>
    public SafeFileHandle Stdout { get; }

    /// <summary>Where stderr is written; whoever takes it closes it.</summary>
    public SafeFileHandle Stderr { get; }

    /// <summary>Starts it and waits until it is ready.</summary>
    /// <returns>It, or why it cannot be had.</returns>
    /// <exception cref="LinuxException">It could not be started.</exception>
    public static async Task<(LoggerProcess? Logger, string? Problem)> StartAsync(OutputTarget target, StdioOwner owner, CancellationToken cancellation)
    {
        var (outRead, outWrite) = Pipe.Create();
        var (errorRead, errorWrite) = Pipe.Create();
        var (readyRead, readyWrite) = Pipe.Create();
        ChildProcess? process = null;
        string? problem;
        try
        {
            process = Reaper.Shared.Spawn(new SpawnRequest
            {
                Path = target.Path,
                Arguments = [target.Path, .. target.Arguments],
                Environment = [$"CONTAINER_ID={owner.Id}", $"CONTAINER_NAMESPACE={owner.Namespace}"],
                WorkingDirectory = "/",
                NewProcessGroup = true,
                Files = new Dictionary<int, SafeFileHandle> { [3] = outRead, [4] = errorRead, [5] = readyWrite },
            });
            readyWrite.Dispose();
            problem = await IsReadyAsync(readyRead, target, cancellation).ConfigureAwait(false);
            if (problem is null)
            {
                return (new LoggerProcess(process, outWrite, errorWrite), null);
            }
        }
        catch (LinuxException)
        {
            outWrite.Dispose();
            errorWrite.Dispose();
            throw;
        }
        finally
        {
            outRead.Dispose();
            errorRead.Dispose();
            readyRead.Dispose();
            readyWrite.Dispose();
        }

        outWrite.Dispose();
        errorWrite.Dispose();
        _ = process.Signal(Signals.Kill);
        return (null, problem);
    }

    /// <summary>Waits until it has written what it got; then it is told to end, then made to.</summary>
    public async ValueTask DisposeAsync()
    {
        Stdout.Dispose();
        Stderr.Dispose();
        if (!await EndsWithinAsync(_flushTime).ConfigureAwait(false) && _process.Signal(Signals.Terminate)
            && !await EndsWithinAsync(_endTime).ConfigureAwait(false))
        {
            _ = _process.Signal(Signals.Kill);
        }
    }

    private static async Task<string?> IsReadyAsync(SafeFileHandle ready, OutputTarget target, CancellationToken cancellation)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        limit.CancelAfter(_readyTime);
        try
        {
            await Readiness.ReadableAsync(ready, limit.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            return $"the logger {target.Path} was not ready within {_readyTime.TotalSeconds} seconds: it has to close its descriptor 5";
        }

        var sign = new byte[1];
        return OpenDescriptor.TryRead(ready, sign) == 0 && target.MustSayReady ? $"the logger {target.Path} ended before it said that it is ready" : null;
    }

    private async Task<bool> EndsWithinAsync(TimeSpan time)
    {
        await ((Task)_process.Exit).WaitAsync(time).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        return _process.Exit.IsCompleted;
    }
}
