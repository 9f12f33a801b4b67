using System.Text;

namespace Skiff.Linux.Mounts;

/// <summary>One line of <c>/proc/self/mountinfo</c> (proc_pid_mountinfo(5)).</summary>
/// <param name="Root">The folder of the file system that is mounted.</param>
/// <param name="Target">Where it is mounted.</param>
/// <param name="Options">Per-mount options, such as <c>ro</c>.</param>
/// <param name="Type">The file system's type.</param>
/// <param name="SuperOptions">Options of the file system; for cgroup v1 they name the controllers.</param>
public sealed record MountEntry(string Root, string Target, string Options, string Type, string SuperOptions);

/// <summary>What is mounted in this process's mount namespace.</summary>
public static class MountTable
{
    /// <summary>All mounts, in the order in which they were made.</summary>
    public static IReadOnlyList<MountEntry> Read() => Parse(File.ReadAllText("/proc/self/mountinfo"));

    /// <summary>Parses the text of a mountinfo file; lines that are not of its form are left out.</summary>
    public static IReadOnlyList<MountEntry> Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        List<MountEntry> mounts = [];
        foreach (var line in text.Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            // 36 35 98:0 /root /target rw,noatime optional fields… - ext3 /dev/root rw,errors=continue
            var fields = line.Split(' ');
            var dash = Array.IndexOf(fields, "-", Math.Min(6, fields.Length));
            if (dash > 0 && fields.Length >= dash + 3)
            {
                var super = fields.Length > dash + 3 ? fields[dash + 3] : "";
                mounts.Add(new MountEntry(Unescape(fields[3]), Unescape(fields[4]), fields[5], fields[dash + 1], super));
            }
        }

        return mounts;
    }

    /// <summary>Space, tab, newline and backslash are written as \ and three octal digits.</summary>
    private static string Unescape(string text)
    {
        if (!text.Contains('\\'))
        {
            return text;
        }

        var bytes = Encoding.UTF8.GetBytes(text);
        List<byte> plain = new(bytes.Length);
        for (var i = 0; i < bytes.Length; i++)
        {
            if (bytes[i] == '\\' && i + 3 < bytes.Length)
            {
                plain.Add((byte)(((bytes[i + 1] - '0') << 6) | ((bytes[i + 2] - '0') << 3) | (bytes[i + 3] - '0')));
                i += 3;
            }
            else
            {
                plain.Add(bytes[i]);
            }
        }

        return Encoding.UTF8.GetString([.. plain]);
    }
}
