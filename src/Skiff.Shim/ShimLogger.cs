using System.Text;
using Microsoft.Extensions.Logging;
using Microsoft.Win32.SafeHandles;
using Skiff.Linux.Files;

namespace Skiff.Shim;

/// <summary>
/// Writes logfmt lines to the bundle's <c>log</c> FIFO, which containerd copies to its own log. Logging never waits: when containerd is
/// away and the pipe is full, lines are dropped, because a shim that blocks on its log blocks its pod.
/// </summary>
internal sealed class ShimLogger(string fifo, LogLevel lowest, TimeProvider time) : ILogger
{
    // A line longer than PIPE_BUF could be torn apart by another writer's.
    private const int LongestLine = 4096;

    private readonly Lock _lock = new();
    private SafeFileHandle? _file;

    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => logLevel >= lowest && logLevel != LogLevel.None;

    public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
    {
        if (!IsEnabled(logLevel))
        {
            return;
        }

        var line = new StringBuilder(256)
            .Append("time=\"").Append(time.GetUtcNow().ToString("yyyy-MM-ddTHH:mm:ss.fffZ")).Append("\" level=").Append(Name(logLevel))
            .Append(" msg=").Append(Quote(formatter(state, exception)));
        if (exception is not null)
        {
            _ = line.Append(" error=").Append(Quote(exception.ToString()));
        }

        _ = line.Append(" runtime=skiff");
        var bytes = Encoding.UTF8.GetBytes(line.ToString());
        Write(bytes.AsSpan(0, Math.Min(bytes.Length, LongestLine - 1)));
    }

    private static string Name(LogLevel level) => level switch
    {
        LogLevel.Trace => "trace",
        LogLevel.Debug => "debug",
        LogLevel.Information => "info",
        LogLevel.Warning => "warning",
        _ => "error",
    };

    private static string Quote(string text) =>
        $"\"{text.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\"", "\\\"", StringComparison.Ordinal).Replace("\n", "\\n", StringComparison.Ordinal)}\"";

    private void Write(ReadOnlySpan<byte> line)
    {
        Span<byte> whole = stackalloc byte[line.Length + 1];
        line.CopyTo(whole);
        whole[^1] = (byte)'\n';
        lock (_lock)
        {
            try
            {
                // containerd opens the FIFO again after a restart, so a missing reader is not the end.
                _file ??= Fifo.OpenWriteNonBlocking(fifo);
                if (_file is not null && !Fifo.TryWrite(_file, whole))
                {
                    _file.Dispose();
                    _file = null;
                }
            }
            catch (IOException)
            {
                // There is nobody to tell.
            }
        }
    }
}
