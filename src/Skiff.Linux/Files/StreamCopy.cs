using System.Buffers;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Skiff.Linux.Files;

/// <summary>Copies from one descriptor to another, both of them not blocking.</summary>
public static class StreamCopy
{
    // What a terminal or a FIFO gives at once is rarely more. The buffer is there only while something is on its way.
    private const int BufferSize = 16 * 1024;

    /// <summary>Copies until the source ends or nobody reads the sink any more. A slow sink holds up the source; nothing piles up here.</summary>
    /// <param name="source">What is read; a terminal whose other side is closed has ended.</param>
    /// <param name="sink">What is written.</param>
    /// <param name="last">Once cancelled, what the source still has at hand is copied, and then it is over.</param>
    /// <param name="stop">Once cancelled, it is over at once.</param>
    /// <exception cref="LinuxException">Reading or writing failed otherwise.</exception>
    /// <exception cref="OperationCanceledException"><paramref name="stop"/> was cancelled.</exception>
    public static async Task CopyAsync(SafeFileHandle source, SafeFileHandle sink, CancellationToken last, CancellationToken stop)
    {
        ArgumentNullException.ThrowIfNull(source);
        ArgumentNullException.ThrowIfNull(sink);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(last, stop);
        while (true)
        {
            var isLast = last.IsCancellationRequested; // before the read: what comes after it is too late
            if (!await CopyAvailableAsync(source, sink, stop).ConfigureAwait(false) || isLast)
            {
                return;
            }

            try
            {
                await Readiness.ReadableAsync(source, either.Token).ConfigureAwait(false);
            }
            catch (OperationCanceledException) when (!stop.IsCancellationRequested)
            {
                // Once more, for what came in between.
            }
        }
    }

    /// <returns>Whether more may come later.</returns>
    private static async Task<bool> CopyAvailableAsync(SafeFileHandle source, SafeFileHandle sink, CancellationToken stop)
    {
        var buffer = ArrayPool<byte>.Shared.Rent(BufferSize);
        try
        {
            while (true)
            {
                var count = OpenDescriptor.TryRead(source, buffer.AsSpan(0, BufferSize));
                if (count is null)
                {
                    return true;
                }

                if (count == 0)
                {
                    return false;
                }

                for (var done = 0; done < count;)
                {
                    stop.ThrowIfCancellationRequested();
                    var written = Write(sink, buffer.AsSpan(done, count.Value - done));
                    if (written < 0)
                    {
                        return false;
                    }

                    done += written;
                    if (written == 0)
                    {
                        await Readiness.WritableAsync(sink, stop).ConfigureAwait(false);
                    }
                }
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    /// <returns>0 when there is no room now; less when nobody reads.</returns>
    private static unsafe int Write(SafeFileHandle file, ReadOnlySpan<byte> content)
    {
        fixed (byte* start = content)
        {
            while (true)
            {
                var count = Libc.write((int)file.DangerousGetHandle(), start, (nuint)content.Length);
                if (count >= 0)
                {
                    return (int)count;
                }

                switch (Marshal.GetLastPInvokeError())
                {
                    case Errno.Interrupted:
                        continue;
                    case Errno.Again:
                        return 0;
                    case Errno.BrokenPipe or Errno.InputOutput:
                        return -1;
                    default:
                        throw LinuxException.Last("write to a stream");
                }
            }
        }
    }
}
