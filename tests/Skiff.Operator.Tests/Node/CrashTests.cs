using Skiff.Operator.Node;

namespace Skiff.Operator.Tests.Node;

/// <summary>A crash at every point that leaves another state behind, and the next run; and being told to stop at each.</summary>
public sealed class CrashTests
{
    private const int MostPoints = 100;

    private static NodeInstaller Installer(FakeMachine machine, Action<string>? reached = null) => new(machine, null, new ImpatientTime(), reached);

    private static Task<InstallOutcome> InstallAsync(FakeMachine machine, FakeBundle bundle, Action<string>? reached = null) =>
        Installer(machine, reached).InstallAsync(new NodeInstallRequest("skiff", bundle.Folder), null, CancellationToken.None);

    private static Task<InstallOutcome> UninstallAsync(FakeMachine machine, Action<string>? reached = null) =>
        Installer(machine, reached).UninstallAsync(new NodeUninstallRequest("skiff"), null, CancellationToken.None);

    /// <summary>Runs the work again and again, each time on a new node with a crash one point later, until it ends without one.</summary>
    private static async Task<IReadOnlyList<string>> AtEveryPointAsync(
        Func<FakeMachine, Task> prepare, Func<FakeMachine, Action<string>, Task<InstallOutcome>> work, Func<FakeMachine, string, Task> check)
    {
        List<string> points = [];
        for (var crashAt = 1; crashAt <= MostPoints; crashAt++)
        {
            using FakeMachine machine = new();
            await prepare(machine);
            var count = 0;
            var last = "";
            try
            {
                _ = await work(machine, point =>
                {
                    last = point;
                    if (++count == crashAt)
                    {
                        throw new CrashException();
                    }
                });
                return points;
            }
            catch (CrashException)
            {
                points.Add(last);
                await check(machine, $"{crashAt}: {last}");
            }
        }

        throw new InvalidOperationException("there is no end of points");
    }

    [Fact]
    public async Task an_install_that_crashes_anywhere_is_ended_by_the_next_with_one_restart_in_all()
    {
        using FakeBundle bundle = new();
        var points = await AtEveryPointAsync(
            _ => Task.CompletedTask,
            (machine, reached) => InstallAsync(machine, bundle, reached),
            async (machine, point) =>
            {
                Assert.True(machine.IsUp, point);
                var outcome = await InstallAsync(machine, bundle);
                Assert.True(outcome.Result == InstallResult.Done, $"{point}: {outcome}");
                Assert.True(machine.Restarts == 1, $"{point}: {machine.Restarts} restarts");
                var status = await Installer(machine).StatusAsync("skiff", CancellationToken.None);
                Assert.True(status is { Ready: true, Unfinished: null, OldBundles: [] }, $"{point}: {status}");
                Assert.Equal(InstallResult.Done, (await UninstallAsync(machine)).Result);
                using FakeMachine untouched = new();
                Assert.Equal(untouched.Everything, machine.Everything);
            });
        Assert.True(points.Count >= 10, string.Join(", ", points));
    }

    [Fact]
    public async Task an_install_that_crashes_anywhere_is_taken_away_by_an_uninstall()
    {
        using FakeBundle bundle = new();
        _ = await AtEveryPointAsync(
            _ => Task.CompletedTask,
            (machine, reached) => InstallAsync(machine, bundle, reached),
            async (machine, point) =>
            {
                var outcome = await UninstallAsync(machine);
                Assert.True(outcome.Result == InstallResult.Done, $"{point}: {outcome}");
                Assert.True(machine.IsUp, point);
                using FakeMachine untouched = new();
                Assert.Equal(untouched.Everything, machine.Everything);
            });
    }

    [Fact]
    public async Task an_uninstall_that_crashes_anywhere_is_ended_by_the_next()
    {
        using FakeBundle bundle = new();
        var points = await AtEveryPointAsync(
            async machine => Assert.Equal(InstallResult.Done, (await InstallAsync(machine, bundle)).Result),
            (machine, reached) => UninstallAsync(machine, reached),
            async (machine, point) =>
            {
                Assert.True(machine.IsUp, point);
                var outcome = await UninstallAsync(machine);
                Assert.True(outcome.Result == InstallResult.Done, $"{point}: {outcome}");
                Assert.True(machine.Restarts == 2, $"{point}: {machine.Restarts} restarts");
                using FakeMachine untouched = new();
                Assert.Equal(untouched.Everything, machine.Everything);
            });
        Assert.True(points.Count >= 8, string.Join(", ", points));
    }

