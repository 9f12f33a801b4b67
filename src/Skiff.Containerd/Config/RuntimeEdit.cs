using System.Text;
using Tomlyn.Syntax;

namespace Skiff.Containerd.Config;

/// <summary>
/// One runtime in one file: finds what is there of it, takes it out, puts it in. Everything is a splice in the file's text; each result
/// is read again, and is given out only if it means what was wanted.
/// </summary>
internal sealed class RuntimeEdit
{
    private const string Inline = "inline";

    private readonly TomlDocument _document;
    private readonly string _handler;
    private readonly IReadOnlyList<string[]> _keys; // of the runtime, in each schema
    private readonly bool _namesOurShim;
    private readonly IReadOnlyList<Marker> _markers;
    private readonly (int Start, int End)? _block;
    private readonly HashSet<TomlDefinition> _ours;

    /// <summary>Looks for the runtime.</summary>
    /// <param name="document">The file.</param>
    /// <param name="handler">The runtime's name.</param>
    /// <param name="runtimeType">Our shim: a table that names it is ours without markers too.</param>
    public RuntimeEdit(TomlDocument document, string handler, string runtimeType)
    {
        _document = document;
        _handler = handler;
        _keys = [.. CriPlugin.All.Select(p => (string[])[.. CriPlugin.Runtimes(p), handler])];
        _namesOurShim = _keys.Any(k => runtimeType.Equals(document.Root.At([.. k, "runtime_type"])));
        var all = Marker.All(document);
        _markers = [.. all.Where(m => m.Name == Marker.Runtime(handler))];
        _block = _markers is [{ IsBegin: true } begin, { IsBegin: false } end] ? (begin.Start, end.End) : null;
        _ours = [.. document.Definitions.Where(IsOurs)];
        Foreign = document.Definitions.FirstOrDefault(d => IsHandlers(d) && !_ours.Contains(d));
        IsPresent = _markers.Count > 0 || _ours.Count > 0 || (all.Count > 0 && !all.Any(m => m.IsRuntime));
    }

    /// <summary>Whether there is something of ours: markers, or a table that names our shim.</summary>
    public bool IsPresent { get; }

    /// <summary>The first definition of the handler that is somebody else's, or null.</summary>
    public TomlDefinition? Foreign { get; }

    /// <summary>The file without the runtime: to the byte what it was, if nobody else has changed it since.</summary>
    /// <returns>The text, null when there was no file; or why it is not given out.</returns>
    public (string? Text, string? Problem) Remove()
    {
        // 1. The runtime.
        var (rest, _, meaning) = Strip();
        var (document, problem) = Parse(rest, meaning);
        if (document is null)
        {
            return (null, problem);
        }

        // 2. After the last one, what the file needed for them.
        if (Marker.All(document).Any(m => m.IsRuntime))
        {
            return (rest, null);
        }

        var (text, wanted) = FileBlock.Remove(document);
        return text is null ? (null, null) : Parse(text, wanted) is (null, { } wrong) ? (null, wrong) : (text, null);
    }

    /// <summary>The file with the runtime; what there is of it is replaced where it is.</summary>
    /// <param name="plugin">The plugin's name in this file's schema.</param>
    /// <param name="table">The runtime.</param>
    /// <param name="builtIn">Runtimes that have to be in the file too, because containerd 1.x forgets its own once a file has any.</param>
    /// <param name="schema">For the version line of a file that has nothing in it yet.</param>
    /// <param name="isNew">Whether there is no such file yet.</param>
    public (string? Text, string? Problem) Put(
        string plugin, TomlTable table, IReadOnlyList<KeyValuePair<string, TomlTable>> builtIn, long schema, bool isNew)
    {
        // 1. Without ours.
        var (rest, place, meaning) = Strip();
        var (document, problem) = Parse(rest, meaning);
        if (document is null)
        {
            return (null, problem);
        }

        // 2. Ready to take a runtime.
        var runtimes = CriPlugin.Runtimes(plugin);
        var inline = document.Definitions.LastOrDefault(d => d.Inline is not null && runtimes.AsSpan().StartsWith(d.Path));
        if (inline is not null && builtIn.Count > 0)
        {
            return (null, $"{document.Place(inline)}: {TomlWriter.Key(inline.Path)} is an inline table without the runtime {builtIn[0].Key}, "
                + $"which containerd would forget: write it as [{TomlWriter.Key(inline.Path)}], with the runtime {builtIn[0].Key} in it");
        }

        var ready = place < rest.Length ? "" : FileBlock.For(document, isNew, schema, runtimes, builtIn);
        place += ready.Length;
        (var before, problem) = Parse(rest + ready, null);
        if (before is null)
        {
            return (null, problem);
        }

        // 3. The block; when a table on the way is written as { … }, only an entry in there can be the runtime.
        var newLine = document.NewLine;
        var block = new StringBuilder(Marker.Begin(Marker.Runtime(_handler), inline is null ? [] : [Inline])).Append(newLine);
        if (inline is null)
        {
            TomlWriter.Table(block, newLine, [.. runtimes, _handler], table);
        }

        _ = block.Append(Marker.Finish(Marker.Runtime(_handler))).Append(newLine);
        var text = before.Text.Insert(place, block.ToString());
        if (inline is not null)
        {
            var (at, comma) = InlineEnd(inline.Inline!);
            var key = TomlWriter.Key([.. runtimes[inline.Path.Length..], _handler]);
            text = text.Insert(at < place ? at : at + block.Length, $"{comma}{key} = {TomlWriter.Value(table)}");
        }

        var wanted = before.Root.Clone();
        wanted.SetAt([.. runtimes, _handler], table);
        return Parse(text, wanted) is (null, { } wrong) ? (null, wrong) : (text, null);
    }

