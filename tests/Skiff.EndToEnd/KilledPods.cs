using System.Text.Json.Nodes;

namespace Skiff.EndToEnd;

/// <summary>Pods that are killed for memory, and the Events that they get.</summary>
public abstract class KilledPods(Cluster cluster, ITestOutputHelper output)
{
    private static readonly TimeSpan _patience = TimeSpan.FromMinutes(6); // an emulated node takes its time

    private protected static string Large(string name, string program) =>
        $"  - {{name: {name}, image: skiff.test/guests:1, command: [{program}, hold, \"26\"], resources: {{requests: {{memory: 4Mi}}, limits: {{memory: 40Mi}}}}}}\n";

    private protected static string Container(string name, params string[] command) =>
        $"  - {{name: {name}, image: skiff.test/guests:1, command: [{string.Join(", ", command.Select(c => $"\"{c}\""))}], resources: {{limits: {{memory: 32Mi}}}}}}\n";

    private protected static string Pod(string name, int node, string runtimeClass, params string[] containers) => $$$"""
        apiVersion: v1
        kind: Pod
        metadata: {name: {{{name}}}, labels: {end-to-end: passing}}
        spec:
          nodeName: node-{{{node}}}
          runtimeClassName: {{{(runtimeClass.Length > 0 ? runtimeClass : "null")}}}
          restartPolicy: Never
          terminationGracePeriodSeconds: 1
          automountServiceAccountToken: false
          containers:

        """ + string.Concat(containers);

    private protected async Task RunAsync(string yaml) => (await cluster.KubectlWithAsync(yaml, "apply", "-f", "-")).Demand();

    /// <summary>The Events of memory kills that the present pod of this name has.</summary>
    private protected async Task<IReadOnlyList<JsonNode>> EventsAsync(string pod) => await EventsOfAsync(await cluster.FieldAsync(pod, "{.metadata.uid}"));

    private protected async Task<IReadOnlyList<JsonNode>> EventsOfAsync(string uid) =>
        [.. (await cluster.EventsAsync(uid)).Where(e => ((string)e["reason"]!).Contains("OOM", StringComparison.Ordinal))];

    private protected Task UntilAsync(string pod, string what, Func<IReadOnlyList<JsonNode>, bool> holds) => Cluster.UntilAsync(
        $"{pod}: {what}", async () => holds(await EventsAsync(pod)), () => DescribeAsync(pod), _patience);

    /// <summary>What the cluster says of a pod, and what the agents have seen.</summary>
    private protected async Task<CommandText> DescribeAsync(string pod)
    {
        var described = await cluster.TryKubectlAsync("describe", "pod", pod);
        var logs = await cluster.TryKubectlAsync("logs", "-n", "skiff-system", "-l", "app.kubernetes.io/component=agent", "--prefix", "--tail=40");
        return described with { Output = described.Output + logs.Output };
    }

    private protected async Task HasEventAsync(string pod, string reason, string part)
    {
        await UntilAsync(pod, $"it has an event {reason}", events => events.Count > 0);
        var one = Assert.Single(await EventsAsync(pod));
        Assert.Equal(reason, (string)one["reason"]!);
        Assert.Equal("Warning", (string)one["type"]!);
        Assert.Equal(part, (string)one["regarding"]!["fieldPath"]!);
        Assert.Null(one["series"]);
        output.WriteLine($"{pod}: {one["note"]}");
    }
}
