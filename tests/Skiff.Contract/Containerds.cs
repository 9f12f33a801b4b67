using System.Collections.Concurrent;
using Skiff.Contract;
using Skiff.Testing;
using Xunit.v3;

// All that shares a machine's containerds, cgroups and processes is one collection, one test after another. What may run beside each other,
// such as the versions of containerd, hack/test runs as processes of their own, each in a world of its own (hack/isolate).
[assembly: Parallelization(Mode = Xunit.Sdk.ParallelMode.None)]
[assembly: CollectionBehavior(CollectionBehavior.CollectionPerAssembly)]
[assembly: AssemblyFixture(typeof(Containerds))]

namespace Skiff.Contract;

/// <summary>One containerd of each version for all tests; each demands at its end that nothing of its containers is left.</summary>
public sealed class Containerds : IAsyncLifetime
{
    /// <summary>The trait of a test of resources or of another OCI runtime that has nothing to do with the cgroup's version or driver.</summary>
    public const string Cgroup = "cgroup";

    /// <summary>Any will do, so the emulated machine runs it only where all is run.</summary>
    public const string Any = "any";

    /// <summary>The trait of a test that does not depend on containerd's version, or has a machine of its own; hack/test goes by it.</summary>
    public const string Runs = "runs";

    /// <summary>It is run with the oldest containerd only.</summary>
    public const string Once = "once";

    /// <summary>It boots an emulated machine, which takes minutes of a processor.</summary>
    public const string Emulated = "emulated";

    private readonly ConcurrentDictionary<(string Version, bool Cri), PrivateContainerd> _running = [];

    public static TheoryData<string> Versions => [.. ContainerdVersion.Tested.Select(v => v.Name)];

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
