using Skiff.Linux.Processes;
using Skiff.Testing;

namespace Skiff.Contract.Stations;

/// <summary>The CRI conformance suite through our handler: what passes with runc's own shim passes with ours.</summary>
public sealed class ConformanceTests
{
    /// <summary>The versions of which runc's own result is known.</summary>
    public static TheoryData<string> Baselines => [.. ContainerdVersion.Tested.Select(v => v.Name).Where(n => n is "1.6" or "2.4")];

    [Theory]
    [MemberData(nameof(Baselines))]
    public async Task what_passes_with_runc_passes_with_ours(string version)
    {
        var folder = Path.Combine(Repository.Shared, "conformance");
        var script = Path.Combine(folder, "run.sh");
        if ((Repository.Missing ?? (File.Exists(script) ? null : $"no {script}: the suite comes from there")) is { } missing)
        {
            Assert.Skip(missing);
        }

        var (binaries, lacking) = await ContainerdVersion.Named(version).LocateAsync();
        if (binaries is null)
        {
            Assert.Skip(lacking!);
        }

        using var run = new TemporaryFolder("skiff-conformance-");
        var work = await Machines.ConformanceFolderAsync(Path.Combine(run.Path, "w"));
        var handler = "skiff-" + version.Replace('.', '-'); // a bare key of TOML

        // A network namespace of its own: the suite makes bridges and binds ports of the host.
        var result = await Command.RunAsync(
            new SpawnRequest
            {
                Path = "/usr/bin/env",
                Arguments = ["env", "unshare", "--net", "bash", "-c", "ip link set lo up && exec bash \"$0\" \"$1\"", script, handler],
                Environment =
                [
                    "PATH=" + Machines.SearchPath,
                    "HOME=" + Machines.Home,
                    $"W={work}",
                    $"CONTAINERD={binaries}/containerd",
                    $"RUNTIME_TYPE={Repository.Shim}",
                ],
                NewSession = true,
            },
            TimeSpan.FromMinutes(30));
        var passed = Path.Combine(work, handler, "passed");
        Assert.True(File.Exists(passed), result.OutputText + result.Error);
        var baseline = await File.ReadAllLinesAsync(Path.Combine(folder, $"baseline-runc-{version}.txt"));
        Assert.NotEmpty(baseline);
        Assert.Equal([], baseline.Except(await File.ReadAllLinesAsync(passed)));
    }
}
