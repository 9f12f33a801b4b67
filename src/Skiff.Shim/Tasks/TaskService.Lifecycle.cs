using Google.Protobuf.WellKnownTypes;
using Skiff.Containerd.Events;
using Skiff.Containerd.Task;
using Skiff.Linux;
using Skiff.Linux.Cgroups;
using Skiff.Linux.Mounts;
using Skiff.Linux.Processes;
using Skiff.Shim.Bootstrap;
using Skiff.Shim.OciRuntime;
using Skiff.Shim.Stdio;
using Skiff.Ttrpc;

namespace Skiff.Shim.Tasks;

internal sealed partial class TaskService
{
    private static readonly TimeSpan _cleanupTime = TimeSpan.FromSeconds(30);

    private async Task<TtrpcResult<CreateTaskResponse>> CreateAsync(CreateTaskRequest request, CancellationToken cancellation)
    {
        // 1. What is asked for, before anything is done.
        if (Identifier.Problem("id", request.Id) is { } badId)
        {
            return new TtrpcError(TtrpcCode.InvalidArgument, badId);
        }

        if (request.Terminal || request.Checkpoint.Length > 0)
        {
            return new TtrpcError(TtrpcCode.Unimplemented, $"create container {request.Id}: {(request.Terminal ? "a terminal" : "restoring a checkpoint")} is not implemented yet");
        }

        if (_tasks.ContainsKey(request.Id))
        {
            return new TtrpcError(TtrpcCode.AlreadyExists, $"container {request.Id} is in this shim already");
        }

        var (settings, optionProblem) = RuntimeSettings.Parse(request.Options);
        if (settings is null)
        {
            return new TtrpcError(TtrpcCode.InvalidArgument, $"create container {request.Id}: {optionProblem}");
        }

        var (spec, specProblem) = OciSpec.Load(request.Bundle);
        if (spec is null)
        {
            return new TtrpcError(TtrpcCode.InvalidArgument, $"create container {request.Id}: {specProblem}");
        }

        _ = Interlocked.Increment(ref _creating);
        try
        {
            return await CreateAsync(request, settings, spec, cancellation).ConfigureAwait(false);
        }
        finally
        {
            _ = Interlocked.Decrement(ref _creating);
        }
    }

    private async Task<TtrpcResult<CreateTaskResponse>> CreateAsync(
        CreateTaskRequest request, RuntimeSettings settings, OciSpec spec, CancellationToken cancellation)
    {
        var runtime = new OciRuntimeDriver(settings, _namespace, request.Bundle, spec.CgroupsPath);
        var rootfs = Path.Combine(request.Bundle, "rootfs");
        ContainerStdio? stdio = null;
        var built = false;
        try
        {
            // 2. The root, so that the program in it can be looked at.
            if (request.Rootfs.Count > 0)
            {
                _ = Directory.CreateDirectory(rootfs);
                foreach (var mount in request.Rootfs)
                {
                    Mounter.Mount(mount.Type, mount.Source, Path.Combine(rootfs, mount.Target.TrimStart('/')), mount.Options);
                }
            }

            // 3. Wasm or native.
            var (kind, wasmProblem) = _wasm.Prepare(spec, Path.Combine(request.Bundle, spec.RootPath));
            if (wasmProblem is not null)
            {
                return await GiveUpAsync(wasmProblem).ConfigureAwait(false);
            }

            // 4. Its streams.
            (stdio, var stdioProblem) = ContainerStdio.Open(request.Stdin, request.Stdout, request.Stderr);
            if (stdio is null)
            {
                return await GiveUpAsync(stdioProblem!).ConfigureAwait(false);
            }

            // 5. The container.
            settings.Save(request.Bundle);
            built = true;
            var (init, createProblem) = await runtime.CreateAsync(request.Id, stdio.Ends, cancellation).ConfigureAwait(false);
            stdio.HandedOver();
            if (init is null)
            {
                return await GiveUpAsync(createProblem!).ConfigureAwait(false);
            }

            var task = new ContainerTask(request.Id, request.Bundle, runtime, stdio, init, ContainerCgroup.Of(init.Pid), spec.OwnPidNamespace);
            if (!_tasks.TryAdd(request.Id, task))
            {
                return await GiveUpAsync("another create of the same container came first").ConfigureAwait(false);
            }

            Log.Created(_logger, task.Id, init.Pid, kind);
            _events.Publish("/tasks/create", "containerd.events.TaskCreate", new TaskCreate
            {
                ContainerId = task.Id,
                Bundle = task.Bundle,
                Rootfs = { request.Rootfs },
                Io = new TaskIO { Stdin = request.Stdin, Stdout = request.Stdout, Stderr = request.Stderr },
                Pid = (uint)init.Pid,
            });
            _ = WatchExitAsync(task);
            return new CreateTaskResponse { Pid = (uint)init.Pid };
        }
        catch (Exception e) when (e is LinuxException or IOException or UnauthorizedAccessException or NotSupportedException or OperationCanceledException)
        {
            return await GiveUpAsync(e is OperationCanceledException ? "containerd gave up waiting" : e.Message).ConfigureAwait(false);
        }

        // In the reverse order of acquisition. The caller may be gone, so its token plays no part.
        async Task<TtrpcError> GiveUpAsync(string problem)
        {
            List<string> incomplete = [];
            using var limit = new CancellationTokenSource(_cleanupTime);
            if (built && await DeleteContainerAsync(runtime, request.Id, limit.Token).ConfigureAwait(false) is { } left)
            {
                incomplete.Add(left);
            }

            stdio?.Dispose();
            try
            {
                Mounter.UnmountTree(rootfs);
            }
            catch (LinuxException e)
            {
                incomplete.Add(e.Message);
            }

            if (incomplete.Count > 0)
            {
                Log.CleanupIncomplete(_logger, request.Id, string.Join("; ", incomplete));
            }

            return new TtrpcError(TtrpcCode.Unknown, $"create container {request.Id}: {problem}");
        }
    }

