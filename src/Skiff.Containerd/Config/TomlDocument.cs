using System.Text;
using Tomlyn;
using Tomlyn.Parsing;
using Tomlyn.Syntax;

namespace Skiff.Containerd.Config;

/// <summary>Something that a document defines: a table with its entries, or an entry.</summary>
internal sealed class TomlDefinition(string[] path, SyntaxNode node, int start, int end)
{
    /// <summary>Its full key.</summary>
    public string[] Path => path;

    /// <summary>A table with its entries, or one entry.</summary>
    public SyntaxNode Node => node;

    /// <summary>Where its text begins.</summary>
    public int Start => start;

    /// <summary>Where its text ends (exclusive): behind the last value, without comments and the line's end.</summary>
    public int End => end;

    /// <summary>The entry's inline table, if it is one.</summary>
    public InlineTableSyntax? Inline => (Node as KeyValueSyntax)?.Value as InlineTableSyntax;

    /// <summary>Whether it is in an inline table, and so not on lines of its own.</summary>
    public bool IsInsideInline => Node.Parent is InlineTableItemSyntax;

    /// <summary>Whether its key begins with these.</summary>
    public bool IsBelow(IReadOnlyList<string> path) => Path.Length >= path.Count && Path.AsSpan(0, path.Count).SequenceEqual([.. path]);
}

/// <summary>A comment of a document.</summary>
internal readonly record struct TomlComment(string Text, int Start);

/// <summary>
/// A TOML file: its text, what each part of the text defines, and what all of it means. Offsets are characters of <see cref="Text"/>.
/// </summary>
internal sealed class TomlDocument
{
    /// <summary>The most parts of a key, with those of its table: far beyond any configuration, far below what a stack holds.</summary>
    private const int KeyLimit = 128;

    /// <summary>The most levels of a value: Tomlyn's own limit.</summary>
    private const int DepthLimit = 64;

    private const int MessageLimit = 300;
    private const char ByteOrderMark = '\uFEFF';

    private static readonly UTF8Encoding _utf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    private readonly List<TomlDefinition> _definitions = [];
    private readonly List<TomlComment> _comments = [];
    private string? _problem;

    private TomlDocument(string name, string text, bool hasMark)
    {
        Name = name;
        Text = text;
        HasByteOrderMark = hasMark;
    }

    /// <summary>The file's path, for messages.</summary>
    public string Name { get; }

    /// <summary>The text, without a byte order mark.</summary>
    public string Text { get; }

    /// <summary>Whether the file begins with a byte order mark.</summary>
    public bool HasByteOrderMark { get; }

    /// <summary>Every table and entry in the document's order; an inline table is followed by its entries.</summary>
    public IReadOnlyList<TomlDefinition> Definitions => _definitions;

    /// <summary>Every comment in the document's order.</summary>
    public IReadOnlyList<TomlComment> Comments => _comments;

    /// <summary>What it means.</summary>
    public TomlTable Root { get; } = new() { Source = TomlTable.Origin.Header };

    /// <summary>How its lines end.</summary>
    public string NewLine => Text.IndexOf('\n', StringComparison.Ordinal) is > 0 and var end && Text[end - 1] == '\r' ? "\r\n" : "\n";

    /// <summary>Reads a file.</summary>
    /// <returns>The document, or the first thing that is wrong with it.</returns>
    public static (TomlDocument? Document, string? Problem) Parse(string name, ReadOnlySpan<byte> content)
    {
        string text;
        try
        {
            text = _utf8.GetString(content);
        }
        catch (DecoderFallbackException e)
        {
            return (null, $"{name}: byte {e.Index} is not UTF-8: TOML files are UTF-8, convert it");
        }

        var marked = text.StartsWith(ByteOrderMark);
        return Parse(name, marked ? text[1..] : text, marked);
    }

    /// <summary>Reads a text.</summary>
    /// <returns>The document, or the first thing that is wrong with it.</returns>
    public static (TomlDocument? Document, string? Problem) Parse(string name, string text, bool hasMark = false)
    {
        var document = new TomlDocument(name, text, hasMark);
        DocumentSyntax syntax;
        try
        {
            // Tomlyn's own validation is left out: its message for a key that is there twice quotes the whole table, each time.
            syntax = SyntaxParser.Parse(text, name, validate: false);
        }
        catch (TomlException)
        {
            return (null, $"{name}: values are nested more than {DepthLimit} deep");
        }

        if (syntax.HasErrors)
        {
            var error = syntax.Diagnostics.First(d => d.Kind == DiagnosticMessageKind.Error);
            var message = error.Message.Length > MessageLimit ? error.Message[..MessageLimit] + "…" : error.Message;
            return (null, $"{name}:{Position(error.Span)}: not valid TOML: {message}");
        }

        document.Read(syntax);
        return document._problem is null ? (document, null) : (null, document._problem);
    }

    /// <summary>The file's bytes with another text.</summary>
    public byte[] Encode(string text) => _utf8.GetBytes(HasByteOrderMark ? ByteOrderMark + text : text);

    /// <summary>The first definition below a path, or null.</summary>
    public TomlDefinition? FirstBelow(IReadOnlyList<string> path) => _definitions.Find(d => d.IsBelow(path));

    /// <summary>Where a definition is, for messages: file:line:column.</summary>
    public string Place(TomlDefinition definition) => $"{Name}:{Position(definition.Node.Span)}";

    /// <summary>The beginning of the line that a place is in.</summary>
    public int LineStart(int offset) => offset == 0 ? 0 : Text.LastIndexOf('\n', offset - 1) + 1;

    /// <summary>The beginning of the next line, or the end of the text.</summary>
    public int NextLine(int offset) => Text.IndexOf('\n', offset) is >= 0 and var end ? end + 1 : Text.Length;

