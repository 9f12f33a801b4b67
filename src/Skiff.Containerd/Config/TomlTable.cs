namespace Skiff.Containerd.Config;

/// <summary>A table of a TOML document. Values are string, long, double, bool, a date's text, <see cref="TomlTable"/> or a list of such.</summary>
internal sealed class TomlTable
{
    private readonly Dictionary<string, object> _values = new(StringComparer.Ordinal);

    /// <summary>How the document defined it, which decides what may still be added to it.</summary>
    internal enum Origin
    {
        /// <summary>It is only named as the parent of another table.</summary>
        Parent,

        /// <summary>By its own <c>[header]</c>.</summary>
        Header,

        /// <summary>By a dotted key.</summary>
        DottedKey,

        /// <summary>As <c>{ … }</c>: it is complete.</summary>
        Inline,
    }

    /// <summary>How it was defined.</summary>
    public Origin Source { get; set; }

    /// <summary>Its keys, in the document's order.</summary>
    public IEnumerable<KeyValuePair<string, object>> Entries => _values;

    /// <summary>A value by its key, or null.</summary>
    public object? this[string key] => _values.GetValueOrDefault(key);

    /// <summary>Sets a value.</summary>
    public void Set(string key, object value) => _values[key] = value;

    /// <summary>What is at a path, or null.</summary>
    public object? At(params IEnumerable<string> path)
    {
        object? here = this;
        foreach (var key in path)
        {
            here = (here as TomlTable)?[key];
        }

        return here;
    }

    /// <summary>Puts a value at a path, with the tables that lead there.</summary>
    public void SetAt(IReadOnlyList<string> path, object value)
    {
        var table = this;
        foreach (var key in path.SkipLast(1))
        {
            if (table[key] is not TomlTable next)
            {
                table.Set(key, next = new TomlTable());
            }

            table = next;
        }

        table.Set(path[^1], value);
    }

    /// <summary>Takes away what is at a path, if there is something.</summary>
    public void RemoveAt(IReadOnlyList<string> path) => _ = (At(path.SkipLast(1)) as TomlTable)?._values.Remove(path[^1]);

    /// <summary>A copy that shares nothing that can change.</summary>
    public TomlTable Clone()
    {
        var copy = new TomlTable { Source = Source };
        foreach (var (key, value) in _values)
        {
            copy._values[key] = value is TomlTable table ? table.Clone() : value;
        }

        return copy;
    }

    /// <summary>Whether two values mean the same. The order of keys does not matter, and an empty table is as good as none.</summary>
    public static bool Same(object? a, object? b) => (a, b) switch
    {
        (TomlTable x, TomlTable y) => x._values.Keys.Union(y._values.Keys).All(k => Same(x[k], y[k])),
        (TomlTable x, null) => x._values.Values.All(v => Same(v, null)),
        (null, TomlTable) => Same(b, a),
        (IReadOnlyList<object> x, IReadOnlyList<object> y) => x.Count == y.Count && x.Zip(y).All(p => Same(p.First, p.Second)),
        _ => Equals(a, b),
    };
}
