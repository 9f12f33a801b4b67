using System.Runtime.InteropServices;

namespace Skiff.Run;

/// <summary>Bytes outside the collected heap, which is kept too small for a module.</summary>
internal sealed unsafe class NativeBuffer : IDisposable
{
    private const nuint FirstCapacity = 64 * 1024;

    private byte* _start;
    private nuint _capacity;

    private NativeBuffer()
    {
        _capacity = FirstCapacity;
        _start = (byte*)NativeMemory.Alloc(_capacity);
    }

    /// <summary>The first byte.</summary>
    internal byte* Start => _start;

    /// <summary>How many bytes there are.</summary>
    internal nuint Length { get; private set; }

    /// <summary>The bytes, as far as a span reaches.</summary>
    internal ReadOnlySpan<byte> Span => new(_start, (int)nuint.Min(Length, int.MaxValue));

    /// <summary>Reads a file or pipe to its end.</summary>
    /// <param name="fd">What to read; stays open.</param>
    /// <param name="limit">More bytes than this are a failure.</param>
    /// <param name="problem">Null, or why there is no result, as a clause.</param>
    internal static NativeBuffer? Read(int fd, nuint limit, out string? problem)
    {
        var buffer = new NativeBuffer();
        while (true)
        {
            if (buffer.Length == buffer._capacity)
            {
                buffer.Grow();
            }

            nint count = Libc.read(fd, buffer._start + buffer.Length, buffer._capacity - buffer.Length);
            if (count < 0)
            {
                if (Marshal.GetLastPInvokeError() == Libc.Eintr)
                {
                    continue;
                }

                problem = Libc.LastError();
                break;
            }

            if (count == 0)
            {
                problem = null;
                return buffer;
            }

            buffer.Length += (nuint)count;
            if (buffer.Length > limit)
            {
                problem = $"it is larger than the limit of {limit >> 20} MiB";
                break;
            }
        }

        buffer.Dispose();
        return null;
    }

    /// <summary>Reads a whole file.</summary>
    internal static NativeBuffer? ReadFile(string path, nuint limit, out string? problem)
    {
        int fd = Libc.OpenForReading(path);
        if (fd < 0)
        {
            problem = Libc.LastError();
            return null;
        }

        NativeBuffer? buffer = Read(fd, limit, out problem);
        _ = Libc.close(fd);
        return buffer;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        NativeMemory.Free(_start);
        _start = null;
        Length = 0;
    }

    private void Grow()
    {
        _capacity *= 2;
        _start = (byte*)NativeMemory.Realloc(_start, _capacity);
    }
}
