using System.Buffers;
using System.Net.Sockets;
using Google.Protobuf;

namespace Skiff.Ttrpc;

/// <summary>
/// Frames over one socket. Reading is for one caller at a time; writes are whole frames and may come from anywhere. Nothing here takes a
/// cancellation token, because half a frame read or written would spoil the connection for everybody: disposing ends all that waits.
/// </summary>
internal sealed class FrameConnection(Socket socket) : IDisposable
{
    // Data is read in pieces, so that memory grows with what arrives and not with what a header promises.
    private const int FirstPiece = 16 << 10;

    private readonly SemaphoreSlim _writing = new(1, 1);
    private readonly byte[] _header = new byte[FrameHeader.Size];

    /// <summary>Reads the next header.</summary>
    /// <returns>Null at the end of the connection, also in the middle of a header.</returns>
    public async ValueTask<FrameHeader?> ReadHeaderAsync() =>
        await FillAsync(_header).ConfigureAwait(false) ? FrameHeader.Read(_header) : null;

    /// <summary>Reads the data of a frame within the limit.</summary>
    /// <returns>Null when the connection ends before all of it came.</returns>
    public async ValueTask<byte[]?> ReadDataAsync(FrameHeader header)
    {
        var length = (int)header.Length;
        var data = new byte[Math.Min(length, FirstPiece)];
        var done = 0;
        while (true)
        {
            if (!await FillAsync(data.AsMemory(done)).ConfigureAwait(false))
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
    public async ValueTask<bool> SkipDataAsync(FrameHeader header)
    {
        if (header.Length == 0)
        {
            return true;
        }

        var buffer = ArrayPool<byte>.Shared.Rent(FirstPiece);
        try
        {
            for (var left = (long)header.Length; left > 0;)
            {
                var count = await ReceiveAsync(buffer.AsMemory(0, (int)Math.Min(left, FirstPiece))).ConfigureAwait(false);
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

    /// <summary>Writes one frame, whose message the caller has checked against the limit.</summary>
    /// <returns>False when the connection is gone.</returns>
    public async ValueTask<bool> WriteAsync(uint stream, FrameType type, IMessage message)
    {
        var length = message.CalculateSize();
        var frame = new byte[FrameHeader.Size + length];
        new FrameHeader((uint)length, stream, type, 0).Write(frame);
        message.WriteTo(frame.AsSpan(FrameHeader.Size));

        await _writing.WaitAsync().ConfigureAwait(false);
        try
        {
            for (var done = 0; done < frame.Length;)
            {
                done += await socket.SendAsync(frame.AsMemory(done), SocketFlags.None).ConfigureAwait(false);
            }

            return true;
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // Whatever the reason, part of the frame may be out, and nothing sensible can follow it.
            socket.Dispose();
            return false;
        }
        finally
        {
            _ = _writing.Release();
        }
    }

    public void Dispose() => socket.Dispose();

    private async ValueTask<bool> FillAsync(Memory<byte> buffer)
    {
        while (!buffer.IsEmpty)
        {
            var count = await ReceiveAsync(buffer).ConfigureAwait(false);
            if (count == 0)
            {
                return false;
            }

            buffer = buffer[count..];
        }

        return true;
    }

    private async ValueTask<int> ReceiveAsync(Memory<byte> buffer)
    {
        try
        {
            return await socket.ReceiveAsync(buffer, SocketFlags.None).ConfigureAwait(false);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            return 0; // a peer that resets has ended the connection like one that closes
        }
    }
}
