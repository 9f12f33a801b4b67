using Skiff.Linux.Processes;
using Skiff.Shim.OciRuntime;
using Skiff.Shim.Stdio;
using Skiff.Shim.Wasm;

namespace Skiff.Shim.Tasks;

/// <summary>
/// A process that containerd knows by name: a container's init, or one that Exec added. It changes only while <see cref="Gate"/> is held.
/// </summary>
internal sealed class TaskProcess(string containerId, string execId, StdioRequest stdio) : IAsyncDisposable
{
    private readonly TaskCompletionSource<ExitStatus> _exit = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private volatile ChildProcess? _child;
    private volatile TaskState _state = TaskState.Created;

    /// <summary>Empty for init.</summary>
    public string ExecId { get; } = execId;

    public bool IsExec => ExecId.Length > 0;

    /// <summary>What errors call it.</summary>
    public string Name { get; } = execId.Length > 0 ? $"exec {execId} of container {containerId}" : $"container {containerId}";

    public StdioRequest Stdio { get; } = stdio;

    /// <summary>Null before there is a process, and for an exec that has not been started.</summary>
    public ProcessStreams? Streams { get; set; }

    /// <summary>What the runner says of it; null for a native one, and before there is a process.</summary>
    public GuestReports? Reports { get; set; }

    /// <summary>What the OCI runtime hands to it.</summary>
    public RuntimeStdio ForRuntime => Reports is { } reports ? Streams!.ForRuntime.With(GuestReports.Descriptor, reports.ForRunner) : Streams!.ForRuntime;

    /// <summary>What an exec will run; null for init, whose bundle says it.</summary>
    public OciProcess? Spec { get; init; }

    /// <summary>Null until there is a process: an exec before its start, a container that is to be restored before its own.</summary>
    public ChildProcess? Child
    {
        get => _child;
        set => _child = value;
    }

    public uint Pid => (uint)(_child?.Pid ?? 0);

    public TaskState State
    {
        get => _state;
        set => _state = value;
    }

    /// <summary>
    /// One operation at a time. It also orders events: an exit is published under it, and Start holds it until the start is published, so
    /// that a program which dies at once is still seen to start first. Never disposed, because somebody may always be waiting for it.
    /// </summary>
    public SemaphoreSlim Gate { get; } = new(1, 1);

    /// <summary>Completes when the exit has been published, or when it is sure that there will be none.</summary>
    public Task<ExitStatus> Exit => _exit.Task;

    /// <summary>Waits for the operation that is under way; for none when the gate is free.</summary>
    public async Task SettledAsync(CancellationToken cancellation)
    {
        await Gate.WaitAsync(cancellation).ConfigureAwait(false);
        _ = Gate.Release();
    }

    public void Ended(ExitStatus status) => _exit.TrySetResult(status);

    /// <summary>It has what was opened for it.</summary>
    /// <returns>Why it has no terminal although it should, or null.</returns>
    public string? HandedOver()
    {
        Reports?.HandedOver();
        return Streams!.HandedOver();
    }

    public async ValueTask DisposeAsync()
    {
        if (Reports is not null)
        {
            await Reports.DisposeAsync().ConfigureAwait(false);
        }

        if (Streams is not null)
        {
            await Streams.DisposeAsync().ConfigureAwait(false);
        }
    }
}
