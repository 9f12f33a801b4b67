namespace Skiff.Operator.OomEvents;

/// <summary>How many of something there were, by namespace, pod, container and kind; no more series than a node with many pods has.</summary>
/// <param name="kindLabel">What Prometheus is told that the kind is.</param>
internal sealed class ContainerCounts(string kindLabel)
{
    /// <summary>The most series; those of the pods that were hit longest ago make room.</summary>
    internal const int MostSeries = 1000;

    private readonly Lock _lock = new();
    private readonly Dictionary<(string Namespace, string Pod, string Container, string Kind), (long Count, long Turn)> _series = [];
    private long _turn;

    /// <summary>All of them.</summary>
    public long Total { get; private set; }

    /// <summary>Counts some.</summary>
    public void Add(KillPlace place, string kind, int count)
    {
        var key = (place.Regarding.Namespace ?? "", place.Regarding.Name ?? "", place.Container ?? "", kind);
        lock (_lock)
        {
            if (!_series.ContainsKey(key) && _series.Count >= MostSeries)
            {
                _ = _series.Remove(_series.MinBy(s => s.Value.Turn).Key);
            }

            _series[key] = (_series.GetValueOrDefault(key).Count + count, ++_turn);
            Total += count;
        }
    }

    /// <summary>The labels, in Prometheus' form, and the count of each series.</summary>
    public IReadOnlyList<(string Labels, double Value)> Read()
    {
        lock (_lock)
        {
            return [.. _series.Select(s => ($"namespace=\"{s.Key.Namespace}\",pod=\"{s.Key.Pod}\",container=\"{s.Key.Container}\",{kindLabel}=\"{s.Key.Kind}\"", (double)s.Value.Count))];
        }
    }
}
