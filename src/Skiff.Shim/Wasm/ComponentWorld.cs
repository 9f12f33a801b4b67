using System.Text;
using Microsoft.Win32.SafeHandles;

namespace Skiff.Shim.Wasm;

/// <summary>What a component asks of its host and what it offers: the names of its outermost imports and exports, in order.</summary>
/// <param name="Imports">Such as <c>wasi:io/streams@0.2.0</c>.</param>
/// <param name="Exports">Such as <c>wasi:cli/run@0.2.3</c>.</param>
/// <remarks>
/// <para>Only these two kinds of sections are read (component-model Binary.md, sections 10 and 11), and of the rest the sizes, so that a
/// component of any size costs a few reads. What is looked at is not trusted: names and sections are counted, and whatever is not understood
/// ends the reading without a world; the engine then says what is wrong with it, or that nothing is.</para>
/// </remarks>
internal sealed record ComponentWorld(IReadOnlyList<string> Imports, IReadOnlyList<string> Exports)
{
    private const int HeaderSize = 8;
    private const int ImportSection = 10;
    private const int ExportSection = 11;

    // Real components have up to a hundred sections and a hundred names, each shorter than a line.
    private const int MostSections = 65_536;
    private const int MostNames = 10_000;
    private const int LongestName = 4_096;

    /// <summary>Reads a component's names.</summary>
    /// <param name="component">The file.</param>
    /// <returns>Null when it is not understood.</returns>
    /// <exception cref="IOException">The file cannot be read.</exception>
    public static ComponentWorld? Read(SafeFileHandle component)
    {
        var reader = new Reader(component) { Position = HeaderSize };
        List<string> imports = [], exports = [];
        for (var sections = 0; reader.Byte() is { } id; sections++)
        {
            if (sections == MostSections || reader.Number() is not { } size)
            {
                return null;
            }

            var end = reader.Position + size;
            if (id is ImportSection or ExportSection && !ReadNames(ref reader, id == ImportSection ? imports : exports, id, end))
            {
                return null;
            }

            reader.Position = end;
        }

        return reader.Position <= RandomAccess.GetLength(component) ? new ComponentWorld(imports, exports) : null; // else it is cut off
    }

    private static bool ReadNames(ref Reader reader, List<string> names, byte section, long end)
    {
        if (reader.Number() is not { } count || count > MostNames)
        {
            return false;
        }

        for (var i = 0; i < count; i++)
        {
            if (reader.Byte() is not { } form || form > 2 || reader.Text(LongestName) is not { } name || names.Count == MostNames)
            {
                return false;
            }

            names.Add(name);
            var known = (form < 2 || SkipAttributes(ref reader)) && (section == ImportSection ? SkipType(ref reader) : SkipItem(ref reader) && SkipOptionalType(ref reader));
            if (!known || reader.Position > end)
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>What may stand behind a name: which interface it implements, the rest of its version, an identity outside; each a kind and a text.</summary>
    private static bool SkipAttributes(ref Reader reader)
    {
        if (reader.Number() is not { } count || count > byte.MaxValue)
        {
            return false;
        }

        for (var i = 0; i < count; i++)
        {
            if (reader.Byte() is null || reader.Text(LongestName) is null)
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>externdesc: a kind, and what it refers to.</summary>
    private static bool SkipType(ref Reader reader) => reader.Byte() switch
    {
        0 => reader.Byte() == 0x11 && reader.Number() is not null, // a core module
        3 => reader.Byte() switch // a type
        {
            0 => reader.Number() is not null,
            1 => true,
            _ => false,
        },
        1 or 2 or 4 or 5 => reader.Number() is not null, // a function, a value, a component, an instance
        _ => false,
    };

    private static bool SkipOptionalType(ref Reader reader) => reader.Byte() switch
    {
        0 => true,
        1 => SkipType(ref reader),
        _ => false,
    };

    /// <summary>sortidx: which index space, and the index.</summary>
    private static bool SkipItem(ref Reader reader) => reader.Byte() switch
    {
        0 => reader.Byte() is not null && reader.Number() is not null, // of a core kind
        <= 5 => reader.Number() is not null,
        _ => false,
    };

    /// <summary>Reads on from any place of a file, a block at a time.</summary>
    private struct Reader(SafeFileHandle file)
    {
        private readonly byte[] _block = new byte[4096];
        private long _start;
        private int _length;

        public long Position { get; set; }

        /// <returns>Null at the end.</returns>
        public byte? Byte()
        {
            if (Position < _start || Position >= _start + _length)
            {
                _start = Position;
                _length = RandomAccess.Read(file, _block, Position);
                if (_length == 0)
                {
                    return null;
                }
            }

            return _block[Position++ - _start];
        }

        /// <summary>An unsigned number of up to 32 bits in LEB128. What is read as a type here is passed over, whatever it means.</summary>
        public uint? Number()
        {
            ulong number = 0;
            for (var shift = 0; shift < 35; shift += 7)
            {
                if (Byte() is not { } next)
                {
                    return null;
                }

                number |= (ulong)(next & 0x7f) << shift;
                if ((next & 0x80) == 0)
                {
                    return number <= uint.MaxValue ? (uint)number : null;
                }
            }

            return null;
        }

        /// <returns>Null when it is longer or cut off.</returns>
        public string? Text(int longest)
        {
            if (Number() is not { } length || length > longest)
            {
                return null;
            }

            var bytes = new byte[length];
            for (var i = 0; i < bytes.Length; i++)
            {
                if (Byte() is not { } next)
                {
                    return null;
                }

                bytes[i] = next;
            }

            return Encoding.UTF8.GetString(bytes);
        }
    }
}
