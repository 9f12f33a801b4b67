namespace Skiff.Run;

/// <summary>Which folders a guest sees when nobody says otherwise: the container's whole tree, each file at its own path.</summary>
internal static class GuestDirectories
{
    /// <summary>The folders to preopen, in order.</summary>
    /// <remarks>
    /// <para>WASI preview 1 has no working directory; each guest's C library makes up its own. wasi-libc strips a leading "/" or "./" from
    /// paths and from the names of preopened folders alike, then takes the longest name that fits, the last one first. So "/" and "." are
    /// one name to it, and it cannot tell "/data" from "data".</para>
    /// <para>In a working directory other than "/", every folder in the root is therefore opened under its own name, and "." last: what
    /// begins with a root folder's name is found there, everything else in the working directory. The price: a file directly in "/" is
    /// looked for in the working directory. Go resolves paths itself by PWD, which the shim sets, and finds all of them.</para>
    /// </remarks>
    public static IReadOnlyList<Preopen> Default(string workingDirectory)
    {
        List<Preopen> directories = [new("/", "/", ReadOnly: false)];
        if (workingDirectory == "/")
        {
            return directories;
        }

        foreach (var folder in new DirectoryInfo("/").EnumerateDirectories())
        {
            if (folder.LinkTarget is null && folder.Name != ".skiff")
            {
                directories.Add(new Preopen(folder.FullName, folder.FullName, ReadOnly: false));
            }
        }

        directories.Add(new Preopen(".", workingDirectory, ReadOnly: false));
        return directories;
    }
}
