using System.Buffers;
using System.Net.Sockets;
using Google.Protobuf;

namespace Skiff.Ttrpc;

/// <summary>Frames over one socket. Reading is for one caller at a time; writes are whole frames and may come from anywhere.</summary>
internal sealed class FrameConnection(Socket socket) : IDisposable
{
    // Data is read in pieces, so that memory grows with what arrives and not with what a header promises.
    private const int FirstPiece = 16 << 10;

    private readonly SemaphoreSlim _writing = new(1, 1);
    private readonly byte[] _header = new byte[FrameHeader.Size];

    /// <summary>Reads the next header.</summary>
    /// <returns>Null at the end of the connection, also in the middle of a header.</returns>
    public async ValueTask<FrameHeader?> ReadHeaderAsync(CancellationToken cancellation) =>
        await FillAsync(_header, cancellation).ConfigureAwait(false) ? FrameHeader.Read(_header) : null;

    /// <summary>Reads the data of a frame within the limit.</summary>
    /// <returns>Null when the connection ends before all of it came.</returns>
    public async ValueTask<byte[]?> ReadDataAsync(FrameHeader header, CancellationToken cancellation)
    {
        var length = (int)header.Length;
        var data = new byte[Math.Min(length, FirstPiece)];
        var done = 0;
        while (true)
        {
            if (!await FillAsync(data.AsMemory(done), cancellation).ConfigureAwait(false))
            {
                return null;
            }

            done = data.Length;
            if (done == length)
            {
                return data;
            }

            Array.Resize(ref data, Math.Min(length, data.Length * 4));
        }
    }

    /// <summary>Reads past data that is not wanted, without keeping any.</summary>
    /// <returns>False when the connection ends before.</returns>
    public async ValueTask<bool> SkipDataAsync(FrameHeader header, CancellationToken cancellation)
    {
        var buffer = ArrayPool<byte>.Shared.Rent(FirstPiece);
        try
        {
            for (var left = (long)header.Length; left > 0;)
            {
                var count = await ReceiveAsync(buffer.AsMemory(0, (int)Math.Min(left, FirstPiece)), cancellation).ConfigureAwait(false);
                if (count == 0)
                {
                    return false;
                }

                left -= count;
            }

            return true;
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    /// <summary>Writes one frame.</summary>
    /// <exception cref="IOException">The connection is gone.</exception>
    public async Task WriteAsync(uint stream, FrameType type, IMessage message, CancellationToken cancellation)
    {
        var length = message.CalculateSize();
        var frame = new byte[FrameHeader.Size + length];
        new FrameHeader((uint)length, stream, type, 0).Write(frame);
        message.WriteTo(frame.AsSpan(FrameHeader.Size));

        await _writing.WaitAsync(cancellation).ConfigureAwait(false);
        try
        {
            // Not cancellable: half a frame would spoil the connection for everybody.
            for (var done = 0; done < frame.Length;)
            {
                done += await socket.SendAsync(frame.AsMemory(done), SocketFlags.None, CancellationToken.None).ConfigureAwait(false);
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            throw new IOException("the connection is gone", e);
        }
        finally
        {
            _ = _writing.Release();
        }
    }

    public void Dispose() => socket.Dispose();

    private async ValueTask<bool> FillAsync(Memory<byte> buffer, CancellationToken cancellation)
    {
        while (!buffer.IsEmpty)
        {
            var count = await ReceiveAsync(buffer, cancellation).ConfigureAwait(false);
            if (count == 0)
            {
                return false;
            }

            buffer = buffer[count..];
        }

        return true;
    }

    private async ValueTask<int> ReceiveAsync(Memory<byte> buffer, CancellationToken cancellation)
    {
        try
        {
            return await socket.ReceiveAsync(buffer, SocketFlags.None, cancellation).ConfigureAwait(false);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            return 0; // a peer that resets has ended the connection like one that closes
        }
    }
}