    [Fact]
    public async Task an_uninstall_that_crashes_anywhere_is_undone_by_an_install()
    {
        using FakeBundle bundle = new();
        _ = await AtEveryPointAsync(
            async machine => Assert.Equal(InstallResult.Done, (await InstallAsync(machine, bundle)).Result),
            (machine, reached) => UninstallAsync(machine, reached),
            async (machine, point) =>
            {
                var outcome = await InstallAsync(machine, bundle);
                Assert.True(outcome.Result == InstallResult.Done, $"{point}: {outcome}");
                Assert.True((await Installer(machine).StatusAsync("skiff", CancellationToken.None)).Ready, point);
            });
    }

    [Fact]
    public async Task a_crash_while_a_refused_configuration_is_taken_back_still_brings_containerd_back()
    {
        using FakeBundle bundle = new();
        var points = await AtEveryPointAsync(
            machine =>
            {
                machine.DiesOf = text => text.Contains("runtimes.skiff", StringComparison.Ordinal);
                return Task.CompletedTask;
            },
            (machine, reached) => InstallAsync(machine, bundle, reached),
            async (machine, point) =>
            {
                var outcome = await InstallAsync(machine, bundle);
                Assert.True(outcome.Result == InstallResult.RolledBack, $"{point}: {outcome}");
                Assert.True(machine.IsUp, point);
                using FakeMachine untouched = new();
                Assert.Equal(untouched.Everything, machine.Everything);
            });
        Assert.Contains("journal RollBack", points);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task an_install_that_is_told_to_stop_has_changed_nothing_that_containerd_reads_or_goes_on_to_its_end(bool dies)
    {
        using FakeBundle bundle = new();
        using FakeMachine untouched = new();
        Dictionary<string, InstallResult?> ends = await StoppedAtEveryPointAsync(
            machine =>
            {
                machine.DiesOf = text => dies && text.Contains("runtimes.skiff", StringComparison.Ordinal);
                return Task.CompletedTask;
            },
            (machine, reached, stop) => Installer(machine, reached).InstallAsync(new NodeInstallRequest("skiff", bundle.Folder), null, stop),
            machine =>
            {
                Assert.Equal((0, FakeMachine.Config), (machine.Restarts, machine.Read(FakeMachine.ConfigPath)));
                Assert.Null(machine.Files.Target(NodePaths.Current));
            });
        Assert.Null(ends["bundle copied"]);
        Assert.Equal(dies ? InstallResult.RolledBack : InstallResult.Done, ends["bundle switched"]);
        Assert.Equal(dies ? InstallResult.RolledBack : InstallResult.Done, ends["wrote /etc/containerd/config.toml"]);
        Assert.Equal(dies ? InstallResult.RolledBack : InstallResult.Done, ends["restarted"]);
        Assert.Equal(dies, ends.ContainsKey("rolled back"));
    }

    [Fact]
    public async Task an_uninstall_that_is_told_to_stop_has_changed_nothing_or_goes_on_to_its_end()
    {
        using FakeBundle bundle = new();
        var ends = await StoppedAtEveryPointAsync(
            async machine => Assert.Equal(InstallResult.Done, (await InstallAsync(machine, bundle)).Result),
            (machine, reached, stop) => Installer(machine, reached).UninstallAsync(new NodeUninstallRequest("skiff"), null, stop),
            machine => Assert.Equal(1, machine.Restarts));
        Assert.Equal(InstallResult.Done, ends["wrote /etc/containerd/config.toml"]);
        Assert.Equal(InstallResult.Done, ends["restarted"]);
    }

    /// <summary>Runs the work on a new node for each of its points, at which it is told to stop.</summary>
    /// <returns>How it ended for each; null: it was stopped.</returns>
    private static async Task<Dictionary<string, InstallResult?>> StoppedAtEveryPointAsync(
        Func<FakeMachine, Task> prepare, Func<FakeMachine, Action<string>, CancellationToken, Task<InstallOutcome>> work, Action<FakeMachine> checkStopped)
    {
        Dictionary<string, InstallResult?> ends = [];
        for (var stopAt = 1; stopAt <= MostPoints; stopAt++)
        {
            using FakeMachine machine = new();
            await prepare(machine);
            using CancellationTokenSource stop = new();
            var count = 0;
            var last = "";
            try
            {
                var outcome = await work(
                    machine,
                    point =>
                    {
                        if (++count == stopAt)
                        {
                            last = point;
                            stop.Cancel();
                        }
                    },
                    stop.Token);
                if (count < stopAt)
                {
                    return ends;
                }

                ends[last] = outcome.Result;
            }
            catch (OperationCanceledException)
            {
                ends[last] = null;
                checkStopped(machine);
            }

            Assert.True(machine.IsUp, last);
        }

        throw new InvalidOperationException("there is no end of points");
    }

    private sealed class CrashException : Exception;
}
