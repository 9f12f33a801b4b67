using Skiff.Kubernetes;
using Skiff.Operator.OomEvents;

namespace Skiff.Operator.Tests.OomEvents;

public sealed class KillNoteTests
{
    private const ulong Mi = 1 << 20;

    private static readonly OomKill _kill = new()
    {
        PodUid = "u",
        ContainerId = "c",
        Place = new KillPlace(new ObjectReference { Name = "p" }, "app", null),
        Count = 1,
        Processes = 1,
        Level = KillLevel.Container,
        Died = true,
        Container = new MemoryReading { Limit = 64 * Mi, Peak = 64 * Mi },
        Pod = new MemoryReading { Limit = 100 * Mi },
        At = default,
    };

    [Fact]
    public void a_container_at_its_own_limit() => Is(
        "container app used all of its memory limit of 64Mi: the kernel killed it. Raise resources.limits.memory of container app, or let it use less.", _kill);

    [Fact]
    public void a_victim_has_its_name_and_repeats_are_counted() => Is(
        "container app used all of its memory limit of 64Mi (peak 63.2Mi): the kernel killed its process grow (pid 7, 60Mi), and the container died; kill 3 in 10 min. "
        + "Raise resources.limits.memory of container app, or let it use less.",
        _kill with { Container = _kill.Container with { Peak = 66_300_000 }, Victim = new Victim("grow", 7, 60 * Mi, KillLevel.Container, "/x") },
        3);

    [Fact]
    public void a_child_is_killed_and_the_container_lives() => Is(
        "container app used all of its memory limit of 64Mi: the kernel killed one of its processes, grow (pid 7); the container lives on. Raise resources.limits.memory of container app, or let it use less.",
        _kill with { Died = false, Victim = new Victim("grow", 7, null, KillLevel.Container, "/x") });

    [Fact]
    public void a_container_that_is_killed_whole() => Is(
        "container app used all of its memory limit of 64Mi: the kernel killed the container whole, for its process grow (pid 7). Raise resources.limits.memory of container app, or let it use less.",
        _kill with { Processes = 3, Container = _kill.Container with { DiesWhole = true }, Victim = new Victim("grow", 7, null, KillLevel.Container, "/x") });

    [Fact]
    public void the_pods_limit_that_is_hit_a_little_before_the_containers() => Is(
        "container app used 63.2Mi of its memory limit of 64Mi, and with that the pod all of its own of 64Mi: the kernel killed it. Raise resources.limits.memory of container app, or let it use less.",
        _kill with { Level = KillLevel.Pod, Container = _kill.Container with { Peak = 66_300_000 }, Pod = new MemoryReading { Limit = 64 * Mi } });

    [Fact]
    public void the_pods_limit_and_a_container_that_was_not_at_its_own() => Is(
        "the pod used all of its memory limit of 100Mi; container app had used 20Mi of its own 64Mi at most: the kernel killed it. "
        + "The pod's limit is the sum of its containers' (or spec.resources): raise resources.limits.memory where it is needed, or let the containers use less.",
        _kill with { Level = KillLevel.Pod, Container = _kill.Container with { Peak = 20 * Mi } });

    [Fact]
    public void the_pods_limit_is_told_as_its_owner_wrote_it()
    {
        var kill = _kill with { Level = KillLevel.Pod, Container = new MemoryReading { Peak = 20 * Mi }, Place = _kill.Place with { PodLimit = 48 * Mi, Overhead = 8 * Mi } };
        Is("the pod used all of its memory limit of 48Mi (40Mi and the RuntimeClass's overhead of 8Mi); container app had used 20Mi at most and has no limit of its own: the kernel killed it. "
            + "Raise spec.resources.limits.memory of the pod, or let its containers use less.",
            kill with { Pod = new MemoryReading { Limit = 48 * Mi } });
        Is("the pod used all of its memory limit of 40Mi; container app had used 20Mi at most and has no limit of its own: the kernel killed it. "
            + "Raise spec.resources.limits.memory of the pod, or let its containers use less.",
            kill with { Pod = new MemoryReading { Limit = 40 * Mi } });
    }

    [Fact]
    public void the_node_has_no_more() => Is(
        "the node ran out of memory; container app had used 20Mi at most and has no limit of its own: the kernel killed it. "
        + "Set resources.limits.memory of container app, and requests that are true, so that the scheduler does not put more on the node than fits.",
        _kill with { Level = KillLevel.Node, Container = new MemoryReading { Peak = 20 * Mi } });

    [Fact]
    public void a_kill_of_which_little_is_known() => Is(
        "a container was killed for want of memory: the kernel killed it. Raise resources.limits.memory of the container, or let it use less.",
        _kill with { Level = null, Place = _kill.Place with { Container = null }, Container = new MemoryReading() });

    [Fact]
    public void a_kill_of_which_nobody_knows_the_level_in_a_container_that_has_a_limit() => Is(
        "container app, which has a limit of 64Mi, was killed for want of memory: the kernel killed it. Raise resources.limits.memory of container app, or let it use less.",
        _kill with { Level = null });

    [Theory]
    [InlineData(0, "0")]
    [InlineData(1023, "1023")]
    [InlineData(1024, "1Ki")]
    [InlineData(32 * Mi, "32Mi")]
    [InlineData(33_400_000, "31.9Mi")]
    [InlineData(1536 * Mi, "1.5Gi")]
    [InlineData(1000 * Mi, "1Gi")]
    [InlineData(ulong.MaxValue, "16777216Ti")]
    public void sizes_are_as_in_a_manifest(ulong bytes, string text) => Assert.Equal(text, KillNote.Size(bytes));

    [Theory]
    [InlineData(0, "1 s")]
    [InlineData(61, "61 s")]
    [InlineData(600, "10 min")]
    [InlineData(7000, "2 h")]
    public void times_have_the_unit_that_matters(int seconds, string text) => Assert.Equal(text, KillNote.Time(TimeSpan.FromSeconds(seconds)));

    private static void Is(string note, OomKill kill, int kills = 1) => Assert.Equal(note, KillNote.Of(kill, kills, TimeSpan.FromMinutes(10)));
}
