using System.Globalization;
using System.Text;
using Skiff.Containerd.Config;

namespace Skiff.Containerd.Tests.Config;

public sealed class HostileInputTests
{
    private const string Ours = "plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.skiff";

    private static readonly Version _version = new(2, 1, 9);

    /// <summary>What a file of the largest size may be made of, and whether that is TOML at all.</summary>
    public static TheoryData<string, string, string, string, bool> Fillings => new()
    {
        { "comments", "version = 3\n", "#\n", "", true },
        { "empty lines", "version = 3\n", "\n", "", true },
        { "the same table", "version = 3\n", "[a]\n", "", false },
        { "one array", "version = 3\na = [", "1,", "]\n", true },
        { "one string", "version = 3\na = \"", "aaaa", "\"\n", true },
        { "array tables", "version = 3\n", "[[a]]\n", "", true },
        { "open brackets", "a = ", "[", "", false },
        { "open braces", "a = ", "{a=", "", false },
        { "one key", "a", ".a", " = 1\n", false },
        { "one header", "[a", ".a", "]\n", false },
        { "markers", "version = 3\n", "# skiff-operator: begin runtime skiff\n", "", true },
        { "tables of ours", $"version = 3\n[{Ours}]\nruntime_type = \"{Case.Shim}\"\n", $"[{Ours}.NUMBER]\n", "", true },
        { "nothing but garbage", "", "]\n", "", false },
        { "open strings", "", "\"", "", false },
    };

    [Theory]
    [MemberData(nameof(Fillings))]
    public void a_file_of_the_largest_size_is_read_or_refused_in_time(string what, string head, string filling, string tail, bool valid)
    {
        var text = new StringBuilder(head);
        for (var n = 0; text.Length + filling.Length + tail.Length + 8 < ConfigFiles.FileLimit; n++)
        {
            _ = text.Append(filling.Replace("NUMBER", $"k{n}", StringComparison.Ordinal));
        }

        using var folder = new ConfigFolder();
        _ = folder.Put("config.toml", Encoding.UTF8.GetBytes(text.Append(tail).ToString()));
        var start = ProcessorTime();
        var (files, problem) = ConfigFiles.Read(folder.Root, ConfigFiles.DefaultMainPath, _version);
        Assert.True(valid == (problem is null), $"{what}: {problem}");
        if (files is not null)
        {
            var plan = RuntimeRegistration.Remove(files, Case.Handler, Case.Shim);
            Assert.True(plan.Succeeded, plan.Problem);
        }
        else
        {
            Assert.StartsWith(ConfigFiles.DefaultMainPath, problem, StringComparison.Ordinal);
            Assert.True(problem!.Length < 2000, $"{what}: a message of {problem.Length} characters");
        }

        Assert.InRange(ProcessorTime() - start, TimeSpan.Zero, TimeSpan.FromSeconds(60));
    }

    [Fact]
    public void a_larger_file_is_refused()
    {
        using var folder = new ConfigFolder();
        _ = folder.Put("config.toml", new byte[ConfigFiles.FileLimit + 1]);
        Assert.Equal("/etc/containerd/config.toml is larger than 1 MiB: that is no configuration of containerd", Problem(folder));
    }

    [Fact]
    public void bytes_that_are_not_utf8_are_named()
    {
        using var folder = new ConfigFolder();
        _ = folder.Put("config.toml", [(byte)'#', 0xC3, 0x28]);
        Assert.Equal("/etc/containerd/config.toml: byte 1 is not UTF-8: TOML files are UTF-8, convert it", Problem(folder));
    }

    [Fact]
    public void a_nul_is_named_by_its_place()
    {
        using var folder = new ConfigFolder();
        _ = folder.Put("config.toml", "a = 1\n\0"u8);
        Assert.StartsWith("/etc/containerd/config.toml:2:1: not valid TOML", Problem(folder), StringComparison.Ordinal);
    }

    [Fact]
    public void more_files_than_anybody_has_are_refused()
    {
        using var folder = new ConfigFolder();
        _ = folder.Put("config.toml", "imports = [\"conf.d/*.toml\"]\n"u8);
        for (var i = 0; i < ConfigFiles.CountLimit; i++)
        {
            _ = folder.Put($"conf.d/{i:000}.toml", []);
        }

        Assert.Equal("containerd's configuration has more than 100 files, /etc/containerd/conf.d/099.toml among them: import fewer", Problem(folder));
    }

    [Fact]
    public void a_folder_in_a_files_place_is_refused()
    {
        using var folder = new ConfigFolder();
        _ = Directory.CreateDirectory(folder.MainPath);
        Assert.StartsWith("containerd's configuration cannot be read", Problem(folder), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("handler \"Skiff\"", "Skiff", "/shim", "a")]
    [InlineData("handler \"a.b\"", "a.b", "/shim", "a")]
    [InlineData("handler \"-a\"", "-a", "/shim", "a")]
    [InlineData("runtime_type", "a", "", "a")]
    [InlineData("runtime_type", "a", "/shim\n[x]", "a")]
    [InlineData("pod_annotations", "a", "/shim", "a\0")]
    public void what_has_no_place_in_a_table_is_refused(string named, string handler, string shim, string annotation)
    {
        using var folder = new ConfigFolder();
        var table = new RuntimeTable(handler, shim) { PodAnnotations = [annotation] };
        var plan = RuntimeRegistration.Add(folder.Files(_version), table, _version, EffectiveConfig.Parse("").Config!);
        Assert.Contains(named, plan.Problem, StringComparison.Ordinal);
    }

    /// <summary>How much of a processor this thread has had: the machine, and the tests beside this one, have other things to do.</summary>
    private static TimeSpan ProcessorTime() =>
        TimeSpan.FromMicroseconds(long.Parse(File.ReadAllText("/proc/thread-self/schedstat").Split(' ')[0], CultureInfo.InvariantCulture) / 1000);

    private static string Problem(ConfigFolder folder)
    {
        var (files, problem) = ConfigFiles.Read(folder.Root, ConfigFiles.DefaultMainPath, _version);
        Assert.Null(files);
        return problem!;
    }
}
