using System.Text;
using Microsoft.Extensions.Time.Testing;
using Skiff.Linux;
using Skiff.Linux.Files;
using Skiff.Operator.OomEvents;

namespace Skiff.Operator.Tests.OomEvents;

public sealed class KernelLogTests : IDisposable
{
    private const string Id = "b7dc91347d1a098271e5b87b8c2127a8847b69898ced6778859ab5ca2df00acd";
    private const string Other = "0123456789012345678901234567890123456789012345678901234567890123";
    private const string Head = "<6>[   12.345678] ";
    private const ulong Size = (32256 + 4) << 10;
    private const string Pod = "/node/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0764ffc5_fbbf_4d2a_b69d_70aebde3ef57.slice";
    private const string Container = Pod + "/cri-containerd-" + Id + ".scope";

    private readonly FakeTimeProvider _time = new();
    private readonly string _file = Path.Combine(Path.GetTempPath(), $"skf-kmsg-{Guid.NewGuid():n}");
    private KernelLog? _opened;
    private string _buffer = "";

    private KernelLog Log => _opened ??= new KernelLog("/dev/null", () => _buffer, countsAsWe: true, _time);

    public void Dispose()
    {
        _opened?.Dispose();
        File.Delete(_file);
    }

    [Theory]
    [InlineData("MEMCG", ",oom_memcg=" + Container, KillLevel.Container)]
    [InlineData("MEMCG", ",oom_memcg=" + Pod, KillLevel.Pod)]
    [InlineData("MEMCG", ",oom_memcg=/node/kubepods.slice", KillLevel.Node)]
    [InlineData("NONE", ",global_oom", KillLevel.Node)]
    internal void a_victim_is_known_by_its_cgroup_and_so_is_whose_limit_it_was_for(string constraint, string whose, KillLevel level)
    {
        _buffer = "<6>[ 1.5][   T12] " + Line(constraint, whose, Container, "grow,pid=7", 21540) + Head + Killed("grow,pid=7", 21540);
        Assert.True(Log.Tells(Id, null));
        var victim = Assert.Single(Log.TakeOf(Id));
        Assert.Equal(new Victim("grow,pid=7", 21540, Size, level, Id), victim);
        Assert.False(Log.Tells(Id, null));
        Assert.Empty(Log.TakeOf(Id));
    }

    [Fact]
    public void what_was_read_once_is_no_news_though_it_is_still_there_or_its_place_is_taken()
    {
        _buffer = Head + Line("MEMCG", ",oom_memcg=" + Container, Container, "one", 1);
        Assert.Equal("one", Assert.Single(Log.TakeOf(Id)).Name);
        _buffer += "<6>[   12.345] eth0: renamed from veth0\n" + Head + Line("MEMCG", ",oom_memcg=" + Container, Container, "two", 2);
        Assert.Equal("two", Assert.Single(Log.TakeOf(Id)).Name);
        _buffer = Head + Line("MEMCG", ",oom_memcg=" + Container, Container, "three", 3);
        Assert.Equal("three", Assert.Single(Log.TakeOf(Id)).Name);
        Assert.Empty(Log.TakeOf(Id));
    }

    [Fact]
    public void of_many_at_once_the_kernel_names_no_cgroup_and_the_first_process_of_a_container_is_known_by_its_id()
    {
        Fifo.Create(_file, 0x180); // stands for /dev/kmsg: a read gives one record, if it is looked at after each
        using var kernel = new FileStream(_file, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite, bufferSize: 0);
        Write("app", 6);
        using var log = new KernelLog(_file, () => null, countsAsWe: true, _time);
        Assert.False(log.Tells(Id, 6)); // it was there before, and the id may be another's by now
        Write("app (x)", 7);
        Assert.False(log.Tells(Id, 8));
        Assert.False(log.Tells(Id, null));
        Assert.True(log.Tells(Id, 7));
        Assert.Equal(new Victim("app (x)", 7, Size, null, Id), Assert.Single(log.TakeOf(Id)));
        Write("app", 9);
        Assert.False(log.Tells(Id, 8));
        _time.Advance(TimeSpan.FromMinutes(1));
        Assert.False(log.Tells(Id, 9));

        void Write(string name, int pid) => kernel.Write(Encoding.UTF8.GetBytes($"3,16082,20122262818,-;{Killed(name, pid)} SUBSYSTEM=x\n"));
    }

