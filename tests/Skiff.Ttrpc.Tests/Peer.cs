using System.Buffers.Binary;
using System.Net.Sockets;
using Google.Protobuf;
using Skiff.Ttrpc.Wire;

namespace Skiff.Ttrpc.Tests;

/// <summary>One end of a connection that may say anything; frames are written and read here by other code than the tested.</summary>
internal sealed class Peer(Socket socket) : IDisposable
{
    public const byte Request = 1;
    public const byte Response = 2;
    public const byte Data = 3;

    public static async Task<Peer> ConnectAsync(string path)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        await socket.ConnectAsync(new UnixDomainSocketEndPoint(path));
        return new Peer(socket);
    }

    public static byte[] Frame(uint stream, byte type, byte flags, byte[] data, uint? length = null)
    {
        var frame = new byte[10 + data.Length];
        BinaryPrimitives.WriteUInt32BigEndian(frame, length ?? (uint)data.Length);
        BinaryPrimitives.WriteUInt32BigEndian(frame.AsSpan(4), stream);
        frame[8] = type;
        frame[9] = flags;
        data.CopyTo(frame, 10);
        return frame;
    }

    public static byte[] Call(string method, string text = "", long timeoutNano = 0, string service = TestServer.Service) => new Request
    {
        Service = service,
        Method = method,
        Payload = new Google.Protobuf.WellKnownTypes.StringValue { Value = text }.ToByteString(),
        TimeoutNano = timeoutNano,
    }.ToByteArray();

    public Task SendAsync(uint stream, byte type, byte flags, byte[] data) => SendAsync(Frame(stream, type, flags, data));

    public async Task SendAsync(byte[] bytes)
    {
        for (var done = 0; done < bytes.Length;)
        {
            done += await socket.SendAsync(bytes.AsMemory(done)).AsTask().WaitAsync(TestServer.Patience);
        }
    }

    public async Task<(uint Stream, byte Type, byte[] Data)> ReceiveAsync()
    {
        var header = await ExactlyAsync(10);
        return (BinaryPrimitives.ReadUInt32BigEndian(header.AsSpan(4)), header[8], await ExactlyAsync(BinaryPrimitives.ReadInt32BigEndian(header)));
    }

    public async Task<(uint Stream, TtrpcCode Code)> ReceiveCodeAsync()
    {
        var (stream, response) = await ReceiveResponseAsync();
        return (stream, (TtrpcCode)(response.Status?.Code ?? 0));
    }

    public async Task<(uint Stream, Response Response)> ReceiveResponseAsync()
    {
        var (stream, type, data) = await ReceiveAsync();
        Assert.Equal(Response, type);
        return (stream, Wire.Response.Parser.ParseFrom(data));
    }

    public async Task<byte[]> ExactlyAsync(int count)
    {
        var all = new byte[count];
        for (var done = 0; done < count;)
        {
            var got = await socket.ReceiveAsync(all.AsMemory(done)).AsTask().WaitAsync(TestServer.Patience);
            Assert.NotEqual(0, got);
            done += got;
        }

        return all;
    }

    /// <summary>Says that nothing more comes, and reads all that is left until the other side has closed.</summary>
    public async Task<int> FinishAsync()
    {
        try
        {
            socket.Shutdown(SocketShutdown.Send);
        }
        catch (SocketException)
        {
            // The other side was faster.
        }

        return await ReadToEndAsync();
    }

    /// <summary>Reads until the other side closes.</summary>
    public async Task<int> ReadToEndAsync()
    {
        var buffer = new byte[64 << 10];
        var all = 0;
        try
        {
            while (await socket.ReceiveAsync(buffer.AsMemory()).AsTask().WaitAsync(TestServer.Patience) is > 0 and var got)
            {
                all += got;
            }
        }
        catch (SocketException)
        {
            // Closed with bytes of ours unread.
        }

        return all;
    }

    public void Dispose() => socket.Dispose();
}
