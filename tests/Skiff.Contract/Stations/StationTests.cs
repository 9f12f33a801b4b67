using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;
using Skiff.Contract.Pods;
using Skiff.Linux.Processes;
using Skiff.Testing;

namespace Skiff.Contract.Stations;

/// <summary>
/// check.sh on whole machines: systemd as process 1, containerd as its service, both cgroup drivers; once on cgroup v2, and there these
/// tests themselves too.
/// </summary>
public sealed partial class StationTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("skiff-station-").FullName;

    // What depends on the cgroup's version, or on who makes it: OCI runtime, cgroup driver, classes. Each runtime and each driver once, because
    // an emulated machine takes minutes for each; pods say themselves where they go.
    private static readonly string[] _runs =
    [
        $"runc cgroupfs {nameof(OomTests)} Pods.{nameof(PodResourceTests)}",
        $"crun systemd {nameof(ResourceTests)} {nameof(StatisticsTests)} {nameof(TerminalTests)}",
    ];

    private static string Script => ScriptNamed("check.sh");

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
    public async Task a_machine_with_cgroup_v2_runs_wasm_under_both_cgroup_drivers_and_keeps_the_contract()
    {
        var machine = Need("vm/run.sh");
        Assert.Null(await CriTools.LocateAsync());
        var runs = Path.Combine(_folder, "runs");
        await File.WriteAllLinesAsync(runs, _runs);
        var runtime = RuntimeEnvironment.GetRuntimeDirectory().TrimEnd('/'); // …/shared/Microsoft.NETCore.App/VERSION
        var dotnet = Path.GetFullPath(Path.Combine(runtime, "..", "..", ".."));
        (string From, string To)[] files =
        [
            (Path.Combine(Repository.Root, "Operator.sln"), "/repo/Operator.sln"),
            (Repository.Out, "/repo/out"),
            (Repository.Guests, "/repo/artifacts/guests"),
            (AppContext.BaseDirectory.TrimEnd('/'), "/repo/tests"),
            (runtime, "/dotnet" + runtime[dotnet.Length..]),
            (Path.Combine(dotnet, "host"), "/dotnet/host"),
            (runs, "/runs"),
            (Image, "/skiff-guests.tar"),
            (Script, "/check.sh"),
            (CriTools.Crictl, CriTools.Crictl),
        ];
        var check = await RunAsync(
            TimeSpan.FromMinutes(16),
            [],
            Path.Combine(machine, "run.sh"),
            ["-t", "900", .. files.SelectMany(f => new[] { "-a", $"{f.From}:{f.To}" }), ScriptNamed("contract.sh")]);
        Assert.True(check.Exit.Success && check.OutputText.Contains("station ok", StringComparison.Ordinal) && check.OutputText.Contains("contract ok", StringComparison.Ordinal), check.OutputText + check.Error);

        // The tests of containerds that the machine does not have are skipped, and only those.
        var summaries = Summary().Matches(check.OutputText);
        Assert.True(summaries.Count == _runs.Length, check.OutputText);
        foreach (Match summary in summaries)
        {
            Assert.Equal(Number(summary, 1) * 3 / 4, Number(summary, 2));
        }

        static int Number(Match summary, int group) => int.Parse(summary.Groups[group].Value, CultureInfo.InvariantCulture);
    }

    [GeneratedRegex("Total: ([0-9]+), Errors: 0, Failed: 0, Skipped: ([0-9]+)")]
    private static partial Regex Summary();

    private static string ScriptNamed(string name) => Path.Combine(Repository.Root, "tests", "Skiff.Contract", "Stations", name);

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
