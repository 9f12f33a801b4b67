using Skiff.Operator.Cli;
using Skiff.Operator.Node;

namespace Skiff.Operator.Tests.Cli;

public sealed class NodeCommandTests
{
    private static readonly Dictionary<string, OptionKind> _options = new()
    {
        ["--name"] = OptionKind.Single,
        ["--each"] = OptionKind.Repeated,
        ["--flag"] = OptionKind.Flag,
    };

    [Fact]
    public void values_come_after_a_space_or_an_equals_sign()
    {
        Assert.True(Arguments.TryParse(["--name=a=b", "--each", "1", "--each=2", "--flag"], _options, out var arguments, out _));
        Assert.Equal("a=b", arguments.Value("--name"));
        Assert.Equal(["1", "2"], arguments.Values("--each"));
        Assert.True(arguments.Has("--flag"));
    }

    [Theory]
    [InlineData("--other", "unknown option --other")]
    [InlineData("word", "not an option")]
    [InlineData("--name", "needs a value")]
    [InlineData("--name=a --name=b", "twice")]
    [InlineData("--flag=x", "takes no value")]
    public void what_is_wrong_is_said(string line, string expected)
    {
        Assert.False(Arguments.TryParse(line.Split(' '), _options, out _, out var problem));
        Assert.Contains(expected, problem, StringComparison.Ordinal);
    }

    [Fact]
    public void an_option_of_the_shim_has_the_kind_of_its_value()
    {
        Assert.True(NodeCommand.ParseOption("SystemdCgroup=true")!.Value.Value.AsBoolean);
        Assert.Equal(7, NodeCommand.ParseOption("IoUid=7")!.Value.Value.AsInt64);
        Assert.Equal("/a=b", NodeCommand.ParseOption("BinaryName=/a=b")!.Value.Value.AsString);
        Assert.Null(NodeCommand.ParseOption("=x"));
        Assert.Null(NodeCommand.ParseOption("x"));
    }

    [Theory]
    [InlineData("install", "--host-root", "/host")]
    [InlineData("install", "--handler", "Skiff")]
    [InlineData("install", "--restart", "never")]
    [InlineData("install", "--config", "config.toml")]
    [InlineData("status", "-o", "yaml")]
    [InlineData("status", "--bundle", "/x")]
    [InlineData("reinstall")]
    public async Task a_command_line_that_is_wrong_ends_with_2(params string[] words) => Assert.Equal(ExitCode.Usage, await NodeCommand.RunAsync(words));

    [Fact]
    public void an_outcome_has_its_status()
    {
        Assert.Equal(
            [0, 1, 1, 1, 3, 0],
            ((InstallResult[])[InstallResult.Done, InstallResult.Refused, InstallResult.RolledBack, InstallResult.Failed, InstallResult.InUse, InstallResult.RestartPending])
                .Select(NodeCommand.StatusOf));
    }

    [Fact]
    public void a_table_says_what_is_wrong()
    {
        var table = NodeCommand.Table(new NodeStatus("skiff") { Problems = ["first", "second"], Registered = true });
        Assert.Contains("registered      yes\n", table, StringComparison.Ordinal);
        Assert.EndsWith("problem         first\nproblem         second\n", table, StringComparison.Ordinal);
    }
}
