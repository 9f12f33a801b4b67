using Google.Protobuf.WellKnownTypes;
using Skiff.Containerd.Events;
using Skiff.Containerd.Task;
using Skiff.Linux.Processes;
using Skiff.Shim.Bootstrap;
using Skiff.Shim.OciRuntime;
using Skiff.Shim.Stdio;
using Skiff.Ttrpc;

namespace Skiff.Shim.Tasks;

internal sealed partial class TaskService
{
    /// <summary>Adds a process to a container; Start runs it.</summary>
    private Task<TtrpcResult<Empty>> ExecAsync(ExecProcessRequest request, CancellationToken cancellation)
    {
        if (Find(request.Id) is var (task, error) && task is null)
        {
            return Task.FromResult<TtrpcResult<Empty>>(error!);
        }

        if (Identifier.Problem("exec_id", request.ExecId) is { } badId)
        {
            return Fail<Empty>(TtrpcCode.InvalidArgument, badId);
        }

        var (spec, problem) = OciProcess.Parse(request.Spec, request.Terminal);
        if (spec is null)
        {
            return Fail<Empty>(TtrpcCode.InvalidArgument, $"exec {request.ExecId} of container {task.Id}: {problem}");
        }

        if (TaskLifecycle.Refusal(task.Init, TaskOperation.Exec) is { } refusal)
        {
            return Task.FromResult<TtrpcResult<Empty>>(refusal);
        }

        var exec = new TaskProcess(task.Id, request.ExecId, new StdioRequest(request.Stdin, request.Stdout, request.Stderr, request.Terminal)) { Spec = spec };
        if (request.ExecId == task.Id || !task.Execs.TryAdd(request.ExecId, exec))
        {
            return Fail<Empty>(TtrpcCode.AlreadyExists, $"container {task.Id} has a process {request.ExecId} already");
        }

        _events.Publish("/tasks/exec-added", "containerd.events.TaskExecAdded", new TaskExecAdded { ContainerId = task.Id, ExecId = exec.ExecId });
        return Ok(new Empty());
    }

    /// <summary>Runs an exec; its gate is held.</summary>
    /// <returns>Why it does not run, or null.</returns>
    private async Task<string?> StartExecAsync(ContainerTask task, TaskProcess exec, CancellationToken cancellation)
    {
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellation, task.Ending);
        if (task.Ending.IsCancellationRequested || task.Init is not { State: TaskState.Running, Child: { } init })
        {
            return task.Init.State == TaskState.Paused ? "the container is paused" : "the container's init does not run";
        }

        var (isGuest, problem) = await _wasm.PrepareExecAsync(exec.Spec!, init.Pid, task.Program, either.Token).ConfigureAwait(false);
        if (problem is not null)
        {
            return problem;
        }

        (exec.Streams, var stdioProblem) = await ProcessStreams.OpenAsync(exec.Stdio, OwnerOf(task, exec), _logger, either.Token).ConfigureAwait(false);
        if (exec.Streams is null)
        {
            return stdioProblem;
        }

        exec.Reports = isGuest ? OpenReports(task, exec) : null;
        (exec.Child, var execProblem) = await RunExecAsync(task, exec, either.Token).ConfigureAwait(false);
        if ((execProblem ?? exec.HandedOver()) is not { } failure)
        {
            return null;
        }

        await exec.DisposeAsync().ConfigureAwait(false);
        return task.Ending.IsCancellationRequested ? "the container's init has ended meanwhile" : failure;
    }

    private static async Task<(ChildProcess? Child, string? Problem)> RunExecAsync(ContainerTask task, TaskProcess exec, CancellationToken cancellation)
    {
        try
        {
            return await task.Runtime.ExecAsync(task.Id, exec.ExecId, exec.Spec!, exec.ForRuntime, cancellation).ConfigureAwait(false);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return (null, e.Message);
        }
    }

    private static async Task<TtrpcResult<DeleteResponse>> DeleteExecAsync(ContainerTask task, TaskProcess exec, CancellationToken cancellation)
    {
        await exec.Gate.WaitAsync(cancellation).ConfigureAwait(false);
        try
        {
            if (TaskLifecycle.Refusal(exec, TaskOperation.Delete) is { } refusal)
            {
                return refusal;
            }

            // Two deletes at once, as with containers.
            if (!task.Execs.TryRemove(exec.ExecId, out _))
            {
                return new TtrpcError(TtrpcCode.NotFound, $"container {task.Id} has no exec {exec.ExecId}");
            }

            if (exec.State == TaskState.Created)
            {
                exec.State = TaskState.Stopped;
                exec.Ended(new ExitStatus(0, 0, DateTimeOffset.UtcNow)); // it never was; whoever waits for it may go
            }
        }
        finally
        {
            _ = exec.Gate.Release();
        }

        // Outside the gate: a reader that takes its time must not hold up the news of init's end.
        await exec.DisposeAsync().ConfigureAwait(false);
        return Deleted(exec, await exec.Exit.ConfigureAwait(false));
    }

    private async Task WatchExecAsync(ContainerTask task, TaskProcess exec, ChildProcess child)
    {
        try
        {
            await EndedAsync(task, exec, await child.Exit.ConfigureAwait(false)).ConfigureAwait(false);
        }
        catch (Exception e)
        {
            // Nobody awaits this method, and whoever waits for the exit must not wait for ever.
            Log.ExitFailed(_logger, exec.Name, e);
            exec.Ended(new ExitStatus(UnknownStatus, 0, DateTimeOffset.UtcNow));
        }
    }
}
