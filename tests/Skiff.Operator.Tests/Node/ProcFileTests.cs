using Skiff.Operator.Node;

namespace Skiff.Operator.Tests.Node;

public sealed class ProcFileTests
{
    [Theory]
    [InlineData("/usr/bin/containerd", "/etc/containerd/config.toml")]
    [InlineData("/usr/bin/containerd --log-level debug", "/etc/containerd/config.toml")]
    [InlineData("/usr/bin/containerd --config /a/b.toml", "/a/b.toml")]
    [InlineData("/usr/bin/containerd -c=/a/b.toml --root /x", "/a/b.toml")]
    [InlineData("/usr/bin/containerd -config relative.toml", "/work/relative.toml")]
    [InlineData("/usr/bin/containerd --config", "/etc/containerd/config.toml")]
    public void a_command_line_names_the_configuration(string words, string expected) => Assert.Equal(expected, ProcFile.ConfigOf(words.Split(' '), "/work"));

    [Theory]
    [InlineData("12:pids:/skiff-a/x\n1:name=systemd:/skiff-a/system.slice/containerd.service\n0::/\n", "containerd.service")]
    [InlineData("0::/system.slice/containerd.service\n", "containerd.service")]
    [InlineData("0::/system.slice/k3s.service/child\n", "k3s.service")]
    [InlineData("0::/user.slice/session-1.scope\n", null)]
    [InlineData("", null)]
    public void a_cgroup_names_the_unit(string membership, string? expected) => Assert.Equal(expected, ProcFile.UnitOf(membership));

    [Fact]
    public void a_process_is_as_old_as_its_start_says_whatever_its_name_is()
    {
        var stat = "7 (a ) b) S " + string.Join(' ', Enumerable.Range(4, 18)) + " 12345 99";
        Assert.Equal((12345L, TimeSpan.FromSeconds(76.55)), ProcFile.StartOf(stat, "200.00 300.00\n"));
        Assert.Equal(4, ProcFile.ParentOf(stat));
        Assert.Equal(TimeSpan.Zero, ProcFile.StartOf(stat, "100.00 1.00\n").Age);
    }

    [Fact]
    public void the_innermost_number_is_the_last() => Assert.Equal(12, ProcFile.InnermostPid("Name:\tx\nNSpid:\t4711\t12\nNSsid:\t1\t1\n"));
}