    private async Task<TtrpcResult<StartResponse>> StartAsync(StartRequest request, CancellationToken cancellation)
    {
        if (Find(request.Id, request.ExecId) is var (task, error) && task is null)
        {
            return error!;
        }

        await task.Gate.WaitAsync(cancellation).ConfigureAwait(false);
        try
        {
            if (task.State == TaskState.Created && task.Init.Exit.IsCompleted)
            {
                return new TtrpcError(TtrpcCode.FailedPrecondition, $"cannot start container {task.Id}: its init has ended before its program was started");
            }

            if (TaskLifecycle.Refusal(task.Id, TaskOperation.Start, task.State) is { } refusal)
            {
                return refusal;
            }

            if (await task.Runtime.StartAsync(task.Id, cancellation).ConfigureAwait(false) is { } problem)
            {
                // Init never ran the program; it must not linger as something that looks startable.
                task.State = TaskState.Errored;
                _ = task.Init.Signal(Signals.Kill);
                return new TtrpcError(TtrpcCode.Unknown, $"start container {task.Id}: {problem}");
            }

            task.State = TaskState.Running;
            _events.Publish("/tasks/start", "containerd.events.TaskStart", new TaskStart { ContainerId = task.Id, Pid = (uint)task.Init.Pid });
            return new StartResponse { Pid = (uint)task.Init.Pid };
        }
        finally
        {
            _ = task.Gate.Release();
        }
    }

    private async Task<TtrpcResult<Empty>> KillAsync(KillRequest request, CancellationToken cancellation)
    {
        if (Find(request.Id, request.ExecId) is var (task, error) && task is null)
        {
            return error!;
        }

        await task.Gate.WaitAsync(cancellation).ConfigureAwait(false);
        try
        {
            if (request.All && task.Cgroup is { } cgroup)
            {
                cgroup.SignalAll((int)request.Signal);
                return new Empty();
            }

            if (TaskLifecycle.Refusal(task.Id, TaskOperation.Kill, task.State) is { } refusal)
            {
                return refusal;
            }

            return task.Init.Signal((int)request.Signal)
                ? new Empty()
                : TaskLifecycle.Refusal(task.Id, TaskOperation.Kill, TaskState.Stopped)!;
        }
        catch (LinuxException e)
        {
            return new TtrpcError(TtrpcCode.InvalidArgument, $"kill container {task.Id}: {e.Message}");
        }
        finally
        {
            _ = task.Gate.Release();
        }
    }

