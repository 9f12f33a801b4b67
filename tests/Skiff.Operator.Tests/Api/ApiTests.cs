using System.Text.Json;
using Skiff.Operator.Api;

namespace Skiff.Operator.Tests.Api;

public sealed class ApiTests
{
    [Theory]
    [InlineData("90s", 90)]
    [InlineData("10m", 600)]
    [InlineData("1h30m", 5400)]
    [InlineData("1h0m1s", 3601)]
    [InlineData("0s", 0)]
    [InlineData("", null)]
    [InlineData(null, null)]
    [InlineData("10", null)]
    [InlineData("m", null)]
    [InlineData("-1m", null)]
    [InlineData("1m1h", null)]
    [InlineData("1.5h", null)]
    [InlineData("1h 3m", null)]
    [InlineData("99999999999h", null)]
    [InlineData("10mm", null)]
    public void a_duration_is_hours_minutes_and_seconds_in_this_order(string? text, int? seconds) =>
        Assert.Equal(seconds, Durations.TryParse(text, out var duration) ? (int)duration.TotalSeconds : null);

    [Fact]
    public void a_shim_takes_what_it_does_not_say_from_its_name()
    {
        var shim = JsonSerializer.Deserialize("""{"metadata":{"name":"wasm"},"spec":{"source":{"bundled":{}},"runtimeClass":{}}}""", ApiJson.Default.Shim)!;
        Assert.Equal(("wasm", "wasm", "shim.skiff.dev/wasm"), (shim.RuntimeClassName, shim.Handler, shim.NodeLabel));
        Assert.Equal(TimeSpan.FromMinutes(10), shim.RemovalTimeout);
        Assert.False(shim.ForcesRemoval);
    }

    [Theory]
    [InlineData("{}", true)]
    [InlineData("{\"a\":\"b\"}", true)]
    [InlineData("{\"a\":\"c\"}", false)]
    [InlineData("{\"a\":\"b\",\"d\":\"\"}", false)]
    public void a_shim_selects_nodes_by_all_its_labels(string selector, bool selected)
    {
        var shim = JsonSerializer.Deserialize($$"""{"metadata":{"name":"x"},"spec":{"nodeSelector":{{selector}}} }""", ApiJson.Default.Shim)!;
        Assert.Equal(selected, shim.Selects(Build.Node("n", true, ("a", "b")).Metadata.Labels));
        Assert.False(shim.Selects(new Dictionary<string, string> { ["a"] = "b", ["kubernetes.io/os"] = "windows" }));
    }

    [Theory]
    [InlineData("8Mi", "8388608", true)]
    [InlineData("1000m", "1", true)]
    [InlineData("8Mi", "8M", false)]
    public void quantities_are_compared_by_value(string a, string b, bool same)
    {
        static RuntimeClass Of(string quantity) => new()
        {
            Metadata = new Kubernetes.ObjectMeta(),
            Handler = "h",
            Overhead = new Overhead { PodFixed = new Dictionary<string, string> { ["memory"] = quantity } },
        };
        Assert.Equal(same, Of(a).Equivalent(Of(b)));
    }

    [Fact]
    public void a_long_name_of_a_node_becomes_a_label_that_is_still_its_own()
    {
        var a = ShimInstallation.LabelValueOf(new string('a', 100) + "1");
        Assert.Equal(63, a.Length);
        Assert.NotEqual(a, ShimInstallation.LabelValueOf(new string('a', 100) + "2"));
        Assert.Equal("node-1", ShimInstallation.LabelValueOf("node-1"));
    }
}
