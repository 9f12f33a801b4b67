using Skiff.Containerd.Config;

namespace Skiff.Containerd.Tests.Config;

public sealed class ConfigFilesTests : IDisposable
{
    private static readonly Version _version = new(2, 1, 9);

    private readonly ConfigFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void imports_are_read_level_by_level_and_each_once()
    {
        _ = _folder
            .Put("config.toml", "imports = ['b.toml', '/etc/containerd/d/*.toml', './config.toml']"u8)
            .Put("b.toml", "imports = ['d/../c.toml', 'b.toml']"u8)
            .Put("c.toml", []).Put("d/2.toml", []).Put("d/1.toml", []).Put("d/3.txt", []).Put("d/.4.toml", []);
        Assert.Equal(["b.toml", "d/.4.toml", "d/1.toml", "d/2.toml", "c.toml"], Imports(_version));
    }

    [Fact]
    public void a_relative_pattern_is_beside_the_file_except_for_1_6_which_takes_it_from_the_root()
    {
        _ = _folder.Put("config.toml", "imports = ['d/*.toml']"u8).Put("d/1.toml", []);
        Assert.Equal(["d/1.toml"], Imports(_version));
        Assert.Equal(["d/1.toml"], Imports(new Version(1, 7, 24)));
        Assert.Empty(Imports(new Version(1, 6, 20)));
    }

    [Fact]
    public void folders_may_have_patterns_too()
    {
        _ = _folder.Put("config.toml", "imports = ['/etc/c*/[a-c]?/x.toml*']"u8).Put("a1/x.toml", []).Put("c2/x.toml~", []).Put("d1/x.toml", []);
        Assert.Equal(["a1/x.toml", "c2/x.toml~"], Imports(_version));
    }

    [Fact]
    public void a_link_leads_nowhere_but_below_the_hosts_root()
    {
        _ = Directory.CreateDirectory(_folder.Root + "/data");
        File.WriteAllText(_folder.Root + "/data/config.toml", "# below the root");
        _ = File.CreateSymbolicLink(_folder.MainPath, "/data/config.toml");
        Assert.Equal("# below the root"u8.ToArray(), _folder.Files(_version).Main.Content);
        File.Delete(_folder.MainPath);
        _ = File.CreateSymbolicLink(_folder.MainPath, "../../../../../../../../../../../etc/passwd");
        Assert.Null(_folder.Files(_version).Main.Content);
    }

    [Fact]
    public void imports_of_another_kind_are_refused_with_their_place()
    {
        _ = _folder.Put("config.toml", "version = 3\nimports = [1]\n"u8);
        Assert.Equal(
            "/etc/containerd/config.toml:2:1: imports is not a list of strings: correct it",
            ConfigFiles.Read(_folder.Root, ConfigFiles.DefaultMainPath, _version).Problem);
    }

    [Theory]
    [InlineData("*", "a.toml", true)]
    [InlineData("*.toml", "a.toml", true)]
    [InlineData("*.toml", ".toml", true)]
    [InlineData("*.toml", "a.toml.bak", false)]
    [InlineData("a*b*c", "axxbyyc", true)]
    [InlineData("a*b*c", "axxcyyb", false)]
    [InlineData("?.toml", "a.toml", true)]
    [InlineData("?.toml", ".toml", false)]
    [InlineData("[a-c].toml", "b.toml", true)]
    [InlineData("[^a-c].toml", "b.toml", false)]
    [InlineData("[^a-c]*", "d", true)]
    [InlineData("[]-]x", "-x", true)]
    [InlineData(@"\*", "*", true)]
    [InlineData(@"\*", "a", false)]
    [InlineData(@"[\]]", "]", true)]
    [InlineData("[a", "a", false)]
    [InlineData("", "", true)]
    [InlineData("**", "", true)]
    [InlineData("a", "", false)]
    [InlineData("", "a", false)]
    public void patterns_match_as_in_go(string pattern, string name, bool matches) => Assert.Equal(matches, Glob.Matches(pattern, name));

    private IEnumerable<string> Imports(Version version) => _folder.Files(version).Imports.Select(f => Path.GetRelativePath("/etc/containerd", f.Path));
}
