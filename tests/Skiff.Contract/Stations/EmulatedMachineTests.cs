using System.Runtime.InteropServices;
using System.Text.RegularExpressions;
using Skiff.Contract.Pods;
using Skiff.Linux.Processes;
using Skiff.Testing;

namespace Skiff.Contract.Stations;

/// <summary>
/// check.sh, these tests themselves, and those of the agent's watch of cgroups, on a machine with cgroup v2, which is emulated: it takes minutes of
/// a processor. So hack/test runs it beside other tests. With them it shares only what nobody changes any more: the published tree, the guests,
/// the tests' own programs and crictl. It has no network, and all that it writes is in its temporary folders.
/// </summary>
[Trait(Containerds.Runs, Containerds.Emulated)]
public sealed partial class EmulatedMachineTests(ITestOutputHelper output) : IDisposable
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
        var all = Path.Combine(_station.Folder, "all");
        await File.WriteAllTextAsync(all, Environment.GetEnvironmentVariable("SKIFF_ALL"));
        var runtime = RuntimeEnvironment.GetRuntimeDirectory().TrimEnd('/'); // …/shared/Microsoft.NETCore.App/VERSION
        var dotnet = Path.GetFullPath(Path.Combine(runtime, "..", "..", ".."));
        var web = Path.Combine(dotnet, "shared", "Microsoft.AspNetCore.App", Path.GetFileName(runtime)); // the agent's
        (string From, string To)[] files =
        [
            (Path.Combine(Repository.Root, "Operator.sln"), "/repo/Operator.sln"),
            (Path.Combine(Repository.Out, "bin"), "/repo/out/bin"),
            (Path.Combine(Repository.Out, "run"), "/repo/out/run"),
            (Repository.Guests, "/repo/artifacts/guests"),
            (AppContext.BaseDirectory.TrimEnd('/'), "/repo/tests"),
            (Path.GetFullPath(Path.Combine(AppContext.BaseDirectory, "../../Skiff.Operator.Tests/release")), "/repo/operator-tests"),
            (runtime, "/dotnet" + runtime[dotnet.Length..]),
            (web, "/dotnet" + web[dotnet.Length..]),
            (Path.Combine(dotnet, "host"), "/dotnet/host"),
            (runs, "/runs"),
            (all, "/all"),
            (_station.Image, "/skiff-guests.tar"),
            (Station.Check, "/check.sh"),
            (CriTools.Crictl, CriTools.Crictl),
        ];
        var folder = await Machines.VirtualMachineFolderAsync(Path.Combine(_station.Folder, "vm"));
        var check = await Machines.StartAsync(RunAsync, result => result.Exit.Success || result.OutputText.Contains("after boot: check.sh", StringComparison.Ordinal));
        Assert.True(check.Exit.Success && check.OutputText.Contains("station ok", StringComparison.Ordinal) && check.OutputText.Contains("contract ok", StringComparison.Ordinal), check.OutputText + check.Error);

        output.WriteLine(check.OutputText);
        var summaries = Summary().Matches(check.OutputText);
        Assert.Equal(1 + _runs.Length, summaries.Count);
        Assert.All(summaries, s => Assert.Equal("0", s.Groups[1].Value)); // it has everything that these tests want

        Task<CommandResult> RunAsync() => Station.RunAsync(
            TimeSpan.FromMinutes(91),
            ["W=" + folder, "PATH=" + Machines.PathWithEmulator(folder + "/bin")],
            Path.Combine(machine, "run.sh"),
            ["-t", "5400", "-c", "1", .. files.SelectMany(f => new[] { "-a", $"{f.From}:{f.To}" }), Station.ScriptNamed("contract.sh")]);
    }

    [GeneratedRegex("Total: [1-9][0-9]*, Errors: 0, Failed: 0, Skipped: ([0-9]+)")]
    private static partial Regex Summary();
}
