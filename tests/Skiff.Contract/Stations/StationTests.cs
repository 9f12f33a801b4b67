using Skiff.Testing;

namespace Skiff.Contract.Stations;

/// <summary>check.sh on a node that is a container of this machine: systemd as process 1, containerd as its service, both cgroup drivers.</summary>
[Trait(Containerds.Runs, Containerds.Once)]
public sealed class StationTests : IDisposable
{
    private static readonly string _path = "PATH=" + Machines.SearchPath;
    private readonly Station _station = new();

    public void Dispose() => _station.Dispose();

    [Fact]
    public async Task a_node_with_systemd_runs_wasm_under_both_cgroup_drivers()
    {
        var node = await _station.NeedAsync("machine/boot.sh");
        var name = "skiff-" + Guid.NewGuid().ToString("n")[..6];
        var copy = $"COPY={Repository.Out}:/opt/skiff {_station.Image}:/skiff-guests.tar {Station.Check}:/check.sh";
        try
        {
            var boot = await Station.RunAsync(TimeSpan.FromMinutes(6), [_path, copy], Path.Combine(node, "boot.sh"), name);
            Assert.True(boot.Exit.Success, boot.OutputText + boot.Error);
            var check = await Station.RunAsync(TimeSpan.FromMinutes(15), [_path], Path.Combine(node, "enter.sh"), name, "bash", "/check.sh");
            Assert.True(check.OutputText.EndsWith("station ok\n", StringComparison.Ordinal), check.OutputText + check.Error);
        }
        finally
        {
            _ = await Station.RunAsync(TimeSpan.FromMinutes(1), [_path], Path.Combine(node, "halt.sh"), name);
        }
    }
}
