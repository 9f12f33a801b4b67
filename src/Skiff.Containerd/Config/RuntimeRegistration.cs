using System.Text;
using System.Text.RegularExpressions;

namespace Skiff.Containerd.Config;

/// <summary>
/// Puts a runtime into containerd's configuration, and takes it out again to the byte. It plans only: it writes nothing.
/// </summary>
/// <remarks>
/// Which file: under 1.x, where an import replaces whole plugin tables, the one that brings the CRI plugin's table; under 2.x, which merges
/// tables, a drop-in if the main file imports a folder, else the main file.
/// </remarks>
public static partial class RuntimeRegistration
{
    private const int TextLimit = 4096;
    private const int ListLimit = 256;

    private static readonly Version _oldest = new(1, 6);
    private static readonly Version _optionsInTable = new(1, 7);
    private static readonly Version _migratesPlugins = new(2, 3);

    /// <summary>Plans the registration; an empty plan when it is there already.</summary>
    /// <param name="files">What is on disk.</param>
    /// <param name="table">What is wanted.</param>
    /// <param name="containerdVersion">The version that will read it (<see cref="ContainerdRelease.Parse"/>).</param>
    /// <param name="effective">
    /// What this containerd makes of the files as they are: the output of <c>containerd config dump</c>, or of <c>config default</c> when
    /// there is no main file (1.x cannot dump then).
    /// </param>
    public static ConfigPlan Add(ConfigFiles files, RuntimeTable table, Version containerdVersion, EffectiveConfig effective)
    {
        ArgumentNullException.ThrowIfNull(files);
        ArgumentNullException.ThrowIfNull(table);
        ArgumentNullException.ThrowIfNull(effective);

        // 1. Is it possible at all?
        var (documents, unread) = Read(files);
        if (documents is null)
        {
            return ConfigPlan.Refuse(unread!);
        }

        if ((Validate(table) ?? Refusal(containerdVersion, effective)) is { } problem)
        {
            return ConfigPlan.Refuse(problem);
        }

        var edits = documents.ToDictionary(d => d.Key, d => new RuntimeEdit(d.Value, table.Handler, table.RuntimeType));
        foreach (var (path, edit) in edits)
        {
            if (edit.Foreign is { } foreign)
            {
                return ConfigPlan.Refuse($"{documents[path].Place(foreign)}: the runtime {table.Handler} ({TomlWriter.Key(foreign.Path)}) is defined here already, "
                    + "not by skiff-operator: remove it, or install under another handler name");
            }
        }

        if (effective.Find(table.Handler) is { } known && !edits.Values.Any(e => e.IsPresent))
        {
            return ConfigPlan.Refuse($"containerd has a runtime {table.Handler} ({known.RuntimeType}) of its own: install under another handler name");
        }

        // 2. Where does it go, and under which name?
        var (target, schema, refused) = Target(files, documents, table.Handler, containerdVersion);
        if (target is null)
        {
            return ConfigPlan.Refuse(refused!);
        }

        // 3. What goes there?
        var plugin = CriPlugin.For(schema);
        var content = Content(files, table, containerdVersion, effective, out var optionsFile);
        var builtIn = containerdVersion.Major >= 2 ? [] : BuiltIn(documents.GetValueOrDefault(target.Path), plugin, table.Handler, effective);

        // 4. One change a file: away from where it was, and to where it belongs.
        if (optionsFile is not null && files.Loose.FirstOrDefault(f => f.Path == optionsFile.Value.Path) is { } other && !IsOptionsFile(other, table.Handler))
        {
            return ConfigPlan.Refuse($"{other.Path} was not written by skiff-operator, and the options of the runtime have to go there: move it away");
        }

        List<FileChange> changes = optionsFile is null ? [] : [.. OptionsChange(files, table.Handler, optionsFile)];
        foreach (var file in files.All.Concat(files.Loose).Where(f => f.Path != target.Path && edits.GetValueOrDefault(f.Path) is { IsPresent: true }))
        {
            var (text, failed) = edits[file.Path].Remove();
            if (failed is not null)
            {
                return ConfigPlan.Refuse(failed);
            }

            changes.Add(new FileChange(file.Path, file.Content, text is null ? null : documents[file.Path].Encode(text)));
        }

        var isNew = target.Content is null;
        var document = documents.GetValueOrDefault(target.Path) ?? TomlDocument.Parse(target.Path, "").Document!;
        var put = edits.GetValueOrDefault(target.Path) ?? new RuntimeEdit(document, table.Handler, table.RuntimeType);
        var (result, wrong) = put.Put(plugin, content, builtIn, schema, isNew);
        if (wrong is not null)
        {
            return ConfigPlan.Refuse(wrong);
        }

        var bytes = document.Encode(result!);
        if (isNew || !bytes.AsSpan().SequenceEqual(target.Content))
        {
            changes.Add(new FileChange(target.Path, target.Content, bytes));
        }

        if (optionsFile is null)
        {
            changes.AddRange(OptionsChange(files, table.Handler, null));
        }

        return ConfigPlan.Of(changes);
    }

