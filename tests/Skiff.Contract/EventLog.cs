using System.Text.RegularExpressions;
using Skiff.Linux.Processes;
using Skiff.Testing;

namespace Skiff.Contract;

/// <summary>What <c>ctr events</c> shows from now on.</summary>
internal sealed partial class EventLog : IDisposable
{
    private readonly ChildProcess _ctr;
    private readonly string _output;

    public EventLog(PrivateContainerd containerd) => (_ctr, _output) = containerd.InBackground("events");

    /// <summary>Waits until a container has had as many events; they have to be these.</summary>
    public async Task ComesAsync(string id, params string[] topics)
    {
        List<string> seen = [];
        _ = await Until.HoldsAsync(async () => (seen = await TopicsAsync(id)).Count >= topics.Length, RunningContainer.Patience);
        Assert.Equal(topics, seen);
    }

    /// <summary>The events of a container, a line each.</summary>
    public async Task<List<string>> LinesAsync(string id) =>
        [.. (await File.ReadAllTextAsync(_output)).Split('\n').Where(l => ContainerId().Match(l).Groups[1].Value == id)];

    public void Dispose() => _ = _ctr.Signal(Signals.Kill);

    private async Task<List<string>> TopicsAsync(string id) =>
        [.. (await LinesAsync(id)).Select(l => l.Split(' ').First(w => w.StartsWith("/tasks/", StringComparison.Ordinal)))];

    [GeneratedRegex("\"container_id\":\"([^\"]+)\"")]
    private static partial Regex ContainerId();
}
