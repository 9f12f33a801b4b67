using Skiff.Containerd.Config;

namespace Skiff.Containerd.Tests.Config;

public sealed class EffectiveConfigTests
{
    [Theory]
    [InlineData("a = 1\n[b]\nc = [1, 2]\n", "# c\n[b]\n  c=[ 1,2 ]", true)] // a is gone
    [InlineData("a = 1\n[b]\nc = [1, 2]\n", "b = { c = [1, 2] }\na = 0x1 # c", false)]
    [InlineData("a = 'x'", "a = \"x\"", false)]
    [InlineData("a = [1, 2]", "a = [2, 1]", true)]
    [InlineData("a = 1", "a = 1.0", true)]
    [InlineData("a = 1", "a = '1'", true)]
    [InlineData("a = false", "", true)]
    [InlineData("[a.b]", "", false)]
    [InlineData("version = 2\nimports = ['a', 'b']", "version = 3\nimports = ['b', 'a', 'c']", false)]
    [InlineData("[a]\nversion = 2", "[a]\nversion = 3", true)]
    public void only_what_means_something_else_differs(string one, string other, bool differs)
    {
        Assert.Equal(differs, Parse(one).Differs(Parse(other)));
        Assert.Equal(differs, Parse(other).Differs(Parse(one)));
    }

    [Fact]
    public void a_handler_is_found_with_its_annotations_and_options_in_either_schema()
    {
        foreach (var plugin in (string[])[CriPlugin.Schema2, CriPlugin.Schema3])
        {
            var found = Parse($"""
                [plugins.'{plugin}'.containerd.runtimes.skiff]
                runtime_type = '/shim'
                pod_annotations = ['a', 'b']
                options = {"{"} S = 'x', B = true, N = -7, F = 1.5, T = {"{"} {"}"} {"}"}
                """).Find("skiff")!;
            Assert.Equal("/shim", found.RuntimeType);
            Assert.Equal(["a", "b"], found.PodAnnotations);
            Assert.Equal(new Dictionary<string, OptionValue> { ["S"] = "x", ["B"] = true, ["N"] = -7 }, found.Options);
            Assert.Equal(("x", true, -7L), (found.Options["S"].AsString, found.Options["B"].AsBoolean, found.Options["N"].AsInt64));
        }
    }

    [Fact]
    public void a_handler_that_is_not_there_is_null() => Assert.Null(Parse("[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]").Find("skiff"));

    [Fact]
    public void a_default_runtime_table_of_1_x_wins_over_the_name()
    {
        const string table = "[plugins.'io.containerd.grpc.v1.cri'.containerd]\ndefault_runtime_name = 'runc'\nruntimes.runc = { runtime_type = 'io.containerd.runc.v2', options.Root = '/a' }\n";
        Assert.Equal("/a", Parse(table + "default_runtime = { runtime_type = '' }").DefaultOptions()["Root"].AsString);
        Assert.Equal("/b", Parse(table + "default_runtime = { runtime_type = '/usr/bin/containerd-shim-runc-v2', options.Root = '/b' }").DefaultOptions()["Root"].AsString);
        Assert.Empty(Parse(table + "default_runtime = { runtime_type = 'io.containerd.kata.v2', options.Root = '/b' }").DefaultOptions());
    }

    [Fact]
    public void what_is_no_dump_is_refused() =>
        Assert.StartsWith("the output of containerd config dump:1:1: ", EffectiveConfig.Parse("]").Problem, StringComparison.Ordinal);

    [Theory]
    [InlineData("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3", "1.6.20")]
    [InlineData("containerd github.com/containerd/containerd/v2 2.1.9+unknown ", "2.1.9")]
    [InlineData("containerd github.com/containerd/containerd/v2 v2.4.2 module", "2.4.2")]
    [InlineData("2.0.0-rc.1", "2.0.0")]
    [InlineData("containerd", null)]
    [InlineData("", null)]
    [InlineData("99999999999999999999.1.1", null)]
    public void each_containerds_own_word_for_its_version_is_read(string text, string? version) =>
        Assert.Equal(version, ContainerdRelease.Parse(text)?.ToString());

    private static EffectiveConfig Parse(string dump)
    {
        var (config, problem) = EffectiveConfig.Parse(dump);
        Assert.Null(problem);
        return config!;
    }
}
