using System.Collections.Concurrent;
using Skiff.Contract;
using Skiff.Testing;
using Xunit.v3;

// All that shares this machine's containerds, cgroups and processes is one collection, one test after another. Beside it runs, from the start,
// only what has a machine of its own (Stations.EmulatedMachineTests).
[assembly: Parallelization(Mode = Xunit.Sdk.ParallelMode.Collections, MaxThreads = 2)]
[assembly: CollectionBehavior(CollectionBehavior.CollectionPerAssembly)]
[assembly: AssemblyFixture(typeof(Containerds))]

namespace Skiff.Contract;

/// <summary>One containerd of each version for all tests; each demands at its end that nothing of its containers is left.</summary>
public sealed class Containerds : IAsyncLifetime
{
    private readonly ConcurrentDictionary<(string Version, bool Cri), PrivateContainerd> _running = [];

    public static TheoryData<string> Versions => [.. ContainerdVersion.All.Select(v => v.Name)];

    public ValueTask InitializeAsync() => ValueTask.CompletedTask;

    /// <summary>The containerd of a version with its CRI plugin, or a skip that says what is missing.</summary>
    public async Task<PrivateContainerd> GetForPodsAsync(string name)
    {
        if (await CriTools.LocateAsync() is { } missing)
        {
            Assert.Skip(missing);
        }

        return await GetAsync(name, cri: true);
    }

    /// <summary>The containerd of a version, or a skip that says what is missing.</summary>
    public Task<PrivateContainerd> GetAsync(string name) => GetAsync(name, cri: false);

    /// <summary>Demands that nothing of a containerd's containers stays.</summary>
    internal static async Task NothingLeftAsync(PrivateContainerd containerd) => Assert.True(
        await Until.HoldsAsync(() => Task.FromResult(containerd.Leftovers().Count == 0), RunningContainer.Patience), string.Join('\n', containerd.Leftovers()));

    private async Task<PrivateContainerd> GetAsync(string name, bool cri)
    {
        if (Repository.Missing is { } lacking)
        {
            Assert.Skip(lacking);
        }

        if (_running.TryGetValue((name, cri), out var running))
        {
            return running;
        }

        var version = ContainerdVersion.Named(name);
        var (binaries, missing) = await version.LocateAsync();
        if (binaries is null)
        {
            Assert.Skip(missing!);
        }

        return _running[(name, cri)] = await PrivateContainerd.StartAsync(version, binaries, cri);
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var containerd in _running.Values)
        {
            await containerd.DisposeAsync();
        }
    }
}
