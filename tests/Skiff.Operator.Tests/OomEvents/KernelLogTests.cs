using Skiff.Operator.OomEvents;

namespace Skiff.Operator.Tests.OomEvents;

public sealed class KernelLogTests
{
    private const string Id = "b7dc91347d1a098271e5b87b8c2127a8847b69898ced6778859ab5ca2df00acd";
    private const string Pod = "/node/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0764ffc5_fbbf_4d2a_b69d_70aebde3ef57.slice";
    private const string Container = Pod + "/cri-containerd-" + Id + ".scope";

    private readonly KernelLog _log = new();

    [Theory]
    [InlineData("MEMCG", ",oom_memcg=" + Container, KillLevel.Container)]
    [InlineData("MEMCG", ",oom_memcg=" + Pod, KillLevel.Pod)]
    [InlineData("MEMCG", ",oom_memcg=/node/kubepods.slice", KillLevel.Node)]
    [InlineData("NONE", ",global_oom", KillLevel.Node)]
    internal void a_victim_is_known_by_its_cgroup_and_so_is_whose_limit_it_was_for(string constraint, string whose, KillLevel level)
    {
        Assert.Equal(Id, Take(constraint, whose, Container, "grow,pid=7", 21540));
        _ = _log.Take("3,16082,20122262818,-;Memory cgroup out of memory: Killed process 21540 (grow,pid=7) total-vm:4564508kB, anon-rss:32256kB, file-rss:15832kB, shmem-rss:4kB, UID:0 pgtables:204kB oom_score_adj:999\n");
        var victim = Assert.Single(_log.TakeOf(Id));
        Assert.Equal(new Victim("grow,pid=7", 21540, (32256 + 15832 + 4) << 10, level, Container), victim);
        Assert.Empty(_log.TakeOf(Id));
    }

    [Fact]
    public void a_victim_whose_size_was_not_written_is_known_without()
    {
        _ = Take("MEMCG", ",oom_memcg=" + Container, Container, "grow", 5);
        Assert.Null(Assert.Single(_log.TakeOf(Id)).Bytes);
    }

    [Fact]
    public void the_victims_of_others_stay_and_the_oldest_of_very_many_go()
    {
        _ = Take("MEMCG", ",oom_memcg=" + Pod, Pod + "/cri-containerd-other.scope", "other", 1);
        Assert.Empty(_log.TakeOf(Id));
        for (var i = 0; i < 300; i++)
        {
            _ = Take("MEMCG", ",oom_memcg=" + Container, Container, "grow", 100 + i);
        }

        Assert.Empty(_log.TakeOf("other"));
        var victims = _log.TakeOf(Id);
        Assert.Equal(256, victims.Count);
        Assert.Equal(399, victims[0].Pid);
    }

    [Theory]
    [InlineData("")]
    [InlineData("6,1,2,-;eth0: renamed from veth0")]
    [InlineData("6,1,2,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null)")]
    [InlineData("6,1,2,-;oom-kill:constraint=CONSTRAINT_MEMCG,task_memcg=/x,task=grow,pid=many,uid=0")]
    [InlineData("3,1,2,-;Memory cgroup out of memory: Killed process ")]
    public void other_lines_are_nobodys(string record)
    {
        Assert.Null(_log.Take(record));
        Assert.Empty(_log.TakeOf(""));
    }

    [Theory]
    [InlineData(Container + "/made/by/itself", Id)]
    [InlineData("/kubepods/besteffort/pod0764ffc5-fbbf-4d2a-b69d-70aebde3ef57/" + Id, Id)]
    [InlineData(Pod, null)]
    [InlineData("/system.slice/kubelet.service", null)]
    [InlineData("/", null)]
    public void the_container_of_a_victim_is_the_one_in_whose_cgroup_it_was(string cgroup, string? container) =>
        Assert.Equal(container, Take("MEMCG", ",oom_memcg=" + Pod, cgroup, "grow", 5));

    [Theory]
    [InlineData("/dev/null")]
    [InlineData("/dev/does-not-exist")]
    public async Task a_node_without_a_log_has_no_victims(string path) => await _log.FollowAsync(path, Assert.Fail, TestContext.Current.CancellationToken);

    private string? Take(string constraint, string whose, string cgroup, string task, int pid) => _log.Take(
        $"6,16081,20122262802,-;oom-kill:constraint=CONSTRAINT_{constraint},nodemask=(null),cpuset=x,mems_allowed=0{whose},task_memcg={cgroup},task={task},pid={pid},uid=0\n SUBSYSTEM=x\n");
}
