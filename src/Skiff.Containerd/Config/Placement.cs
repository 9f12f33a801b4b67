namespace Skiff.Containerd.Config;

/// <summary>Where a runtime's table belongs.</summary>
/// <param name="File">The file, which may not be there yet.</param>
/// <param name="Schema">The schema after which the table is named there.</param>
internal sealed record Placement(ConfigFile File, long Schema)
{
    /// <summary>The first containerd that migrates the plugins of each file for itself, from whatever schema; and that has schema 4.</summary>
    private static readonly Version _migratesPlugins = new(2, 3);

    /// <summary>The place by this containerd's rules, or why it would not find the table in any.</summary>
    public static (Placement? Placement, string? Problem) Find(
        ConfigFiles files, IReadOnlyDictionary<string, TomlDocument> documents, string handler, Version containerd)
    {
        var main = documents.GetValueOrDefault(files.Main.Path);
        if (containerd.Major >= 2 && documents.Values.FirstOrDefault(d => d.HasByteOrderMark) is { } marked)
        {
            return (null, $"{marked.Name}:1:1: containerd {containerd} does not read a file that begins with a byte order mark: save it without");
        }

        // 1. The schema. Up to 2.2 all files are read as having the one that the last of them states.
        var loaded = files.All.Select(f => documents.GetValueOrDefault(f.Path)).OfType<TomlDocument>().ToList();
        var newest = containerd.Major < 2 ? 2 : containerd < _migratesPlugins ? 3 : 4;
        var stated = containerd < _migratesPlugins
            ? loaded.Select(d => d.Root["version"]).OfType<long>().LastOrDefault(v => v != 0)
            : main?.Root["version"] as long? ?? 0;
        var schema = loaded.All(d => d.Definitions.Count == 0) ? newest : Math.Max(stated, 1);
        var who = main?.FirstBelow(["version"]) is { } version ? main.Place(version) : files.Main.Path;
        if (schema > newest)
        {
            return (null, $"{who} says version = {schema}, and containerd {containerd} knows no schema above {newest}: "
                + "upgrade containerd, or write the file for this one (containerd config default shows its form)");
        }

        // 2. 1.x: the file whose table of the CRI plugin is the last, for it replaces the others.
        if (containerd.Major < 2)
        {
            var last = loaded.LastOrDefault(d => d.FirstBelow(["plugins", CriPlugin.For(schema)]) is not null);
            return (new Placement(last is null ? files.Main : files.All.First(f => f.Path == last.Name), schema), null);
        }

        if (schema == 1 && containerd < _migratesPlugins)
        {
            return (null, $"{who} says no version, which makes it schema 1, and containerd {containerd} passes over the CRI settings of that: "
                + "write version = 3 and its plugin names, as containerd config migrate prints it");
        }

        // 3. 2.x: a drop-in, if such a file would be read and the runtime is not in the main file already. Its schema is the main
        // file's: 2.3 and later refuse a higher one.
        var name = ConfigFiles.DropInName(handler);
        if (main?.Root["version"] is >= 3L and long own
            && !Marker.All(main).Any(m => m.Name == Marker.Runtime(handler))
            && files.DropInPatterns.FirstOrDefault(p => Glob.Matches(Path.GetFileName(p), name)) is { } pattern)
        {
            var path = Path.Combine(Path.GetDirectoryName(pattern)!, name);
            return (new Placement(files.All.FirstOrDefault(f => f.Path == path) ?? new ConfigFile(path, null), own), null);
        }

        return (new Placement(files.Main, schema), null);
    }
}
