using System.Collections.Concurrent;
using Skiff.Contract;
using Skiff.Testing;
using Xunit.v3;

[assembly: Parallelization(Mode = Xunit.Sdk.ParallelMode.None)]
[assembly: AssemblyFixture(typeof(Containerds))]

namespace Skiff.Contract;

/// <summary>One containerd of each version for all tests; each demands at its end that nothing of its containers is left.</summary>
public sealed class Containerds : IAsyncLifetime
{
    private readonly ConcurrentDictionary<string, PrivateContainerd> _running = [];

    public static TheoryData<string> Versions => [.. ContainerdVersion.All.Select(v => v.Name)];

    public ValueTask InitializeAsync() => ValueTask.CompletedTask;

    /// <summary>The containerd of a version, or a skip that says what is missing.</summary>
    public async Task<PrivateContainerd> GetAsync(string name)
    {
        if (Repository.Missing is { } lacking)
        {
            Assert.Skip(lacking);
        }

        if (_running.TryGetValue(name, out var running))
        {
            return running;
        }

        var version = ContainerdVersion.Named(name);
        var (binaries, missing) = await version.LocateAsync();
        if (binaries is null)
        {
            Assert.Skip(missing!);
        }

        return _running[name] = await PrivateContainerd.StartAsync(version, binaries);
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var containerd in _running.Values)
        {
            await containerd.DisposeAsync();
        }
    }
}
