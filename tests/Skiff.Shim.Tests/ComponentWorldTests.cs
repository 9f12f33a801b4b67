using System.Text;
using Skiff.Shim.Wasm;

namespace Skiff.Shim.Tests;

public sealed class ComponentWorldTests : IDisposable
{
    private const byte Import = 10;
    private const byte Export = 11;

    private static readonly byte[] _header = [0, (byte)'a', (byte)'s', (byte)'m', 13, 0, 1, 0];

    // externdesc and sortidx of an instance (component-model Binary.md).
    private static readonly byte[] _instanceType = [5, 0];
    private static readonly byte[] _instanceItem = [5, 0];

    private readonly string _path = Path.GetTempFileName();

    public void Dispose() => File.Delete(_path);

    [Fact]
    public void the_names_of_imports_and_exports_are_read_and_all_else_is_passed_over()
    {
        byte[] large = new byte[200_000]; // a core module, larger than what is read at once
        var world = Read(
            [
                .. Section(0, [.. Text("a custom section"), 1, 2, 3]),
                .. Section(Import, [2, .. Name("wasi:io/error@0.2.0"), .. _instanceType, .. Name("wasi:cli/stdout@0.2.0"), .. _instanceType]),
                .. Section(1, large),
                .. Section(Import, [1, .. Name("wasi:clocks/wall-clock@0.2.0"), .. _instanceType]),
                .. Section(Export, [1, .. Name("wasi:cli/run@0.2.3"), .. _instanceItem, 0]),
            ]);
        Assert.Equal(["wasi:io/error@0.2.0", "wasi:cli/stdout@0.2.0", "wasi:clocks/wall-clock@0.2.0"], world!.Imports);
        Assert.Equal(["wasi:cli/run@0.2.3"], world.Exports);
    }

    [Fact]
    public void every_kind_of_import_and_export_is_passed_over_by_its_length()
    {
        var world = Read(
            [
                .. Section(Import,
                [
                    7, .. Name("module"), 0, 0x11, 0x80, 0x01, .. Name("function"), 1, 5, .. Name("value"), 2, 0x7f, .. Name("equal"), 3, 0, 9,
                    .. Name("resource"), 3, 1, .. Name("component"), 4, 0, .. Name("instance"), .. _instanceType,
                ]),
                .. Section(Export,
                [
                    4, .. Name("core"), 0, 0x11, 3, 0, .. Name("function"), 1, 0, 1, 1, 4, .. Name("typed"), .. _instanceItem, 1, 3, 1,
                    .. Attributed("named", "wasi:http/handler@0.3.0"), .. _instanceItem, 0,
                ]),
            ]);
        Assert.Equal(["module", "function", "value", "equal", "resource", "component", "instance"], world!.Imports);
        Assert.Equal(["core", "function", "typed", "named"], world.Exports);
    }

    public static TheoryData<string, byte[]> Unreadable => new()
    {
        { "a section cut off", [Export, 200] },
        { "a size without an end", [Export, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80] },
        { "an export section cut off", [Export, 200, 1, 0, 50, (byte)'a'] },
        { "more names than the section is long", [Export, 2, 0xff, 0x0f] },
        { "a name longer than any", [Export, 8, 1, 0, 0xff, 0xff, 0xff, 0x7f, 0, 0] },
        { "a form of name that is unknown", [Export, 4, 1, 7, 0, 0] },
        { "an export that is longer than its section", [Export, 3, 1, 0, 1, (byte)'a', 5, 0, 0] },
        { "a kind of import that is unknown", [Import, 5, 1, 0, 1, (byte)'a', 9] },
    };

    [Theory]
    [MemberData(nameof(Unreadable))]
    public void what_is_not_understood_has_no_world(string what, byte[] sections) => Assert.True(Read(sections) is null, what);

    [Fact]
    public void sections_without_end_are_not_counted_to_the_end() =>
        Assert.Null(Read([.. Enumerable.Range(0, 100_000).SelectMany(_ => (byte[])[0, 0])]));

    private ComponentWorld? Read(byte[] sections)
    {
        File.WriteAllBytes(_path, [.. _header, .. sections]);
        using var file = File.OpenHandle(_path);
        return ComponentWorld.Read(file);
    }

    private static byte[] Section(byte id, byte[] content) => [id, .. Number(content.Length), .. content];

    private static byte[] Name(string name) => [0, .. Text(name)];

    private static byte[] Attributed(string name, string implements) => [2, .. Text(name), 1, 0, .. Text(implements)];

    private static byte[] Text(string text) => [.. Number(text.Length), .. Encoding.UTF8.GetBytes(text)];

    private static byte[] Number(int number)
    {
        List<byte> bytes = [];
        for (; number > 0x7f; number >>= 7)
        {
            bytes.Add((byte)((number & 0x7f) | 0x80));
        }

        return [.. bytes, (byte)number];
    }
}