    /// <summary>Plans the removal; an empty plan when nothing of ours is there.</summary>
    /// <param name="files">What is on disk.</param>
    /// <param name="handler">The runtime's name.</param>
    /// <param name="runtimeType">The shim that was registered. A table that lost its markers is taken as ours only if it names this.</param>
    public static ConfigPlan Remove(ConfigFiles files, string handler, string runtimeType)
    {
        ArgumentNullException.ThrowIfNull(files);
        ArgumentNullException.ThrowIfNull(runtimeType);
        var (documents, problem) = Read(files);
        if (documents is null)
        {
            return ConfigPlan.Refuse(problem!);
        }

        List<FileChange> changes = [];
        foreach (var file in files.All.Concat(files.Loose).Where(f => documents.ContainsKey(f.Path)))
        {
            var edit = new RuntimeEdit(documents[file.Path], handler, runtimeType);
            if (!edit.IsPresent)
            {
                continue;
            }

            var (text, failed) = edit.Remove();
            if (failed is not null)
            {
                return ConfigPlan.Refuse(failed);
            }

            changes.Add(new FileChange(file.Path, file.Content, text is null ? null : documents[file.Path].Encode(text)));
        }

        // The file that the table names goes after the table.
        changes.AddRange(OptionsChange(files, handler, null));
        return ConfigPlan.Of(changes);
    }

    private static (Dictionary<string, TomlDocument>? Documents, string? Problem) Read(ConfigFiles files)
    {
        Dictionary<string, TomlDocument> documents = [];
        foreach (var file in files.All.Concat(files.Loose.Where(f => f.Path.EndsWith(".toml", StringComparison.Ordinal))))
        {
            if (file.Content is null)
            {
                continue;
            }

            var (document, problem) = TomlDocument.Parse(file.Path, file.Content);
            if (document is null)
            {
                return (null, problem);
            }

            if (document.Root["version"] is not (null or long))
            {
                return (null, $"{document.Place(document.FirstBelow(["version"])!)}: version is not a whole number: correct it");
            }

            documents[file.Path] = document;
        }

        return (documents, null);
    }

    private static string? Validate(RuntimeTable table)
    {
        if (!HandlerPattern().IsMatch(table.Handler))
        {
            return $"the handler \"{table.Handler}\" is not a DNS label: use lower case letters, digits and -, at most 63, no - at either end";
        }

        if (table.RuntimeType.Length == 0 || !IsPlain(table.RuntimeType))
        {
            return $"runtime_type of {table.Handler} is empty, longer than {TextLimit} or has control characters: name the shim by its absolute path";
        }

        if (table.PodAnnotations.Count > ListLimit || !table.PodAnnotations.All(IsPlain))
        {
            return $"pod_annotations of {table.Handler}: at most {ListLimit} patterns, of at most {TextLimit} characters, without control characters";
        }

        return table.Options.Count > ListLimit || !table.Options.All(o => IsPlain(o.Key) && (o.Value.AsString is null || IsPlain(o.Value.AsString)))
            ? $"options of {table.Handler}: at most {ListLimit}, each of at most {TextLimit} characters, without control characters" : null;
    }