    /// <summary>Where a part of the document ends (exclusive).</summary>
    public static int EndOf(SyntaxNode node) => node.Span.End.Offset + 1;

    private static string Position(SourceSpan span) => $"{span.Start.Line + 1}:{span.Start.Column + 1}";

    private void Read(DocumentSyntax syntax)
    {
        foreach (var token in syntax.Tokens(true))
        {
            if (token is SyntaxTrivia { Kind: TokenKind.Comment } comment)
            {
                _comments.Add(new TomlComment(comment.Text ?? "", comment.Span.Start.Offset));
            }
        }

        foreach (var entry in syntax.KeyValues)
        {
            ReadEntry(Root, [], entry);
        }

        foreach (var table in syntax.Tables)
        {
            ReadTable(table);
        }
    }

    private void ReadTable(TableSyntaxBase table)
    {
        var path = PathOf(table.Name!);
        if (path.Length > KeyLimit)
        {
            Fail(table, path, $"has more than {KeyLimit} parts");
            return;
        }

        var end = EndOf(table.Items.LastOrDefault()?.Value ?? (SyntaxNode)table.CloseBracket!);

        _definitions.Add(new TomlDefinition(path, table, table.OpenBracket!.Span.Start.Offset, end));
        var parent = Root;
        foreach (var key in path.AsSpan()[..^1])
        {
            var next = parent[key];
            if (next is null)
            {
                parent.Set(key, next = new TomlTable());
            }

            // Of an array of tables, the last one is meant.
            if ((next is List<object> { Count: > 0 } many ? many[^1] : next) is not TomlTable { Source: not TomlTable.Origin.Inline } inner)
            {
                Fail(table, path, $"goes through {key}, which is a complete value already");
                return;
            }

            parent = inner;
        }

        var content = new TomlTable { Source = TomlTable.Origin.Header };
        switch (parent[path[^1]])
        {
            case null when table is TableArraySyntax:
                parent.Set(path[^1], new List<object> { content });
                break;
            case List<object> and [TomlTable { Source: TomlTable.Origin.Header }, ..] many when table is TableArraySyntax:
                many.Add(content);
                break;
            case null:
                parent.Set(path[^1], content);
                break;
            case TomlTable { Source: TomlTable.Origin.Parent } known when table is TableSyntax:
                content = known;
                content.Source = TomlTable.Origin.Header;
                break;
            default:
                Fail(table, path, "is defined twice");
                return;
        }

        foreach (var entry in table.Items)
        {
            ReadEntry(content, path, entry);
        }
    }

    private void ReadEntry(TomlTable table, string[] prefix, KeyValueSyntax entry)
    {
        var path = PathOf(entry.Key!);
        string[] full = [.. prefix, .. path];
        if (full.Length > KeyLimit)
        {
            Fail(entry, full, $"has more than {KeyLimit} parts");
            return;
        }

        var definition = new TomlDefinition(full, entry, entry.Key!.Span.Start.Offset, EndOf(entry.Value!));
        _definitions.Add(definition);
        foreach (var key in path.AsSpan()[..^1])
        {
            if (table[key] is null)
            {
                table.Set(key, new TomlTable { Source = TomlTable.Origin.DottedKey });
            }

            if (table[key] is not TomlTable { Source: TomlTable.Origin.DottedKey } next)
            {
                Fail(entry, full, "is defined twice");
                return;
            }

            table = next;
        }

        if (table[path[^1]] is not null)
        {
            Fail(entry, full, "is defined twice");
            return;
        }

        table.Set(path[^1], ReadValue(full, entry.Value!));
    }

    private object ReadValue(string[] path, ValueSyntax value)
    {
        switch (value)
        {
            case StringValueSyntax text:
                return text.Value ?? "";
            case IntegerValueSyntax number:
                return number.Value;
            case BooleanValueSyntax boolean:
                return boolean.Value;
            case FloatValueSyntax real:
                return real.Value;
            case ArraySyntax array:
                List<object> items = [];
                foreach (var item in array.Items)
                {
                    items.Add(ReadValue(path, item.Value!));
                }

                return items;
            case InlineTableSyntax inline:
                var table = new TomlTable { Source = TomlTable.Origin.DottedKey };
                foreach (var item in inline.Items)
                {
                    ReadEntry(table, path, item.KeyValue!);
                }

                Complete(table);
                return table;
            default:
                return value.ToString().Trim(); // a date
        }
    }

    // Only the braces themselves may add to an inline table, and to what its dotted keys made.
    private static void Complete(TomlTable table)
    {
        table.Source = TomlTable.Origin.Inline;
        foreach (var (_, value) in table.Entries)
        {
            if (value is TomlTable { Source: TomlTable.Origin.DottedKey } inner)
            {
                Complete(inner);
            }
        }
    }

    private void Fail(SyntaxNode node, string[] path, string what)
    {
        var key = TomlWriter.Key(path);
        _problem ??= $"{Name}:{Position(node.Span)}: {(key.Length > MessageLimit ? key[..MessageLimit] + "…" : key)} {what}: correct the file";
    }

    private static string[] PathOf(KeySyntax key)
    {
        List<string> path = [Part(key.Key!)];
        foreach (var item in key.DotKeys)
        {
            path.Add(Part(item.Key!));
        }

        return [.. path];
    }

    private static string Part(BareKeyOrStringValueSyntax part) => part switch
    {
        BareKeySyntax bare => bare.Key?.Text ?? "",
        StringValueSyntax quoted => quoted.Value ?? "",
        _ => throw new InvalidOperationException($"a key is a {part.Kind}"),
    };
}
