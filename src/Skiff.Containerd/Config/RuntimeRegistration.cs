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
        if (edits.FirstOrDefault(e => e.Value.Foreign is not null) is { Key: { } where, Value.Foreign: { } foreign })
        {
            return ConfigPlan.Refuse($"{documents[where].Place(foreign)}: the runtime {table.Handler} ({TomlWriter.Key(foreign.Path)}) is defined here "
                + "already, not by skiff-operator: remove it, or install under another handler name");
        }

        if (effective.Find(table.Handler) is { } known && !edits.Values.Any(e => e.IsPresent))
        {
            return ConfigPlan.Refuse($"containerd has a runtime {table.Handler} ({known.RuntimeType}) of its own: install under another handler name");
        }

        // 2. Where does it go, and what goes there?
        var (placement, misplaced) = Placement.Find(files, documents, table.Handler, containerdVersion);
        if (placement is null)
        {
            return ConfigPlan.Refuse(misplaced!);
        }

        var target = placement.File;
        var document = documents.GetValueOrDefault(target.Path) ?? TomlDocument.Parse(target.Path, "").Document!;
        var plugin = CriPlugin.For(placement.Schema);
        var (options, optionsFile) = RuntimeOptions.For(files, table, containerdVersion, effective);
        var builtIn = containerdVersion.Major >= 2 ? [] : BuiltIn(document, plugin, table.Handler, effective);
        var (optionsChange, blocked) = RuntimeOptions.Change(files, table.Handler, optionsFile);
        if (blocked is not null)
        {
            return ConfigPlan.Refuse(blocked);
        }

        // 3. One change a file. The file that a table names comes before the table, and goes after it.
        List<FileChange> changes = optionsFile is not null && optionsChange is not null ? [optionsChange] : [];
        if (RemoveFrom(files, documents, edits, target.Path, changes) is { } stuck)
        {
            return ConfigPlan.Refuse(stuck);
        }

        var edit = edits.GetValueOrDefault(target.Path) ?? new RuntimeEdit(document, table.Handler, table.RuntimeType);
        var (text, unsafeEdit) = edit.Put(plugin, Content(table, options), builtIn, placement.Schema, isNew: target.Content is null);
        if (text is null)
        {
            return ConfigPlan.Refuse(unsafeEdit!);
        }

        var bytes = document.Encode(text);
        if (target.Content is null || !bytes.AsSpan().SequenceEqual(target.Content))
        {
            changes.Add(new FileChange(target.Path, target.Content, bytes));
        }

        return ConfigPlan.Of([.. changes, .. optionsFile is null && optionsChange is not null ? [optionsChange] : (FileChange[])[]]);
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
        var edits = documents.ToDictionary(d => d.Key, d => new RuntimeEdit(d.Value, handler, runtimeType));
        if (RemoveFrom(files, documents, edits, except: null, changes) is { } stuck)
        {
            return ConfigPlan.Refuse(stuck);
        }

        var (optionsChange, _) = RuntimeOptions.Change(files, handler, null);
        return ConfigPlan.Of([.. changes, .. optionsChange is null ? (FileChange[])[] : [optionsChange]]);
    }

    /// <summary>Takes the runtime out of every file but one.</summary>
    /// <returns>Why it cannot be done, or null.</returns>
    private static string? RemoveFrom(
        ConfigFiles files, Dictionary<string, TomlDocument> documents, Dictionary<string, RuntimeEdit> edits, string? except, List<FileChange> changes)
    {
        foreach (var file in files.All.Concat(files.Loose))
        {
            if (file.Path == except || edits.GetValueOrDefault(file.Path) is not { IsPresent: true } edit)
            {
                continue;
            }

            var (text, problem) = edit.Remove();
            if (problem is not null)
            {
                return problem;
            }

            changes.Add(new FileChange(file.Path, file.Content, text is null ? null : documents[file.Path].Encode(text)));
        }

        return null;
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
            return $"runtime_type of {table.Handler} is empty, longer than {TextLimit} or has odd characters: name the shim by its absolute path";
        }

        if (table.PodAnnotations.Count > ListLimit || !table.PodAnnotations.All(IsPlain))
        {
            return $"pod_annotations of {table.Handler}: at most {ListLimit} patterns, of at most {TextLimit} characters, none of them a control character";
        }

        return table.Options.Count > ListLimit || !table.Options.All(o => IsPlain(o.Key) && (o.Value.AsString is null || IsPlain(o.Value.AsString)))
            ? $"options of {table.Handler}: at most {ListLimit}, each of at most {TextLimit} characters, none of them a control character" : null;
    }

    private static bool IsPlain(string text) => text.Length <= TextLimit && !text.Any(c => char.IsControl(c) || char.IsSurrogate(c));

    private static string? Refusal(Version containerd, EffectiveConfig effective)
    {
        if (containerd < _oldest)
        {
            return $"containerd {containerd} is too old: install containerd {_oldest} or later";
        }

        return effective.DisabledPlugins.FirstOrDefault(CriPlugin.All.Contains) is { } plugin
            ? $"containerd's configuration turns off its CRI plugin, and no kubelet can use it so: take \"{plugin}\" out of disabled_plugins" : null;
    }

    private static TomlTable Content(RuntimeTable table, TomlTable options)
    {
        var content = new TomlTable();
        content.Set("runtime_type", table.RuntimeType);
        if (table.PodAnnotations.Count > 0)
        {
            content.Set("pod_annotations", table.PodAnnotations.ToList<object>());
        }

        if (options.Entries.Any())
        {
            content.Set("options", options);
        }

        return content;
    }

    /// <summary>
    /// The runtimes that 1.x has without any file. It reads a file's table of runtimes in place of its own, not over it: with ours alone
    /// in the file there would be no runc any more, and with it no CRI.
    /// </summary>
    private static List<KeyValuePair<string, TomlTable>> BuiltIn(TomlDocument document, string plugin, string handler, EffectiveConfig effective) =>
        document.Root.At(CriPlugin.Runtimes(plugin)) is TomlTable known && known.Entries.Any()
            ? [] : [.. effective.Runtimes.Where(r => r.Key != handler)];

    [GeneratedRegex(@"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\z", RegexOptions.CultureInvariant)]
    private static partial Regex HandlerPattern();
}
