using Microsoft.Extensions.Logging.Abstractions;
using Skiff.Kubernetes;
using Skiff.Linux.Files;
using Skiff.Operator.OomEvents;

namespace Skiff.Operator.Tests.OomEvents;

public sealed class KillLedgerTests : IDisposable
{
    private static readonly DateTimeOffset _now = new(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("skf-ledger-");

    public void Dispose() => _folder.Delete(recursive: true);

    [Fact]
    public void a_container_dies_once_however_often_it_is_seen_also_by_the_next_agent()
    {
        var ledger = Open();
        Assert.True(ledger.Record(Kill("one", died: false), Sighting("one", 1)));
        Assert.True(ledger.Record(Kill("one", died: true), Sighting("one", 2)));
        Assert.False(ledger.Record(Kill("one", died: true), Sighting("one", 3)));
        Assert.False(ledger.Record(Kill("one", died: true), null));
        Assert.Equal(3UL, ledger.Counted("one"));
        Assert.Equal([1, 1], ledger.Series().Select(s => s.Count));
        ledger.Save();
        Assert.False(Open().Record(Kill("one", died: true), Sighting("one", 4)));
        Assert.True(Open().Record(Kill("another", died: true), null));
    }

    private KillLedger Open() => KillLedger.Open(new RootedTree("/"), _folder.FullName, "boot", onWorkload: false, NullLogger.Instance, TimeProvider.System);

    private static Sighting Sighting(string container, ulong count) => new("uid", container, 1, KillLevel.Container, _now) { CountedInContainer = count, CountedInPod = count };

    private static OomKill Kill(string container, bool died) => new()
    {
        PodUid = "uid",
        ContainerId = container,
        Place = new KillPlace(new ObjectReference { Kind = "Pod", Namespace = "ns", Name = "p" }, "app", null),
        Count = 1,
        Died = died,
        At = _now,
    };
}
