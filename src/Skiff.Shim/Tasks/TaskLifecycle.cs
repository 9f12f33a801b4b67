using Skiff.Ttrpc;

namespace Skiff.Shim.Tasks;

/// <summary>Where a container is between Create and Delete.</summary>
internal enum TaskState
{
    /// <summary>Built; its program has not been let go.</summary>
    Created,

    /// <summary>Its program runs.</summary>
    Running,

    /// <summary>Frozen.</summary>
    Paused,

    /// <summary>Its init has ended.</summary>
    Stopped,

    /// <summary>Could not be started, and its init is gone or being removed.</summary>
    Errored,
}

/// <summary>What is asked of a container.</summary>
internal enum TaskOperation
{
    Start,
    Kill,
    Delete,
    CloseIO,
    Pause,
    Resume,
}

/// <summary>The one table of what may be done in which state.</summary>
internal static class TaskLifecycle
{
    /// <summary>Why the operation is not possible now, or null when it is.</summary>
    public static TtrpcError? Refusal(string id, TaskOperation operation, TaskState state)
    {
        var allowed = operation switch
        {
            TaskOperation.Start => state is TaskState.Created,
            TaskOperation.Kill => state is TaskState.Created or TaskState.Running or TaskState.Paused,
            TaskOperation.Delete => state is TaskState.Created or TaskState.Stopped or TaskState.Errored,
            TaskOperation.Pause => state is TaskState.Running,
            TaskOperation.Resume => state is TaskState.Paused,
            _ => true,
        };
        if (allowed)
        {
            return null;
        }

        // containerd and the kubelet take "not found" for "has ended already", which is what they wanted.
        var code = operation == TaskOperation.Kill ? TtrpcCode.NotFound : TtrpcCode.FailedPrecondition;
        var ended = operation == TaskOperation.Kill ? ": process already finished" : "";
        return new TtrpcError(code, $"cannot {Word(operation)} container {id}: it is {Word(state)}{ended}");
    }

    private static string Word<T>(T value)
        where T : struct, Enum => value switch
        {
            TaskOperation.CloseIO => "close the input of",
            _ => value.ToString().ToLowerInvariant(),
        };
}