    private async Task<TtrpcResult<DeleteResponse>> DeleteAsync(DeleteRequest request, CancellationToken cancellation)
    {
        if (Find(request.Id, request.ExecId) is var (task, error) && task is null)
        {
            return error!;
        }

        // A container that was never started still has its init, waiting; it ends here.
        if (task.State is TaskState.Created or TaskState.Errored)
        {
            _ = task.Init.Signal(Signals.Kill);
            _ = await task.Exit.WaitAsync(cancellation).ConfigureAwait(false);
        }

        await task.Gate.WaitAsync(cancellation).ConfigureAwait(false);
        try
        {
            if (TaskLifecycle.Refusal(task.Id, TaskOperation.Delete, task.State) is { } refusal)
            {
                return refusal;
            }

            // Two deletes at once: the second finds nothing once it is through the gate.
            if (!_tasks.ContainsKey(task.Id))
            {
                return new TtrpcError(TtrpcCode.NotFound, $"container {task.Id} is not in this shim");
            }

            var exit = await task.Exit.WaitAsync(cancellation).ConfigureAwait(false);
            if (await DeleteContainerAsync(task.Runtime, task.Id, cancellation).ConfigureAwait(false) is { } problem)
            {
                return new TtrpcError(TtrpcCode.Unknown, $"delete container {task.Id}: {problem}");
            }

            Mounter.UnmountTree(Path.Combine(task.Bundle, "rootfs"));
            task.Stdio.Dispose();
            _ = _tasks.TryRemove(task.Id, out _);
            var response = new DeleteResponse
            {
                Pid = (uint)task.Init.Pid,
                ExitStatus = exit.ShellCode,
                ExitedAt = Timestamp.FromDateTimeOffset(exit.At),
            };
            _events.Publish("/tasks/delete", "containerd.events.TaskDelete", new TaskDelete
            {
                ContainerId = task.Id,
                Pid = response.Pid,
                ExitStatus = response.ExitStatus,
                ExitedAt = response.ExitedAt,
            });
            return response;
        }
        catch (LinuxException e)
        {
            return new TtrpcError(TtrpcCode.Unknown, $"delete container {task.Id}: {e.Message}");
        }
        finally
        {
            _ = task.Gate.Release();
        }
    }

    private Task<TtrpcResult<Empty>> ShutdownAsync(ShutdownRequest request, CancellationToken cancellation)
    {
        // containerd asks after each container of the pod; only the last one counts.
        if (request.Now || (_tasks.IsEmpty && Volatile.Read(ref _creating) == 0))
        {
            _ = _shutdown.TrySetResult();
        }

        return Ok(new Empty());
    }

    private async Task WatchExitAsync(ContainerTask task)
    {
        try
        {
            var exit = await task.Init.Exit.ConfigureAwait(false);
            await task.Gate.WaitAsync().ConfigureAwait(false);
            try
            {
                task.State = TaskState.Stopped;
                if (!task.OwnPidNamespace)
                {
                    task.Cgroup?.SignalAll(Signals.Kill); // no namespace ended with init, so its children did not either
                }

                Log.Exited(_logger, task.Id, task.Init.Pid, exit.ShellCode);
                _events.Publish("/tasks/exit", "containerd.events.TaskExit", new TaskExit
                {
                    ContainerId = task.Id,
                    Id = task.Id,
                    Pid = (uint)task.Init.Pid,
                    ExitStatus = exit.ShellCode,
                    ExitedAt = Timestamp.FromDateTimeOffset(exit.At),
                });
                task.Ended(exit);
            }
            finally
            {
                _ = task.Gate.Release();
            }
        }
        catch (Exception e)
        {
            // Nobody awaits this method, and whoever waits for the exit must not wait for ever.
            Log.ExitFailed(_logger, task.Id, e);
            task.Ended(new ExitStatus(255, 0, DateTimeOffset.UtcNow));
        }
    }

    private static async Task<string?> DeleteContainerAsync(OciRuntimeDriver runtime, string id, CancellationToken cancellation)
    {
        try
        {
            return await runtime.DeleteAsync(id, cancellation).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            return "the OCI runtime's delete took too long and was killed";
        }
    }
}