    /// <summary>The text without the runtime, where its block was or is to be in it, and what it means.</summary>
    private (string Text, int Place, TomlTable Meaning) Strip()
    {
        var meaning = _document.Root.Clone();
        foreach (var definition in _ours)
        {
            meaning.RemoveAt(definition.Path);
        }

        // A block that nobody has put anything into goes as a whole; else only the lines that are ours.
        List<(int Start, int End)> cuts = [];
        var isWhole = _block is not null && _document.Definitions.Where(IsInBlock).All(_ours.Contains);
        if (isWhole)
        {
            cuts.Add(_block!.Value);
        }
        else
        {
            cuts.AddRange(_markers.Select(m => (m.Start, m.End)));
        }

        var done = 0; // a table is followed by its entries
        foreach (var definition in _document.Definitions.Where(d => _ours.Contains(d) && !(isWhole && IsInBlock(d))))
        {
            if (definition.Start >= done)
            {
                cuts.Add(definition.IsInsideInline ? InlineEntry(definition)
                    : (_document.LineStart(definition.Start), _document.NextLine(definition.End - 1)));
                done = definition.End;
            }
        }

        var output = new StringBuilder();
        var (at, place) = (0, -1);
        foreach (var (start, end) in cuts.Order())
        {
            _ = output.Append(_document.Text, at, Math.Max(0, start - at));
            place = isWhole && start == _block!.Value.Start ? output.Length : place;
            at = Math.Max(at, end);
        }

        _ = output.Append(_document.Text, at, _document.Text.Length - at);
        return (output.ToString(), place < 0 ? output.Length : place, meaning);
    }

    private bool IsHandlers(TomlDefinition definition) => _keys.Any(definition.IsBelow);

    private bool IsInBlock(TomlDefinition definition) => _block is var (start, end) && definition.Start >= start && definition.Start < end;

    // In its block; or elsewhere, if the marker says so, if one of the markers is gone, or since nobody else would name our shim.
    private bool IsOurs(TomlDefinition definition) => IsHandlers(definition)
        && (IsInBlock(definition) || _namesOurShim || (_block is null && _markers.Count > 0) || _markers.Any(m => m.Words.Contains(Inline)));

    /// <summary>An entry of an inline table with the comma that it came with.</summary>
    private (int Start, int End) InlineEntry(TomlDefinition definition)
    {
        var item = (InlineTableItemSyntax)definition.Node.Parent!;
        var previous = ((InlineTableSyntax)item.Parent!.Parent!).Items.TakeWhile(i => i != item).LastOrDefault();
        if (previous is not null)
        {
            return (TomlDocument.EndOf(previous.KeyValue!.Value!), definition.End);
        }

        var end = item.Comma is null ? definition.End : TomlDocument.EndOf(item.Comma);
        while (item.Comma is not null && _document.Text[end] is ' ' or '\t')
        {
            end++;
        }

        return (definition.Start, end);
    }

    /// <summary>Where an inline table takes another entry, and what has to stand before it.</summary>
    private static (int Offset, string Comma) InlineEnd(InlineTableSyntax table) =>
        table.Items.LastOrDefault() is { } last ? (TomlDocument.EndOf(last.KeyValue!.Value!), ", ") : (TomlDocument.EndOf(table.OpenBrace!), "");

    /// <summary>Reads a result, and refuses it if it does not mean what was wanted.</summary>
    private (TomlDocument? Document, string? Problem) Parse(string text, TomlTable? wanted)
    {
        var (result, problem) = TomlDocument.Parse(_document.Name, text, _document.HasByteOrderMark);
        return result is null ? (null, Unsafe(problem!))
            : wanted is not null && !TomlTable.Same(result.Root, wanted) ? (null, Unsafe("it would mean something else")) : (result, null);
    }

    private string Unsafe(string reason) => $"{_document.Name} cannot be edited safely; of the result: {reason}. "
        + $"Put the table of the runtime {_handler} in by hand, or bring the file into the form that containerd config dump prints";
}
