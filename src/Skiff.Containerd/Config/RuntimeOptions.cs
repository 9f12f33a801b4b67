using System.Text;

namespace Skiff.Containerd.Config;

/// <summary>A runtime's options: which they are, and how they get to the shim.</summary>
internal static class RuntimeOptions
{
    /// <summary>The option that names a file in place of all others.</summary>
    public const string ConfigPath = "ConfigPath";

    private const string CgroupDriver = "SystemdCgroup";

    /// <summary>The first containerd that hands a whole options table to any shim.</summary>
    private static readonly Version _inTable = new(1, 7);

    /// <summary>The first containerd that adds options of its own to those in a table.</summary>
    private static readonly Version _addsToTable = new(2, 0);

    /// <summary>The options table, and the file that it names if this containerd takes options only so.</summary>
    /// <remarks>
    /// 1.6 reads of the table only what runc's shim knows, and hands another shim nothing but ConfigPath. Where our shim gets no options at
    /// all it takes the cgroup driver from the path that containerd asks for; but BinaryName and Root cannot be guessed.
    /// To a container with a user namespace 2.0 and later add who owns its streams, as an option of runc's shim; a table of another shim is not
    /// of that type, and then the container does not start (client/task.go, getRuncOptions). So there is none for the cgroup driver alone.
    /// </remarks>
    public static (TomlTable Table, ConfigFile? File) For(ConfigFiles files, RuntimeTable runtime, Version containerd, EffectiveConfig effective)
    {
        var options = Merge(runtime, effective);
        if (containerd >= _addsToTable && runtime.Options.Count == 0 && options.Entries.All(o => o.Key == CgroupDriver))
        {
            return (new TomlTable(), null);
        }

        if (containerd >= _inTable || options[ConfigPath] is not null || !options.Entries.Any())
        {
            return (options, null);
        }

        var path = Path.Combine(Path.GetDirectoryName(files.Main.Path)!, ConfigFiles.OptionsName(runtime.Handler));
        var text = new StringBuilder(Heading(runtime.Handler)).Append('\n');
        foreach (var (key, value) in options.Entries)
        {
            _ = text.Append(TomlWriter.Key(key)).Append(" = ").Append(TomlWriter.Value(value)).Append('\n');
        }

        var table = new TomlTable();
        table.Set(ConfigPath, path);
        return (table, new ConfigFile(path, Encoding.UTF8.GetBytes(text.ToString())));
    }

    /// <summary>What has to be done about the file.</summary>
    /// <param name="files">What is on disk.</param>
    /// <param name="handler">The runtime.</param>
    /// <param name="wanted">The file, or null for none.</param>
    /// <returns>The change, if any; or why it cannot be made.</returns>
    public static (FileChange? Change, string? Problem) Change(ConfigFiles files, string handler, ConfigFile? wanted)
    {
        var found = files.Loose.FirstOrDefault(f => Path.GetFileName(f.Path) == ConfigFiles.OptionsName(handler));
        if (found is not null && !found.Content.AsSpan().StartsWith(Encoding.UTF8.GetBytes(Heading(handler))))
        {
            return wanted is null ? (null, null)
                : (null, $"{found.Path} was not written by skiff-operator, and the options of the runtime have to go there: move it away");
        }

        return (found ?? wanted) is not { } file || found?.Content.AsSpan().SequenceEqual(wanted?.Content) == true
            ? (null, null) : (new FileChange(file.Path, found?.Content, wanted?.Content), null);
    }

    /// <summary>What the user sets, and what the node's default runtime has besides. Nothing joins a ConfigPath.</summary>
    private static TomlTable Merge(RuntimeTable runtime, EffectiveConfig effective)
    {
        var options = new TomlTable();
        foreach (var (key, value) in runtime.Options.OrderBy(o => o.Key, StringComparer.Ordinal))
        {
            options.Set(key, value.Value);
        }

        if (!runtime.Options.ContainsKey(ConfigPath))
        {
            // SystemdCgroup says something when it is false, too; of the others, what is not set is better not said.
            foreach (var (key, value) in effective.DefaultOptions())
            {
                if (options[key] is null && key != ConfigPath && (!value.IsZero || key == CgroupDriver))
                {
                    options.Set(key, value.Value);
                }
            }
        }

        return options;
    }

    private static string Heading(string handler) => $"# skiff-operator: options of the runtime {handler}";
}
