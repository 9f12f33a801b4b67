using System.Text.RegularExpressions;
using Skiff.Linux.Processes;
using Skiff.Testing;

namespace Skiff.Contract;

/// <summary>What <c>ctr events</c> shows from now on.</summary>
internal sealed partial class EventLog : IDisposable
{
    private readonly ChildProcess _ctr;
    private readonly string _output;

    private EventLog((ChildProcess Ctr, string Output) events) => (_ctr, _output) = events;

    /// <summary>Begins to listen. What containerd says before ctr has its ear is lost, so something is said until it shows.</summary>
    public static async Task<EventLog> StartAsync(PrivateContainerd containerd)
    {
        var log = new EventLog(containerd.InBackground("events"));
        var said = 0;
        Assert.True(await Until.HoldsAsync(
            async () =>
            {
                _ = (await containerd.CtrAsync("images", "label", PrivateContainerd.Image, $"test.skiff.dev/said={said++}")).Demand();
                return new FileInfo(log._output).Length > 0;
            },
            RunningContainer.Patience));
        return log;
    }

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
