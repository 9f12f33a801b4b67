using Skiff.Linux.Cgroups;
using Skiff.Linux.Processes;
using Skiff.Shim.OciRuntime;
using Skiff.Shim.Stdio;

namespace Skiff.Shim.Tasks;

/// <summary>A container of this shim. Its fields change only while <see cref="Gate"/> is held.</summary>
internal sealed class ContainerTask(
    string id, string bundle, OciRuntimeDriver runtime, ContainerStdio stdio, ChildProcess init, ContainerCgroup? cgroup, bool ownPidNamespace)
    : IDisposable
{
    private readonly TaskCompletionSource<ExitStatus> _exit = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public string Id { get; } = id;

    public string Bundle { get; } = bundle;

    public OciRuntimeDriver Runtime { get; } = runtime;

    public ContainerStdio Stdio { get; } = stdio;

    public ChildProcess Init { get; } = init;

    /// <summary>Null when init had ended before its cgroup could be read.</summary>
    public ContainerCgroup? Cgroup { get; } = cgroup;

    public bool OwnPidNamespace { get; } = ownPidNamespace;

    public TaskState State { get; set; } = TaskState.Created;

    /// <summary>
    /// One operation at a time. It also orders events: an exit is published under it, and Start holds it until the start is published, so
    /// that a program which dies at once is still seen to start first.
    /// </summary>
    public SemaphoreSlim Gate { get; } = new(1, 1);

    /// <summary>Completes when the exit has been published.</summary>
    public Task<ExitStatus> Exit => _exit.Task;

    public void Ended(ExitStatus status) => _exit.TrySetResult(status);

    public void Dispose()
    {
        Stdio.Dispose();
        Gate.Dispose();
    }
}
