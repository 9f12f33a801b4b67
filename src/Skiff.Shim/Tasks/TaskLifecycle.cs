using Skiff.Ttrpc;

namespace Skiff.Shim.Tasks;

/// <summary>Where a container's init, or an exec, is between its making and its Delete.</summary>
internal enum TaskState
{
    /// <summary>Its program has not been let go; for an exec there is not even a process.</summary>
    Created,

    /// <summary>Its program runs.</summary>
    Running,

    /// <summary>Frozen, and its execs with it. An exec itself is never in this state.</summary>
    Paused,

    /// <summary>It has ended.</summary>
    Stopped,

    /// <summary>Could not be started; what there was of it is gone or being removed.</summary>
    Errored,
}

/// <summary>What is asked of a process, or of the container as a whole.</summary>
internal enum TaskOperation
{
    Start,
    Kill,
    Delete,
    Exec,
    Pause,
    Resume,
    Update,
    Checkpoint,
}

/// <summary>The one table of what may be done in which state.</summary>
internal static class TaskLifecycle
{
    /// <summary>Why the operation is not possible now, or null when it is.</summary>
    public static TtrpcError? Refusal(TaskProcess process, TaskOperation operation) => Refusal(process.Name, process.IsExec, operation, process.State);

    /// <summary>The table itself.</summary>
    public static TtrpcError? Refusal(string name, bool isExec, TaskOperation operation, TaskState state)
    {
        var allowed = operation switch
        {
            TaskOperation.Start => state is TaskState.Created,
            TaskOperation.Kill => state is TaskState.Running or TaskState.Paused || (state is TaskState.Created && !isExec),
            TaskOperation.Delete => state is TaskState.Created or TaskState.Stopped or TaskState.Errored,
            TaskOperation.Exec => state is TaskState.Created or TaskState.Running,
            TaskOperation.Pause => state is TaskState.Running,
            TaskOperation.Resume => state is TaskState.Paused,
            TaskOperation.Update => state is TaskState.Created or TaskState.Running or TaskState.Paused,
            TaskOperation.Checkpoint => state is TaskState.Running or TaskState.Paused,
            _ => throw new ArgumentOutOfRangeException(nameof(operation)),
        };
        if (allowed)
        {
            return null;
        }

        // containerd and the kubelet take "not found" for "has ended already", which is what they wanted.
        var ended = operation == TaskOperation.Kill && state is TaskState.Stopped or TaskState.Errored;
        var word = operation == TaskOperation.Exec ? "add a process to" : operation.ToString().ToLowerInvariant();
        return new TtrpcError(
            ended ? TtrpcCode.NotFound : TtrpcCode.FailedPrecondition,
            $"cannot {word} {name}: it is {state.ToString().ToLowerInvariant()}{(ended ? ": process already finished" : "")}");
    }
}
