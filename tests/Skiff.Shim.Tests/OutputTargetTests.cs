using Skiff.Shim.Stdio;

namespace Skiff.Shim.Tests;

public sealed class OutputTargetTests
{
    [Theory]
    [InlineData("", OutputKind.None, "", "", false)]
    [InlineData("/run/containerd/fifo/1/c-stdout", OutputKind.Fifo, "/run/containerd/fifo/1/c-stdout", "", false)]
    [InlineData("file:///var/log/a%20b.log", OutputKind.File, "/var/log/a b.log", "", false)]
    [InlineData("binary:///usr/bin/log", OutputKind.Logger, "/usr/bin/log", "", false)]
    [InlineData("binary:///usr/bin/log?id=x&tag=a+b%26c&id=y&alone", OutputKind.Logger, "/usr/bin/log", "id|x|tag|a b&c|alone|", false)]
    [InlineData("binary-v2:///usr/bin/log?id=x", OutputKind.Logger, "/usr/bin/log", "id|x", true)]
    internal void a_path_or_a_log_uri_says_where_output_goes(string text, OutputKind kind, string path, string arguments, bool mustSayReady)
    {
        var (target, problem) = OutputTarget.Parse(text);
        Assert.Null(problem);
        Assert.Equal((kind, path, arguments, mustSayReady), (target!.Kind, target.Path, string.Join('|', target.Arguments), target.MustSayReady));
    }

    [Theory]
    [InlineData("relative/path", "neither the absolute path")]
    [InlineData("ttrpc+unix:///run/x", "neither the absolute path")]
    [InlineData("file://var/log/x", "three slashes")]
    [InlineData("binary://", "three slashes")]
    public void anything_else_is_refused_with_what_is_known(string text, string says) =>
        Assert.Contains(says, OutputTarget.Parse(text).Problem, StringComparison.Ordinal);
}
