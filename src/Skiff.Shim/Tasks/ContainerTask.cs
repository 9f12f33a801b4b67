using System.Collections.Concurrent;
using Skiff.Linux.Cgroups;
using Skiff.Shim.OciRuntime;
using Skiff.Shim.Wasm;

namespace Skiff.Shim.Tasks;

/// <summary>A container of this shim.</summary>
internal sealed class ContainerTask(string id, string bundle, OciRuntimeDriver runtime, RuntimeSettings settings, TaskProcess init) : IAsyncDisposable
{
    private readonly CancellationTokenSource _ending = new();

    public string Id { get; } = id;

    public string Bundle { get; } = bundle;

    public OciRuntimeDriver Runtime { get; } = runtime;

    public RuntimeSettings Settings { get; } = settings;

    public TaskProcess Init { get; } = init;

    /// <summary>The processes that Exec added, until they are deleted.</summary>
    public ConcurrentDictionary<string, TaskProcess> Execs { get; } = new(StringComparer.Ordinal);

    /// <summary>What init runs.</summary>
    public PreparedProgram Program { get; init; }

    /// <summary>Whether init's end ends all its processes.</summary>
    public bool OwnPidNamespace { get; init; }

    /// <summary>Whether the kubelet made it.</summary>
    public bool IsKubernetes { get; init; }

    /// <summary>The image that Start restores it from; null: Create has built it.</summary>
    public string? Checkpoint { get; init; }

    /// <summary>Null before there is a process, and when init had ended before its cgroup could be read.</summary>
    public ContainerCgroup? Cgroup { get; set; }

    /// <summary>Null before there is a process, and where kills are not counted.</summary>
    public OomWatch? Oom { get; set; }

    /// <summary>Cancelled when init has ended: no exec starts from then on.</summary>
    public CancellationToken Ending => _ending.Token;

    public Task EndAsync() => _ending.CancelAsync();

    public async ValueTask DisposeAsync()
    {
        if (Oom is not null)
        {
            await Oom.DisposeAsync().ConfigureAwait(false);
        }

        await Task.WhenAll(Execs.Values.Append(Init).Select(p => p.DisposeAsync().AsTask())).ConfigureAwait(false);
    }
}
