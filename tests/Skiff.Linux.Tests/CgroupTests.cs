using Skiff.Linux.Cgroups;
using Skiff.Linux.Mounts;

namespace Skiff.Linux.Tests;

public sealed class CgroupTests
{
    private const string Version1 = """
        30 24 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
        31 24 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
        32 24 0:28 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
        33 24 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
        """;

    [Fact]
    public void version_1_has_a_folder_for_each_controller()
    {
        var cgroup = ContainerCgroup.Parse("9:memory:/a/b\n4:cpu,cpuacct:/c\n1:name=systemd:/\n0::/a\n", MountTable.Parse(Version1))!;
        Assert.False(cgroup.IsUnified);
        Assert.Equal("/sys/fs/cgroup/memory/a/b", cgroup.Folder("memory"));
        Assert.Equal("/sys/fs/cgroup/cpu,cpuacct/c", cgroup.Folder("cpuacct"));
        Assert.Null(cgroup.Folder("pids"));
    }

    [Fact]
    public void version_2_has_one_folder()
    {
        var cgroup = ContainerCgroup.Parse("0::/kubepods.slice/x.scope\n", MountTable.Parse("30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"))!;
        Assert.True(cgroup.IsUnified);
        Assert.Equal("/sys/fs/cgroup/kubepods.slice/x.scope", cgroup.Folder("memory"));
    }

    [Fact]
    public void a_mount_of_a_subtree_shortens_the_path()
    {
        var cgroup = ContainerCgroup.Parse("0::/node/pod\n", MountTable.Parse("30 24 0:26 /node /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"))!;
        Assert.Equal("/sys/fs/cgroup/pod", cgroup.Folder(""));
    }

    [Fact]
    public void a_process_in_the_roots_has_no_cgroup_of_its_own() =>
        Assert.Null(ContainerCgroup.Parse("9:memory:/\n0::/\n", MountTable.Parse(Version1)));

    [Fact]
    public void a_mount_point_may_hold_spaces() =>
        Assert.Equal("/a b\\c", Assert.Single(MountTable.Parse(@"30 24 0:26 / /a\040b\134c rw shared:1 master:2 - ext4 /dev/x rw")).Target);

    [Fact]
    public void lines_of_another_form_are_left_out() => Assert.Empty(MountTable.Parse("\n1 2\nno dash here at all in this line x y\n"));
}
