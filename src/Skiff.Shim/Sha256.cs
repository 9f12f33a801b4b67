using System.Buffers.Binary;
using System.Numerics;
using System.Runtime.CompilerServices;

namespace Skiff.Shim;

/// <summary>
/// SHA-256 (FIPS 180-4). The framework's own needs the node's OpenSSL at run time: a node need not have one, and loading it costs every
/// pod's start more than all else that <c>start</c> does.
/// </summary>
internal sealed class Sha256
{
    /// <summary>A digest's size in bytes.</summary>
    public const int Size = 32;

    private const int Block = 64;

    private static ReadOnlySpan<uint> Constants =>
    [
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
    ];

    private readonly uint[] _state = [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];
    private readonly byte[] _pending = new byte[Block];
    private int _pendingLength;
    private ulong _length;

    /// <summary>The digest of one piece, in lower-case hexadecimal.</summary>
    public static string HexOf(ReadOnlySpan<byte> content)
    {
        var hash = new Sha256();
        hash.Append(content);
        return hash.FinishHex();
    }

    /// <summary>Adds a piece.</summary>
    public void Append(ReadOnlySpan<byte> content)
    {
        _length += (ulong)content.Length;
        if (_pendingLength > 0)
        {
            var taken = Math.Min(content.Length, Block - _pendingLength);
            content[..taken].CopyTo(_pending.AsSpan(_pendingLength));
            _pendingLength += taken;
            content = content[taken..];
            if (_pendingLength < Block)
            {
                return;
            }

            Compress(_pending);
            _pendingLength = 0;
        }

        var whole = content.Length / Block * Block;
        Compress(content[..whole]);
        content[whole..].CopyTo(_pending);
        _pendingLength = content.Length - whole;
    }

    /// <summary>The digest of all pieces, in lower-case hexadecimal. The object is used up.</summary>
    public string FinishHex()
    {
        // Padding: a one bit, zeros, and the length in bits at the end of a block.
        var bits = _length * 8;
        Span<byte> tail = stackalloc byte[2 * Block];
        tail.Clear();
        _pending.AsSpan(0, _pendingLength).CopyTo(tail);
        tail[_pendingLength] = 0x80;
        tail = tail[..(_pendingLength + 1 + sizeof(ulong) <= Block ? Block : 2 * Block)];
        BinaryPrimitives.WriteUInt64BigEndian(tail[^sizeof(ulong)..], bits);
        Compress(tail);

        Span<byte> digest = stackalloc byte[Size];
        for (var i = 0; i < _state.Length; i++)
        {
            BinaryPrimitives.WriteUInt32BigEndian(digest[(i * sizeof(uint))..], _state[i]);
        }

        return Convert.ToHexStringLower(digest);
    }

    [SkipLocalsInit]
    private void Compress(ReadOnlySpan<byte> blocks)
    {
        Span<uint> w = stackalloc uint[64];
        for (; !blocks.IsEmpty; blocks = blocks[Block..])
        {
            for (var i = 0; i < 16; i++)
            {
                w[i] = BinaryPrimitives.ReadUInt32BigEndian(blocks[(i * sizeof(uint))..]);
            }

            for (var i = 16; i < w.Length; i++)
            {
                var s0 = BitOperations.RotateRight(w[i - 15], 7) ^ BitOperations.RotateRight(w[i - 15], 18) ^ (w[i - 15] >> 3);
                var s1 = BitOperations.RotateRight(w[i - 2], 17) ^ BitOperations.RotateRight(w[i - 2], 19) ^ (w[i - 2] >> 10);
                w[i] = w[i - 16] + s0 + w[i - 7] + s1;
            }

            var (a, b, c, d) = (_state[0], _state[1], _state[2], _state[3]);
            var (e, f, g, h) = (_state[4], _state[5], _state[6], _state[7]);
            for (var i = 0; i < w.Length; i++)
            {
                var t1 = h + (BitOperations.RotateRight(e, 6) ^ BitOperations.RotateRight(e, 11) ^ BitOperations.RotateRight(e, 25))
                    + ((e & f) ^ (~e & g)) + Constants[i] + w[i];
                var t2 = (BitOperations.RotateRight(a, 2) ^ BitOperations.RotateRight(a, 13) ^ BitOperations.RotateRight(a, 22))
                    + ((a & b) ^ (a & c) ^ (b & c));
                (h, g, f, e, d, c, b, a) = (g, f, e, d + t1, c, b, a, t1 + t2);
            }

            _state[0] += a;
            _state[1] += b;
            _state[2] += c;
            _state[3] += d;
            _state[4] += e;
            _state[5] += f;
            _state[6] += g;
            _state[7] += h;
        }
    }
}
