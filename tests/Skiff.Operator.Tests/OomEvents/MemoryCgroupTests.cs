using Skiff.Operator.OomEvents;

namespace Skiff.Operator.Tests.OomEvents;

public sealed class MemoryCgroupTests
{
    private const ulong Limit = 32 << 20;

    private static readonly MemoryReading _pod = new() { Limit = 2 * Limit, LimitHits = 0 };

    [Fact]
    public void a_limit_that_was_hit_again_is_what_was_killed_for_the_innermost_of_several()
    {
        Assert.Equal(KillLevel.Container, MemoryCgroup.Level(1, new() { Limit = Limit, LimitHits = 2 }, 0, _pod with { LimitHits = 1 }));
        Assert.Equal(KillLevel.Pod, MemoryCgroup.Level(2, new() { Limit = Limit, LimitHits = 2 }, 0, _pod with { LimitHits = 1 }));
        Assert.Equal(KillLevel.Node, MemoryCgroup.Level(2, new() { Limit = Limit, LimitHits = 2 }, 0, _pod));
    }

    [Fact]
    public void of_a_cgroup_that_went_while_it_was_read_what_is_left_tells_or_nothing_does()
    {
        Assert.Equal(KillLevel.Container, MemoryCgroup.Level(0, new() { Limit = Limit, Peak = Limit - 4096 }, 0, _pod));
        Assert.Null(MemoryCgroup.Level(0, new() { Limit = Limit, Peak = Limit / 2 }, 0, _pod));
        Assert.Null(MemoryCgroup.Level(0, new(), 0, _pod));
    }

    [Fact]
    public void what_is_not_known_any_more_is_as_it_was_but_for_the_hits()
    {
        var older = new MemoryReading { Limit = Limit, Peak = 1, LimitHits = 3, DiesWhole = true };
        Assert.Equal(new MemoryReading { Limit = Limit, Peak = Limit, DiesWhole = true }, new MemoryReading { Peak = Limit }.Over(older));
        Assert.Equal(new MemoryReading { Limit = 1, Peak = 1, LimitHits = 4, DiesWhole = false }, new MemoryReading { Limit = 1, LimitHits = 4, DiesWhole = false }.Over(older));
    }
}
