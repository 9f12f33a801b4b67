using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Skiff.Containerd.Events;
using Skiff.Containerd.Options;
using Skiff.Containerd.Task;
using Skiff.Shim.Wasm;
using Skiff.Ttrpc;

namespace Skiff.Shim.Tasks;

internal sealed partial class TaskService
{
    // The names under which containerd registers them; the first one's value is JSON.
    private const string ResourcesType = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";
    private const string CheckpointType = "containerd.runc.v1.CheckpointOptions";

    private async Task<TtrpcResult<Empty>> PauseAsync(PauseRequest request, CancellationToken cancellation)
    {
        if (Find(request.Id) is var (task, error) && task is null)
        {
            return error!;
        }

        return await GuardedAsync(task, TaskOperation.Pause, async () =>
        {
            var problem = await task.Runtime.PauseAsync(task.Id, cancellation).ConfigureAwait(false);
            if (problem is null)
            {
                task.Init.State = TaskState.Paused;
                _events.Publish("/tasks/paused", "containerd.events.TaskPaused", new TaskPaused { ContainerId = task.Id });
            }

            return problem;
        }, cancellation).ConfigureAwait(false);
    }

    private async Task<TtrpcResult<Empty>> ResumeAsync(ResumeRequest request, CancellationToken cancellation)
    {
        if (Find(request.Id) is var (task, error) && task is null)
        {
            return error!;
        }

        return await ResumeAsync(task, cancellation).ConfigureAwait(false);
    }

    private Task<TtrpcResult<Empty>> ResumeAsync(ContainerTask task, CancellationToken cancellation) =>
        GuardedAsync(task, TaskOperation.Resume, async () =>
        {
            var problem = await task.Runtime.ResumeAsync(task.Id, cancellation).ConfigureAwait(false);
            if (problem is null)
            {
                task.Init.State = TaskState.Running;
                _events.Publish("/tasks/resumed", "containerd.events.TaskResumed", new TaskResumed { ContainerId = task.Id });
            }

            return problem;
        }, cancellation);

    /// <remarks>Annotations are passed over, as containerd's own shim does: they are for runtimes that keep a spec of their own.</remarks>
    private async Task<TtrpcResult<Empty>> UpdateAsync(UpdateTaskRequest request, CancellationToken cancellation)
    {
        if (Find(request.Id) is var (task, error) && task is null)
        {
            return error!;
        }

        return request.Resources is { } resources && resources.TypeUrl == ResourcesType
            ? await GuardedAsync(task, TaskOperation.Update, () => task.Runtime.UpdateAsync(task.Id, resources.Value.Memory, cancellation), cancellation).ConfigureAwait(false)
            : new TtrpcError(
                TtrpcCode.InvalidArgument,
                $"update container {task.Id}: resources of type \"{request.Resources?.TypeUrl}\" are unknown here; {ResourcesType} is known");
    }

    private async Task<TtrpcResult<Empty>> CheckpointAsync(CheckpointTaskRequest request, CancellationToken cancellation)
    {
        if (Find(request.Id) is var (task, error) && task is null)
        {
            return error!;
        }

        CheckpointOptions? options;
        try
        {
            options = request.Options is null or { TypeUrl.Length: 0 } ? new CheckpointOptions()
                : request.Options.TypeUrl[(request.Options.TypeUrl.LastIndexOf('/') + 1)..] == CheckpointType ? CheckpointOptions.Parser.ParseFrom(request.Options.Value)
                : null;
        }
        catch (InvalidProtocolBufferException)
        {
            options = null;
        }

        if (options is null)
        {
            return new TtrpcError(
                TtrpcCode.InvalidArgument,
                $"checkpoint container {task.Id}: options of type {request.Options!.TypeUrl} are unknown here, or cannot be decoded; {CheckpointType} is known");
        }

        if (task.Program.Kind != ProgramKind.Native)
        {
            return new TtrpcError(
                TtrpcCode.Unimplemented,
                $"checkpoint container {task.Id}: it runs WebAssembly, and the engine offers no way to save a module's state; native containers can be checkpointed");
        }

        if (task.Runtime.CriuProblem() is { } lacking)
        {
            return new TtrpcError(TtrpcCode.Unimplemented, $"checkpoint container {task.Id}: {lacking}");
        }

        var image = request.Path.Length > 0 ? request.Path : options.ImagePath;
        return await GuardedAsync(task, TaskOperation.Checkpoint, async () =>
        {
            var problem = await task.Runtime.CheckpointAsync(task.Id, image, options, cancellation).ConfigureAwait(false);
            if (problem is null)
            {
                _events.Publish("/tasks/checkpointed", "containerd.events.TaskCheckpointed", new TaskCheckpointed { ContainerId = task.Id, Checkpoint = image });
            }

            return problem;
        }, cancellation).ConfigureAwait(false);
    }

    /// <summary>Does something to a container as a whole, if its state allows it, and nothing else at the same time.</summary>
    private static async Task<TtrpcResult<Empty>> GuardedAsync(
        ContainerTask task, TaskOperation operation, Func<Task<string?>> action, CancellationToken cancellation)
    {
        await task.Init.Gate.WaitAsync(cancellation).ConfigureAwait(false);
        try
        {
            if (TaskLifecycle.Refusal(task.Init, operation) is { } refusal)
            {
                return refusal;
            }

            return await action().ConfigureAwait(false) is { } problem
                ? new TtrpcError(TtrpcCode.Unknown, $"{operation.ToString().ToLowerInvariant()} container {task.Id}: {problem}")
                : new Empty();
        }
        finally
        {
            _ = task.Init.Gate.Release();
        }
    }
}
