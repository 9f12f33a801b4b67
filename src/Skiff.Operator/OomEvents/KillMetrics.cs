namespace Skiff.Operator.OomEvents;

/// <summary>How many kills there were, by namespace, pod, container and level; no more series than a node with many pods has.</summary>
internal sealed class KillMetrics
{
    /// <summary>The most series; those of the pods that were hit longest ago make room.</summary>
    internal const int MostSeries = 1000;

    private readonly Lock _lock = new();
    private readonly Dictionary<(string Namespace, string Pod, string Container, string Level), (long Count, long Turn)> _series = [];
    private long _turn;

    /// <summary>All kills.</summary>
    public long Total { get; private set; }

    /// <summary>Counts one.</summary>
    public void Add(OomKill kill)
    {
        var key = (
            kill.Place.Regarding.Namespace ?? "",
            kill.Place.Regarding.Name ?? "",
            kill.Place.Container ?? "",
            kill.Level switch { KillLevel.Container => "container", KillLevel.Pod => "pod", KillLevel.Node => "node", _ => "unknown" });
        lock (_lock)
        {
            if (!_series.ContainsKey(key) && _series.Count >= MostSeries)
            {
                _ = _series.Remove(_series.MinBy(s => s.Value.Turn).Key);
            }

            _series[key] = (_series.GetValueOrDefault(key).Count + kill.Count, ++_turn);
            Total += kill.Count;
        }
    }

    /// <summary>The labels, in Prometheus' form, and the count of each series.</summary>
    public IReadOnlyList<(string Labels, double Value)> Read()
    {
        lock (_lock)
        {
            return [.. _series.Select(s => ($"namespace=\"{s.Key.Namespace}\",pod=\"{s.Key.Pod}\",container=\"{s.Key.Container}\",level=\"{s.Key.Level}\"", (double)s.Value.Count))];
        }
    }
}
