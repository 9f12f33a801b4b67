using Skiff.Operator.OomEvents;

namespace Skiff.Operator.Tests.OomEvents;

public sealed class MemoryCgroupTests
{
    private const ulong Limit = 32 << 20;

    private static readonly MemoryReading _pod = new() { Limit = 2 * Limit, LimitHits = 0 };

    [Fact]
    public void a_limit_that_was_hit_again_is_what_was_killed_for_the_innermost_of_several()
    {
        Assert.Equal(KillLevel.Container, MemoryCgroup.Level(Hits(1), Hits(2), _pod, _pod with { LimitHits = 1 }));
        Assert.Equal(KillLevel.Pod, MemoryCgroup.Level(Hits(2), Hits(2), _pod, _pod with { LimitHits = 1 }));
        Assert.Equal(KillLevel.Node, MemoryCgroup.Level(Hits(2), Hits(2), _pod, _pod));
    }

    [Fact]
    public void of_a_cgroup_that_went_while_it_was_read_what_is_left_tells_or_nothing_does()
    {
        Assert.Equal(KillLevel.Container, MemoryCgroup.Level(new(), new() { Limit = Limit, Peak = Limit - 4096 }, _pod, _pod));
        Assert.Null(MemoryCgroup.Level(new(), new() { Limit = Limit, Peak = Limit / 2 }, _pod, _pod));
        Assert.Null(MemoryCgroup.Level(new(), new(), _pod, new()));
    }

    [Fact]
    public void of_a_cgroup_that_is_gone_the_pods_tells_where_it_counts_what_is_in_it()
    {
        var before = _pod with { HitsWithin = 1 };
        Assert.Equal(KillLevel.Container, MemoryCgroup.Level(new(), new(), before, _pod with { HitsWithin = 2 }));
        Assert.Equal(KillLevel.Pod, MemoryCgroup.Level(new(), new(), before, _pod with { HitsWithin = 2, LimitHits = 1 }));
        Assert.Equal(KillLevel.Node, MemoryCgroup.Level(new(), new(), before, before));
    }

    [Fact]
    public void where_no_limit_but_the_pods_own_was_ever_hit_it_was_for_that_one()
    {
        Assert.True(MemoryCgroup.OnlyItsOwnIsHit(_pod with { LimitHits = 2, HitsWithin = 2 }));
        Assert.False(MemoryCgroup.OnlyItsOwnIsHit(_pod with { LimitHits = 2, HitsWithin = 3 }));
        Assert.False(MemoryCgroup.OnlyItsOwnIsHit(_pod with { LimitHits = 0, HitsWithin = 0 }));
        Assert.False(MemoryCgroup.OnlyItsOwnIsHit(_pod with { LimitHits = 2 })); // v1
    }

    [Fact]
    public void a_pod_in_which_one_was_killed_whole_has_one_more_where_the_kernel_counts_them()
    {
        Assert.True(MemoryCgroup.IsGroupKilled(new(), new() { GroupKills = 1 }));
        Assert.False(MemoryCgroup.IsGroupKilled(new() { GroupKills = 1 }, new() { GroupKills = 1 }));
        Assert.Null(MemoryCgroup.IsGroupKilled(new(), new()));
    }

    [Fact]
    public void what_is_not_known_any_more_is_as_it_was_but_for_what_was_counted()
    {
        var older = new MemoryReading { Limit = Limit, Peak = 1, LimitHits = 3, DiesWhole = true };
        Assert.Equal(new MemoryReading { Limit = Limit, Peak = Limit, DiesWhole = true }, new MemoryReading { Peak = Limit }.Over(older));
        Assert.Equal(new MemoryReading { Limit = Limit, DiesWhole = true }, new MemoryReading().Over(older));
        Assert.Equal(new MemoryReading { Limit = 1, LimitHits = 4, DiesWhole = false }, new MemoryReading { Limit = 1, LimitHits = 4, DiesWhole = false }.Over(older));
    }

    private static MemoryReading Hits(ulong hits) => new() { Limit = Limit, LimitHits = hits };
}
