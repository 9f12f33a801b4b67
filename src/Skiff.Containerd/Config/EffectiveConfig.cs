using System.Text;

namespace Skiff.Containerd.Config;

/// <summary>What containerd makes of its files: the output of <c>containerd config dump</c>.</summary>
public sealed class EffectiveConfig
{
    private const int DumpLimit = 8 << 20;

    private static readonly string[] _criPlugins = [CriPlugin.Schema3, CriPlugin.Schema2];

    private readonly TomlTable _root;

    private EffectiveConfig(TomlTable root) => _root = root;

    /// <summary>Reads a dump.</summary>
    public static (EffectiveConfig? Config, string? Problem) Parse(string dump)
    {
        ArgumentNullException.ThrowIfNull(dump);
        if (Encoding.UTF8.GetByteCount(dump) > DumpLimit)
        {
            return (null, $"the output of containerd config dump is larger than {DumpLimit >> 20} MiB");
        }

        var (document, problem) = TomlDocument.Parse("the output of containerd config dump", dump);
        return document is null ? (null, problem) : (new EffectiveConfig(document.Root), null);
    }

    /// <summary>The runtime of pods that name none: <c>default_runtime_name</c>.</summary>
    public string? DefaultRuntime => Containerd?["default_runtime_name"] as string;

    /// <summary>The plugins that are turned off.</summary>
    internal IEnumerable<string> DisabledPlugins => (_root["disabled_plugins"] as List<object> ?? []).OfType<string>();

    /// <summary>The table of all runtimes, by their handlers.</summary>
    internal IEnumerable<KeyValuePair<string, TomlTable>> Runtimes =>
        from entry in (Containerd?["runtimes"] as TomlTable)?.Entries ?? []
        where entry.Value is TomlTable
        select KeyValuePair.Create(entry.Key, (TomlTable)entry.Value);

    private TomlTable? Containerd => _criPlugins.Select(p => _root.At("plugins", p, "containerd")).OfType<TomlTable>().FirstOrDefault();

    /// <summary>What there is for a handler, or null. Of its options, those that are true or false, a number or a string.</summary>
    public RuntimeTable? Find(string handler) =>
        Runtimes.FirstOrDefault(r => r.Key == handler).Value is { } table ? Read(handler, table) : null;

    /// <summary>
    /// Whether the two mean different things. Order, spacing and comments do not count, nor do the schema's number and the list of
    /// files: what they bring about does.
    /// </summary>
    public bool Differs(EffectiveConfig other)
    {
        ArgumentNullException.ThrowIfNull(other);
        return !TomlTable.Same(Meaning(), other.Meaning());
    }

    /// <summary>The same without a runtime.</summary>
    public EffectiveConfig Without(string handler)
    {
        var root = _root.Clone();
        foreach (var plugin in _criPlugins)
        {
            root.RemoveAt(["plugins", plugin, "containerd", "runtimes", handler]);
        }

        return new EffectiveConfig(root);
    }

    /// <summary>
    /// The options that runc's shim gets for a pod that names no runtime; none if the default is not runc's shim, because what another
    /// shim's options mean is not known.
    /// </summary>
    internal IReadOnlyDictionary<string, OptionValue> DefaultOptions()
    {
        // 1.x: a default_runtime table wins over default_runtime_name.
        var own = Containerd?["default_runtime"] as TomlTable;
        var table = own?["runtime_type"] is string { Length: > 0 } ? own : Runtimes.FirstOrDefault(r => r.Key == DefaultRuntime).Value;
        if (table is null)
        {
            return new Dictionary<string, OptionValue>();
        }

        var runtime = Read("", table);
        var name = Path.GetFileName(runtime.RuntimeType);
        return name.StartsWith("io.containerd.runc.", StringComparison.Ordinal) || name.StartsWith("containerd-shim-runc-", StringComparison.Ordinal)
            ? runtime.Options : new Dictionary<string, OptionValue>();
    }

    internal static RuntimeTable Read(string handler, TomlTable table)
    {
        Dictionary<string, OptionValue> options = [];
        foreach (var (key, value) in (table["options"] as TomlTable)?.Entries ?? [])
        {
            if (OptionValue.From(value) is { } option)
            {
                options[key] = option;
            }
        }

        return new RuntimeTable(handler, table["runtime_type"] as string ?? "")
        {
            PodAnnotations = [.. (table["pod_annotations"] as List<object> ?? []).OfType<string>()],
            Options = options,
        };
    }

    private TomlTable Meaning()
    {
        var root = _root.Clone();
        root.RemoveAt(["version"]);
        root.RemoveAt(["imports"]);
        return root;
    }
}
