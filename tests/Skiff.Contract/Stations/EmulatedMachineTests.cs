using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;
using Skiff.Contract.Pods;
using Skiff.Testing;

namespace Skiff.Contract.Stations;

/// <summary>
/// check.sh, these tests themselves, and those of the agent's watch of cgroups, on a machine with cgroup v2, which is emulated: it takes minutes,
/// mostly of one processor. So it runs beside all other tests (a collection of its own). With them it shares only what nobody changes any more: the
/// published tree, the guests, the tests' own programs and crictl. It has no network, and all that it writes is in its temporary folders.
/// </summary>
[Collection("emulated machine")]
public sealed partial class EmulatedMachineTests : IDisposable
{
    private readonly Station _station = new();

    // What depends on the cgroup's version, or on who makes it: OCI runtime, cgroup driver, classes. Each runtime and each driver once, because
    // an emulated machine takes minutes for each; pods say themselves where they go.
    private static readonly string[] _runs =
    [
        $"runc cgroupfs {nameof(OomTests)} Pods.{nameof(PodResourceTests)}",
        $"crun systemd {nameof(ResourceTests)} {nameof(StatisticsTests)} {nameof(TerminalTests)}",
    ];

    public void Dispose() => _station.Dispose();

    [Fact]
    public async Task a_machine_with_cgroup_v2_runs_wasm_under_both_cgroup_drivers_and_keeps_the_contract()
    {
        var machine = await _station.NeedAsync("vm/run.sh");
        Assert.Null(await CriTools.LocateAsync());
        var runs = Path.Combine(_station.Folder, "runs");
        await File.WriteAllLinesAsync(runs, _runs);
        var runtime = RuntimeEnvironment.GetRuntimeDirectory().TrimEnd('/'); // …/shared/Microsoft.NETCore.App/VERSION
        var dotnet = Path.GetFullPath(Path.Combine(runtime, "..", "..", ".."));
        var web = Path.Combine(dotnet, "shared", "Microsoft.AspNetCore.App", Path.GetFileName(runtime)); // the agent's
        (string From, string To)[] files =
        [
            (Path.Combine(Repository.Root, "Operator.sln"), "/repo/Operator.sln"),
            (Repository.Out, "/repo/out"),
            (Repository.Guests, "/repo/artifacts/guests"),
            (AppContext.BaseDirectory.TrimEnd('/'), "/repo/tests"),
            (Path.GetFullPath(Path.Combine(AppContext.BaseDirectory, "../../Skiff.Operator.Tests/debug")), "/repo/operator-tests"),
            (runtime, "/dotnet" + runtime[dotnet.Length..]),
            (web, "/dotnet" + web[dotnet.Length..]),
            (Path.Combine(dotnet, "host"), "/dotnet/host"),
            (runs, "/runs"),
            (_station.Image, "/skiff-guests.tar"),
            (Station.Check, "/check.sh"),
            (CriTools.Crictl, CriTools.Crictl),
        ];
        var check = await Station.RunAsync(
            TimeSpan.FromMinutes(26),
            [],
            Path.Combine(machine, "run.sh"),
            ["-t", "1500", .. files.SelectMany(f => new[] { "-a", $"{f.From}:{f.To}" }), Station.ScriptNamed("contract.sh")]);
        Assert.True(check.Exit.Success && check.OutputText.Contains("station ok", StringComparison.Ordinal) && check.OutputText.Contains("contract ok", StringComparison.Ordinal), check.OutputText + check.Error);

        // The tests of containerds that the machine does not have are skipped, and only those.
        var summaries = Summary().Matches(check.OutputText);
        Assert.True(summaries.Count == 1 + _runs.Length, check.OutputText);
        Assert.Equal(0, Number(summaries[0], 2));
        foreach (var summary in summaries.Skip(1))
        {
            Assert.Equal(Number(summary, 1) * 3 / 4, Number(summary, 2));
        }

        static int Number(Match summary, int group) => int.Parse(summary.Groups[group].Value, CultureInfo.InvariantCulture);
    }

    [GeneratedRegex("Total: ([0-9]+), Errors: 0, Failed: 0, Skipped: ([0-9]+)")]
    private static partial Regex Summary();
}
