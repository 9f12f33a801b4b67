using Skiff.Linux.Processes;
using Skiff.Testing;

namespace Skiff.Contract.Stations;

/// <summary>check.sh on whole machines: systemd as process 1, containerd as its service, both cgroup drivers; once on cgroup v2.</summary>
public sealed class StationTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("skiff-station-").FullName;

    private static string Script => Path.Combine(Repository.Root, "tests", "Skiff.Contract", "Stations", "check.sh");

    private string Image => Path.Combine(_folder, "image.tar");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task a_node_with_systemd_runs_wasm_under_both_cgroup_drivers()
    {
        var node = Need("machine/boot.sh");
        var name = "skiff-" + Guid.NewGuid().ToString("n")[..6];
        var copy = $"COPY={Repository.Out}:/opt/skiff {Image}:/skiff-guests.tar {Script}:/check.sh";
        try
        {
            var boot = await RunAsync(TimeSpan.FromMinutes(6), [copy], Path.Combine(node, "boot.sh"), name);
            Assert.True(boot.Exit.Success, boot.OutputText + boot.Error);
            var check = await RunAsync(TimeSpan.FromMinutes(2), [], Path.Combine(node, "enter.sh"), name, "bash", "/check.sh");
            Assert.True(check.OutputText.EndsWith("station ok\n", StringComparison.Ordinal), check.OutputText + check.Error);
        }
        finally
        {
            _ = await RunAsync(TimeSpan.FromMinutes(1), [], Path.Combine(node, "halt.sh"), name);
        }
    }

    [Fact]
    public async Task a_machine_with_cgroup_v2_runs_wasm_under_both_cgroup_drivers()
    {
        var machine = Need("vm/run.sh");
        var check = await RunAsync(
            TimeSpan.FromMinutes(15), [], Path.Combine(machine, "run.sh"), "-t", "600", "-a", Repository.Out + ":/opt/skiff", "-a", Image + ":/skiff-guests.tar", Script);
        Assert.True(check.Exit.Success && check.OutputText.Contains("station ok", StringComparison.Ordinal), check.OutputText + check.Error);
    }

    private static async Task<CommandResult> RunAsync(TimeSpan limit, string[] environment, string script, params string[] arguments) => await Command.RunAsync(
        new SpawnRequest
        {
            Path = "/bin/bash",
            Arguments = ["bash", script, .. arguments],
            Environment =
            [
                .. environment,
                $"PATH={Environment.GetEnvironmentVariable("PATH")}:/usr/sbin:/sbin",
                $"HOME={Environment.GetEnvironmentVariable("HOME") ?? "/root"}",
            ],
        },
        limit);

    /// <summary>The folder of a station's scripts, or a skip that says what is missing.</summary>
    private string Need(string script)
    {
        if (Repository.Missing is { } missing)
        {
            Assert.Skip(missing);
        }

        var path = Path.Combine(Repository.Shared, script);
        if (!File.Exists(path))
        {
            Assert.Skip($"no {path}: the station's scripts come from there");
        }

        PrivateContainerd.GuestImage().Save(Image);
        return Path.GetDirectoryName(path)!;
    }
}
