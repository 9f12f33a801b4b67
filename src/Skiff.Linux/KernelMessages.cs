using System.Text;

namespace Skiff.Linux;

/// <summary>The kernel's own buffer of messages, as dmesg has it (syslog(2)): for a machine without a /dev/kmsg, such as a node that is a container.</summary>
public static class KernelMessages
{
    private const int ReadAllOf = 3;
    private const int SizeOf = 10;

    // A kernel built for the largest machines has 32 MiB; what is newest is what is wanted.
    private const int Most = 16 << 20;

    /// <summary>All that it has, a line each: <c>&lt;6&gt;[   12.345678] text</c>. Nothing is taken out of it.</summary>
    /// <returns>Null when it is not ours to read: that wants CAP_SYSLOG in most places.</returns>
    public static unsafe string? Read()
    {
        var size = Math.Min(Libc.klogctl(SizeOf, null, 0), Most);
        if (size <= 0)
        {
            return null;
        }

        var buffer = new byte[size];
        fixed (byte* start = buffer)
        {
            var count = Libc.klogctl(ReadAllOf, start, size);
            return count < 0 ? null : Encoding.UTF8.GetString(buffer, 0, count);
        }
    }
}
