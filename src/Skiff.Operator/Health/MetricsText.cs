using System.Globalization;
using System.Text;
using Skiff.Operator.OomEvents;

namespace Skiff.Operator.Health;

/// <summary>Figures in Prometheus' text form. All families exist from the start; only that of memory kills has series that come and go.</summary>
internal sealed class MetricsText
{
    private readonly StringBuilder _text = new();

    /// <summary>Adds a family.</summary>
    public void Family(string name, string type, string help, params IEnumerable<(string Labels, double Value)> series)
    {
        _ = _text.Append(CultureInfo.InvariantCulture, $"# HELP {name} {help}\n# TYPE {name} {type}\n");
        foreach (var (labels, value) in series)
        {
            _ = _text.Append(name).Append(labels.Length == 0 ? "" : $"{{{labels}}}").Append(CultureInfo.InvariantCulture, $" {value}\n");
        }
    }

    /// <summary>Adds what the part that tells of memory kills has to say.</summary>
    public void Add(OomEventsPart part)
    {
        Family("skiff_oom_kills_total", "counter", "Memory kills, by whose limit they were for.", part.Metrics.Read());
        Family("skiff_wasm_incidents_total", "counter", "WebAssembly guests that were refused memory or ended by a trap.", part.Incidents.Read());
        Family("skiff_oom_kills_waiting", "gauge", "Memory kills that the API server does not have yet.", ("", part.Waiting));
        Family("skiff_oom_kills_dropped_total", "counter", "Memory kills that got no Event: there were too many, or the server refused.", ("", part.Dropped));
        Family("skiff_oom_event_writes_total", "counter", "Writes of their Events that the API server took.", ("", part.Written));
        Family("skiff_oom_containers_watched", "gauge", "Containers whose cgroup is watched.", ("", part.Watched));
    }

    /// <summary>Adds what every program has.</summary>
    public void AddProcess() => Family("process_resident_memory_bytes", "gauge", "Resident memory.", ("", Environment.WorkingSet));

    /// <inheritdoc/>
    public override string ToString() => _text.ToString();
}
