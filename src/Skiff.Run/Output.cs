using System.Text;

namespace Skiff.Run;

/// <summary>Standard output and error, as bare <c>write(2)</c>: the Console class costs a millisecond and its own signal handling.</summary>
internal static class Output
{
    /// <summary>Writes a line to standard output.</summary>
    internal static void WriteLine(string line) => Write(Libc.StandardOutput, line + "\n");

    /// <summary>Writes a message to standard error, marked as ours and not the guest's.</summary>
    internal static void Complain(string message) => Write(Libc.StandardError, $"skiff-run: {message.TrimEnd()}\n");

    private static unsafe void Write(int fd, string text)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        fixed (byte* start = bytes)
        {
            // Nobody is left to tell when this fails.
            _ = Libc.WriteAll(fd, start, (nuint)bytes.Length);
        }
    }
}
