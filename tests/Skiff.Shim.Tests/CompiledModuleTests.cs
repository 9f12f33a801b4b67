using Skiff.Shim.Wasm;

namespace Skiff.Shim.Tests;

public sealed class CompiledModuleTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("skiff-compiled-").FullName;

    /// <summary>The least that is whole: a header, and a table of one section.</summary>
    internal static byte[] Whole { get; } = [.. "\u007fELF"u8, 2, 1, 1, 200, .. new byte[32], 64, .. new byte[17], 64, 0, 1, 0, .. new byte[66]];

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void a_file_with_its_last_table_is_whole_and_one_without_its_end_is_not()
    {
        Assert.Equal(128, Whole.Length);
        Assert.True(IsWhole(Whole));
        for (var length = 0; length < Whole.Length; length++)
        {
            Assert.False(IsWhole(Whole[..length]));
        }
    }

    [Fact]
    public void a_table_that_lies_outside_the_file_is_not_whole_however_large_its_numbers_are()
    {
        byte[] far = [.. Whole];
        far.AsSpan(40, 8).Fill(0xff);
        Assert.False(IsWhole(far));
        byte[] many = [.. Whole];
        many.AsSpan(58, 4).Fill(0xff);
        Assert.False(IsWhole(many));
    }

    [Fact]
    public void a_native_program_is_none()
    {
        Assert.False(IsWhole(File.ReadAllBytes("/proc/self/exe")));
        Assert.False(CompiledModule.IsOne("\u007fELF"u8));
    }

    private bool IsWhole(byte[] content)
    {
        var path = Path.Combine(_folder, "file");
        File.WriteAllBytes(path, content);
        using var file = File.OpenHandle(path);
        return CompiledModule.IsWhole(file);
    }
}