    private static bool IsPlain(string text) => text.Length <= TextLimit && !text.Any(c => char.IsControl(c) || char.IsSurrogate(c));

    private static string? Refusal(Version containerd, EffectiveConfig effective)
    {
        if (containerd < _oldest)
        {
            return $"containerd {containerd} is too old: install containerd {_oldest} or later";
        }

        return effective.DisabledPlugins.FirstOrDefault(CriPlugin.All.Contains) is { } plugin
            ? $"containerd's configuration turns off its CRI plugin: take \"{plugin}\" out of disabled_plugins, without it no kubelet can use this containerd" : null;
    }

    /// <summary>The file that the runtime goes into, and the schema after which its table is named there.</summary>
    private static (ConfigFile? File, long Schema, string? Problem) Target(
        ConfigFiles files, Dictionary<string, TomlDocument> documents, string handler, Version containerd)
    {
        var main = documents.GetValueOrDefault(files.Main.Path);
        if (containerd.Major >= 2 && documents.Values.FirstOrDefault(d => d.HasByteOrderMark) is { } marked)
        {
            return (null, 0, $"{marked.Name}:1:1: containerd {containerd} does not read a file that begins with a byte order mark: save it without");
        }

        // 1.x and 2.0 to 2.2 read all files as having one schema: that of the last one that says.
        var stated = files.All.Select(f => documents.GetValueOrDefault(f.Path)?.Root["version"]).OfType<long>().LastOrDefault(v => v != 0);
        var isFresh = files.All.All(f => documents.GetValueOrDefault(f.Path)?.Definitions.Count is null or 0);
        var newest = containerd.Major < 2 ? 2 : containerd < _migratesPlugins ? 3 : 4;
        var schema = isFresh ? newest : containerd < _migratesPlugins ? Math.Max(stated, 1) : Math.Max(main?.Root["version"] as long? ?? 0, 1);
        if (schema > newest)
        {
            return (null, 0, $"{Says(main, files)} version = {schema}, and containerd {containerd} knows no schema above {newest}: "
                + "upgrade containerd, or write the file for this one (containerd config default shows its form)");
        }

        if (containerd.Major < 2)
        {
            var plugin = CriPlugin.For(schema);
            return (files.All.LastOrDefault(f => documents.GetValueOrDefault(f.Path)?.FirstBelow(["plugins", plugin]) is not null) ?? files.Main, schema, null);
        }

        if (schema == 1 && containerd < _migratesPlugins)
        {
            return (null, 0, $"{Says(main, files)} no version, which makes it schema 1, and containerd {containerd} passes over the CRI settings of that: "
                + "write version = 3 and its plugin names, as containerd config migrate prints it");
        }

        if (main?.Root["version"] is >= 3L and long own)
        {
            var name = ConfigFiles.DropInName(handler);
            var pattern = files.DropInPatterns.FirstOrDefault(p => Glob.Matches(Path.GetFileName(p), name));
            var isInMain = Marker.All(main).Any(m => m.Name == Marker.Runtime(handler));
            if (pattern is not null && !isInMain)
            {
                // The same schema as the main file's: 2.3 and later refuse a drop-in with a higher one.
                var path = Path.Combine(Path.GetDirectoryName(pattern)!, name);
                return (files.All.Concat(files.Loose).FirstOrDefault(f => f.Path == path) ?? new ConfigFile(path, null), own, null);
            }
        }

        return (files.Main, schema, null);
    }

    private static string Says(TomlDocument? main, ConfigFiles files) =>
        main?.FirstBelow(["version"]) is { } version ? $"{main.Place(version)} says" : $"{files.Main.Path} says";

