using Microsoft.Win32.SafeHandles;

namespace Skiff.Linux.Files;

/// <summary>Files that live in memory only (memfd_create).</summary>
internal static unsafe class MemoryFile
{
    private const uint CloseOnExec = 1;

    internal static SafeFileHandle Create(string name)
    {
        var fd = Libc.memfd_create(name, CloseOnExec);
        return fd >= 0 ? new SafeFileHandle(fd, ownsHandle: true) : throw LinuxException.Last("memfd_create");
    }

    /// <summary>Writes all and goes back to the start, where a reader begins.</summary>
    internal static void Fill(SafeFileHandle file, ReadOnlySpan<byte> content)
    {
        var fd = (int)file.DangerousGetHandle();
        while (!content.IsEmpty)
        {
            fixed (byte* start = content)
            {
                var written = Libc.write(fd, start, (nuint)content.Length);
                if (written < 0)
                {
                    throw LinuxException.Last("write to a memory file");
                }

                content = content[(int)written..];
            }
        }

        _ = Libc.lseek(fd, 0, 0);
    }

    /// <summary>What is in it, from its start, and at most <paramref name="limit"/> bytes.</summary>
    internal static byte[] Read(SafeFileHandle file, int limit)
    {
        var fd = (int)file.DangerousGetHandle();
        var content = new byte[(int)Math.Min(Libc.lseek(fd, 0, 2), limit)];
        var done = 0;
        fixed (byte* start = content)
        {
            while (done < content.Length)
            {
                var count = Libc.pread(fd, start + done, (nuint)(content.Length - done), done);
                if (count <= 0)
                {
                    break;
                }

                done += (int)count;
            }
        }

        return content;
    }
}
