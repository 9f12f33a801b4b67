using System.Runtime.InteropServices;
using System.Text;

namespace Skiff.Run;

/// <summary>The few calls that need no framework around them.</summary>
internal static unsafe partial class Libc
{
    /// <summary>Ends the process at once, whatever its threads do.</summary>
    [LibraryImport("libc")]
    internal static partial void _exit(int status);

    /// <summary>Writes a line about ourselves to stderr and gives back <paramref name="status"/>.</summary>
    internal static int Report(string problem, int status)
    {
        Write(2, $"skiff-run: {problem}\n");
        return status;
    }

    internal static void Write(int descriptor, string text) => Write(descriptor, Encoding.UTF8.GetBytes(text));

    internal static void Write(int descriptor, ReadOnlySpan<byte> left)
    {
        while (!left.IsEmpty)
        {
            fixed (byte* start = left)
            {
                var count = write(descriptor, start, (nuint)left.Length);
                if (count <= 0)
                {
                    return;
                }

                left = left[(int)count..];
            }
        }
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint write(int descriptor, byte* buffer, nuint count);
}