    /// <summary>The runtime's table.</summary>
    private static TomlTable Content(
        ConfigFiles files, RuntimeTable table, Version containerd, EffectiveConfig effective, out (string Path, byte[] Content)? optionsFile)
    {
        var content = new TomlTable();
        content.Set("runtime_type", table.RuntimeType);
        if (table.PodAnnotations.Count > 0)
        {
            content.Set("pod_annotations", table.PodAnnotations.ToList<object>());
        }

        optionsFile = null;
        var options = Options(table, effective);
        if (options.Entries.Any())
        {
            if (containerd < _optionsInTable && options["ConfigPath"] is null)
            {
                // 1.6 reads of this table only what runc's shim knows, and hands another shim nothing but ConfigPath. Where a shim
                // gets no options at all, ours takes the cgroup driver from the path that containerd asks for; but BinaryName and
                // Root cannot be guessed, so they go into a file.
                var path = Path.Combine(Path.GetDirectoryName(files.Main.Path)!, ConfigFiles.OptionsName(table.Handler));
                optionsFile = (path, OptionsText(table.Handler, options));
                options = new TomlTable();
                options.Set("ConfigPath", path);
            }

            content.Set("options", options);
        }

        return content;
    }

    /// <summary>What the user sets, and what the node's default runtime has besides. ConfigPath stands for a whole file: nothing joins it.</summary>
    private static TomlTable Options(RuntimeTable table, EffectiveConfig effective)
    {
        var options = new TomlTable();
        foreach (var (key, value) in table.Options.OrderBy(o => o.Key, StringComparer.Ordinal))
        {
            options.Set(key, value.Value);
        }

        if (!table.Options.ContainsKey("ConfigPath"))
        {
            // false says something of the cgroup driver; of the others, what is not set is better not said.
            foreach (var (key, value) in effective.DefaultOptions())
            {
                if (options[key] is null && key is not "ConfigPath" && (!value.IsZero || key == "SystemdCgroup"))
                {
                    options.Set(key, value.Value);
                }
            }
        }

        return options;
    }

    private static byte[] OptionsText(string handler, TomlTable options)
    {
        var text = new StringBuilder(OptionsHeading(handler)).Append('\n');
        foreach (var (key, value) in options.Entries)
        {
            _ = text.Append(TomlWriter.Key(key)).Append(" = ").Append(TomlWriter.Value(value)).Append('\n');
        }

        return Encoding.UTF8.GetBytes(text.ToString());
    }

    private static string OptionsHeading(string handler) => $"# skiff-operator: options of the runtime {handler}";

    private static bool IsOptionsFile(ConfigFile file, string handler) =>
        Path.GetFileName(file.Path) == ConfigFiles.OptionsName(handler) && file.Content.AsSpan().StartsWith(Encoding.UTF8.GetBytes(OptionsHeading(handler)));

    private static IEnumerable<FileChange> OptionsChange(ConfigFiles files, string handler, (string Path, byte[] Content)? wanted)
    {
        var found = files.Loose.FirstOrDefault(f => IsOptionsFile(f, handler));
        if (wanted is { } file ? found?.Content.AsSpan().SequenceEqual(file.Content) != true : found is not null)
        {
            yield return new FileChange(wanted?.Path ?? found!.Path, found?.Content, wanted?.Content);
        }
    }

    /// <summary>
    /// The runtimes that 1.x has without any file. It reads a file's table of runtimes in place of its own, not over it: with ours alone
    /// in the file there would be no runc any more, and with it no CRI.
    /// </summary>
    private static List<KeyValuePair<string, TomlTable>> BuiltIn(TomlDocument? document, string plugin, string handler, EffectiveConfig effective) =>
        document?.Root.At(CriPlugin.Runtimes(plugin)) is TomlTable known && known.Entries.Any() ? [] : [.. effective.Runtimes.Where(r => r.Key != handler)];

    [GeneratedRegex("^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", RegexOptions.CultureInvariant)]
    private static partial Regex HandlerPattern();
}
