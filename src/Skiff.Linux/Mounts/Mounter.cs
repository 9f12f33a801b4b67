using System.Runtime.InteropServices;
using System.Text;
using Skiff.Linux.Processes;

namespace Skiff.Linux.Mounts;

/// <summary>mount(2) and umount2(2), with the options that containerd writes as words.</summary>
public static class Mounter
{
    private const nuint Bind = 0x1000;
    private const nuint Recursive = 0x4000;
    private const nuint ReadOnly = 1;
    private const nuint Remount = 0x20;
    private const nuint PropagationMask = (1 << 17) | (1 << 18) | (1 << 19) | (1 << 20);
    private const int Detach = 2;
    private const int NoFollow = 8;

    // The kernel takes one page of option text; layered images with many layers need more.
    private const int OptionPage = 4096;

    private static readonly Dictionary<string, (bool Clear, nuint Flag)> _words = new(StringComparer.Ordinal)
    {
        ["async"] = (true, 1 << 4),
        ["atime"] = (true, 1 << 10),
        ["bind"] = (false, Bind),
        ["defaults"] = (false, 0),
        ["dev"] = (true, 1 << 2),
        ["diratime"] = (true, 1 << 11),
        ["dirsync"] = (false, 1 << 7),
        ["exec"] = (true, 1 << 3),
        ["mand"] = (false, 1 << 6),
        ["noatime"] = (false, 1 << 10),
        ["nodev"] = (false, 1 << 2),
        ["nodiratime"] = (false, 1 << 11),
        ["noexec"] = (false, 1 << 3),
        ["nomand"] = (true, 1 << 6),
        ["norelatime"] = (true, 1 << 21),
        ["nostrictatime"] = (true, 1 << 24),
        ["nosuid"] = (false, 1 << 1),
        ["rbind"] = (false, Bind | Recursive),
        ["relatime"] = (false, 1 << 21),
        ["remount"] = (false, Remount),
        ["ro"] = (false, ReadOnly),
        ["rw"] = (true, ReadOnly),
        ["strictatime"] = (false, 1 << 24),
        ["suid"] = (true, 1 << 1),
        ["sync"] = (false, 1 << 4),
        ["private"] = (false, 1 << 18),
        ["rprivate"] = (false, (1 << 18) | Recursive),
        ["shared"] = (false, 1 << 20),
        ["rshared"] = (false, (1 << 20) | Recursive),
        ["slave"] = (false, 1 << 19),
        ["rslave"] = (false, (1 << 19) | Recursive),
        ["unbindable"] = (false, 1 << 17),
        ["runbindable"] = (false, (1 << 17) | Recursive),
    };

    /// <summary>Mounts.</summary>
    /// <param name="type">The file system's type; "bind" or empty with a bind option is a bind mount.</param>
    /// <param name="source">What.</param>
    /// <param name="target">Where; it has to exist.</param>
    /// <param name="options">
    /// Words as in fstab(5), and <c>uidmap</c> with <c>gidmap</c> for other owners of the files; those that are not flags go to the file system.
    /// </param>
    /// <exception cref="LinuxException">The kernel refused.</exception>
    /// <exception cref="NotSupportedException">An option needs more than mount(2), <c>loop</c>, or makes no sense.</exception>
    public static void Mount(string type, string source, string target, IEnumerable<string> options)
    {
        ArgumentNullException.ThrowIfNull(options);
        nuint flags = 0;
        List<string> data = [];
        List<string> words = [.. options];
        if ((Take(words, "uidmap="), Take(words, "gidmap=")) is not (null, null) and var maps)
        {
            if (maps is not ({ } userMap, { } groupMap))
            {
                throw new NotSupportedException($"mount {source} on {target}: of the options uidmap and gidmap only one is there");
            }

            MappedMount.Mount(type, source, target, words, userMap, groupMap);
            return;
        }

        foreach (var option in words)
        {
            if (option == "loop")
            {
                throw new NotSupportedException($"mount {source} on {target}: the option loop is not supported");
            }

            if (!_words.TryGetValue(option, out var word))
            {
                data.Add(option);
            }
            else
            {
                flags = word.Clear ? flags & ~word.Flag : flags | word.Flag;
            }
        }

        var propagation = flags & PropagationMask;
        flags &= ~PropagationMask;
        var text = string.Join(',', data);
        if (Encoding.UTF8.GetByteCount(text) >= OptionPage && OverlayLayers.Find(data) is { } layers)
        {
            MountFrom(layers.Folder, source, target, type, flags, string.Join(',', layers.Under("")));
        }
        else
        {
            MountHere(source, target, type, flags, text);
        }

        // A bind mount takes no other flags from its own call; a second call sets them.
        if ((flags & Bind) != 0 && (flags & ~(Bind | Recursive | Remount)) != 0)
        {
            MountHere(source, target, type, flags | Remount, text);
        }

        if (propagation != 0)
        {
            MountHere("", target, "", propagation | (flags & Recursive), "");
        }
    }

    /// <summary>Unmounts everything at and below a path, the last mounted first; nothing mounted there is fine.</summary>
    /// <exception cref="LinuxException">The kernel refused.</exception>
    public static void UnmountTree(string path)
    {
        var mounts = MountTable.Read();
        var below = path.TrimEnd('/') + "/";
        for (var i = mounts.Count - 1; i >= 0; i--)
        {
            var target = mounts[i].Target;
            if ((target == path || target.StartsWith(below, StringComparison.Ordinal)) && Libc.umount2(target, Detach | NoFollow) < 0
                && Marshal.GetLastPInvokeError() is not (Errno.Invalid or Errno.NoEntry))
            {
                throw LinuxException.Last($"unmount {target}");
            }
        }
    }

    /// <summary>Gives the calling thread, which has to be a <see cref="LoneThread"/>, a copy of the mounts that nobody else sees.</summary>
    /// <exception cref="LinuxException">The kernel refused.</exception>
    internal static void EnterPrivateNamespace()
    {
        if (Libc.unshare(Libc.NamespaceMount) < 0)
        {
            throw LinuxException.Last("make a mount namespace");
        }

        MountHere("", "/", "", _words["rprivate"].Flag, "");
    }

    private static string? Take(List<string> words, string prefix)
    {
        var at = words.FindLastIndex(w => w.StartsWith(prefix, StringComparison.Ordinal));
        if (at < 0)
        {
            return null;
        }

        var value = words[at][prefix.Length..];
        _ = words.RemoveAll(w => w.StartsWith(prefix, StringComparison.Ordinal));
        return value;
    }

    private static void MountHere(string source, string target, string type, nuint flags, string data)
    {
        if (Libc.mount(source, target, type, flags, data) < 0)
        {
            throw LinuxException.Last($"mount {source} on {target} (type {type}, options {(data.Length > 200 ? data[..200] + "…" : data)})");
        }
    }

    /// <summary>
    /// Mounts from a folder that the options' paths are relative to, on a thread with a working directory of its own: the process's must not
    /// change, and forking is out of the question.
    /// </summary>
    private static void MountFrom(string directory, string source, string target, string type, nuint flags, string data) => _ = LoneThread.Run(() =>
    {
        if (Libc.chdir(directory) < 0)
        {
            throw LinuxException.Last($"enter {directory}");
        }

        MountHere(source, target, type, flags, data);
        return true;
    });
}
