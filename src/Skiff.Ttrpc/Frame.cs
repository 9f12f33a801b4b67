using System.Buffers.Binary;

namespace Skiff.Ttrpc;

/// <summary>What a frame carries (containerd/ttrpc PROTOCOL.md).</summary>
internal enum FrameType : byte
{
    Request = 1,
    Response = 2,
    Data = 3,
}

/// <summary>The ten bytes before a frame's data: length, stream and type, big-endian.</summary>
internal readonly record struct FrameHeader(uint Length, uint Stream, FrameType Type, byte Flags)
{
    public const int Size = 10;

    /// <summary>The most data a frame may carry.</summary>
    public const int MaxLength = 4 << 20;

    /// <summary>On a request: not unary, nothing more comes from the caller. On data: the last one.</summary>
    public const byte RemoteClosed = 1;

    /// <summary>On a request: not unary, more comes from the caller.</summary>
    public const byte RemoteOpen = 2;

    public static FrameHeader Read(ReadOnlySpan<byte> from) => new(
        BinaryPrimitives.ReadUInt32BigEndian(from), BinaryPrimitives.ReadUInt32BigEndian(from[4..]), (FrameType)from[8], from[9]);

    public void Write(Span<byte> to)
    {
        BinaryPrimitives.WriteUInt32BigEndian(to, Length);
        BinaryPrimitives.WriteUInt32BigEndian(to[4..], Stream);
        to[8] = (byte)Type;
        to[9] = Flags;
    }
}
