namespace Skiff.Testing;

/// <summary>What is unpacked once for all runs of the tests, in <c>~/.cache/skiff-tools</c>.</summary>
public static class Cache
{
    private static readonly string _root = Machines.CachePath("skiff-tools");

    /// <summary>Where the folder of this name is, or will be.</summary>
    public static string PathOf(string name) => Path.Combine(_root, name);

    /// <summary>
    /// The folder of this name, which is filled when it is not there. It is whole or not there, also for other processes and after a crash: it is
    /// filled as a draft beside its place and renamed. Two who fill it at once both do the work, and both get the folder of the first to be done.
    /// </summary>
    /// <param name="name">Names what is in it, with its version: a folder that is there is never filled again.</param>
    /// <param name="fill">Fills the empty folder that it is given; when it throws, nothing stays.</param>
    public static async Task<string> FolderAsync(string name, Func<string, Task> fill)
    {
        ArgumentNullException.ThrowIfNull(fill);
        var folder = PathOf(name);
        if (Directory.Exists(folder))
        {
            return folder;
        }

        var draft = $"{folder}.draft-{Guid.NewGuid():n}";
        _ = Directory.CreateDirectory(draft);
        try
        {
            await fill(draft);
            try
            {
                Directory.Move(draft, folder);
            }
            catch (IOException) when (Directory.Exists(folder))
            {
                // Somebody else was quicker.
            }
        }
        finally
        {
            if (Directory.Exists(draft))
            {
                Directory.Delete(draft, recursive: true);
            }
        }

        return folder;
    }
}
