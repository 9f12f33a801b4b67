using System.Text;

namespace Skiff.Run;

/// <summary>Which directories a guest gets, and under which names, so that its paths mean what they mean to a native program.</summary>
/// <remarks>
/// <para>A native program sees all of its container and has a working directory. WASI has no working directory: a guest's C library
/// finds for each path the preopened directory with the longest matching name. They differ in what they match:
/// wasi-libc (C, Rust and most others) strips a leading <c>/</c> and <c>./</c> from the path and from the names, so <c>/</c> and
/// <c>.</c> are one name to it, and prefers the later of two equal names. Go reads <c>PWD</c> and makes paths absolute.</para>
/// <para>So when the working directory is <c>/</c>, only <c>/</c> is preopened. Otherwise: <c>/</c>, then each directory in it under its own name
/// (longest match: <c>/etc/hosts</c> is found below <c>/etc</c>), and the working directory as <c>.</c> last (what nothing else matched: relative
/// paths). The limit of this: to wasi-libc, the absolute path of a <em>file</em> directly in <c>/</c> is then a path in the
/// working directory, and a relative path whose first part is also the name of a directory in <c>/</c> is found there. <c>--dir</c> is the way
/// out.</para>
/// <para>The engine keeps a guest below each preopened directory and does not follow absolute symbolic links. What the guest may
/// change is for the kernel to say (read-only mounts, owners), as for a native program.</para>
/// </remarks>
internal static class Preopens
{
    /// <summary>The default directories.</summary>
    /// <param name="workingDirectory">The absolute path of the working directory.</param>
    /// <param name="topLevel">The names of the directories in <c>/</c>; asked for only when needed.</param>
    internal static List<Preopen> Default(string workingDirectory, Func<IEnumerable<string>> topLevel)
    {
        var preopens = new List<Preopen> { new("/", "/") };
        if (workingDirectory == "/")
        {
            return preopens;
        }

        foreach (string name in topLevel())
        {
            preopens.Add(new Preopen("/" + name, "/" + name, Optional: true));
        }

        preopens.Add(new Preopen(".", workingDirectory));
        return preopens;
    }

    /// <summary>The names of the directories in <c>/</c>, and of links to directories, whose names work as well.</summary>
    internal static IEnumerable<string> TopLevelDirectories()
    {
        foreach (string path in Directory.EnumerateDirectories("/"))
        {
            yield return path[1..];
        }
    }

    /// <summary>The working directory of this process.</summary>
    internal static unsafe string WorkingDirectory()
    {
        const int PathMax = 4096;
        byte* buffer = stackalloc byte[PathMax];
        byte* found = Libc.getcwd(buffer, PathMax);

        // A working directory that was removed or lies outside of the root has no usable name. "/" is what is left to give.
        return found == null || *found != (byte)'/'
            ? "/"
            : Encoding.UTF8.GetString(System.Runtime.InteropServices.MemoryMarshal.CreateReadOnlySpanFromNullTerminated(found));
    }
}