    [Fact]
    public void a_victim_whose_size_was_not_written_is_known_without()
    {
        _buffer = Head + Line("MEMCG", ",oom_memcg=" + Container, Container, "grow", 5);
        Assert.Null(Assert.Single(Log.TakeOf(Id)).Bytes);
    }

    [Fact]
    public void the_victims_of_others_stay_and_the_oldest_of_very_many_go()
    {
        _buffer = Head + Line("MEMCG", ",oom_memcg=" + Pod, $"{Pod}/cri-containerd-{Other}.scope", "other", 1);
        Assert.Empty(Log.TakeOf(Id));
        for (var i = 0; i < 300; i++)
        {
            _buffer += Head + Line("MEMCG", ",oom_memcg=" + Container, Container, "grow", 100 + i);
        }

        Assert.Empty(Log.TakeOf(Other));
        var victims = Log.TakeOf(Id);
        Assert.Equal(256, victims.Count);
        Assert.Equal(399, victims[0].Pid);
    }

    [Theory]
    [InlineData("")]
    [InlineData("eth0: renamed from veth0")]
    [InlineData("[")]
    [InlineData("oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null)")]
    [InlineData("oom-kill:constraint=CONSTRAINT_MEMCG,task_memcg=" + Container + ",task=grow,pid=many,uid=0")]
    [InlineData("Memory cgroup out of memory: Killed process ")]
    public void other_lines_are_nobodys(string line)
    {
        _buffer = Head + line + "\n";
        Assert.False(Log.Tells(Id, null));
        Assert.False(Log.Tells("", null));
    }

    [Theory]
    [InlineData(Container + "/made/by/itself", true)]
    [InlineData("/kubepods/besteffort/pod0764ffc5-fbbf-4d2a-b69d-70aebde3ef57/" + Id, true)]
    [InlineData(Pod, false)]
    [InlineData("/system.slice/kubelet.service", false)]
    [InlineData("/", false)]
    public void the_container_of_a_victim_is_the_one_in_whose_cgroup_it_was(string cgroup, bool isIts)
    {
        _buffer = Head + Line("MEMCG", ",oom_memcg=" + Pod, cgroup, "grow", 5);
        Assert.Equal(isIts, Log.Tells(Id, null));
    }

    [Fact]
    public void a_node_whose_log_is_not_ours_to_read_has_no_victims()
    {
        using var log = new KernelLog("/dev/does-not-exist", () => null, countsAsWe: true, _time);
        Assert.False(log.Tells(Id, 1));
        Assert.Empty(log.TakeOf(Id));
    }

    [Fact]
    public async Task this_machines_own_log_can_be_followed_to_the_end_and_its_buffer_has_the_same()
    {
        var text = KernelMessages.Read();
        if (text is null)
        {
            Assert.Skip("the kernel's log is not ours to read here: that wants CAP_SYSLOG");
        }

        Assert.Contains(text!.Split('\n'), l => l.StartsWith('<') && l.Contains("] ", StringComparison.Ordinal));
        if (!File.Exists("/dev/kmsg"))
        {
            Assert.Skip("no /dev/kmsg");
        }

        using var log = new KernelLog("/dev/kmsg", () => null, countsAsWe: true, _time);
        using var stop = new CancellationTokenSource();
        var following = log.FollowAsync(stop.Token);
        await stop.CancelAsync();
        _ = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => following);
    }

    private static string Line(string constraint, string whose, string cgroup, string task, int pid) =>
        $"oom-kill:constraint=CONSTRAINT_{constraint},nodemask=(null),cpuset=x,mems_allowed=0{whose},task_memcg={cgroup},task={task},pid={pid},uid=0\n";

    private static string Killed(string name, int pid) =>
        $"Memory cgroup out of memory: Killed process {pid} ({name}) total-vm:4564508kB, anon-rss:32256kB, file-rss:15832kB, shmem-rss:4kB, UID:0 pgtables:204kB oom_score_adj:999\n";
}
