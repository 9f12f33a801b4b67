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
using Skiff.Shim.Wasm;
using Skiff.Ttrpc;

namespace Skiff.Shim.Tasks;

internal sealed partial class TaskService
{
    private static readonly TimeSpan _cleanupTime = TimeSpan.FromSeconds(30);

    // The status of a process of which nobody knows how it ended, or that never was.
    private const int UnknownStatus = 255;

    private async Task<TtrpcResult<CreateTaskResponse>> CreateAsync(CreateTaskRequest request, CancellationToken cancellation)
    {
        // 1. What is asked for, before anything is done.
        if (Identifier.Problem("id", request.Id) is { } badId)
        {
            return new TtrpcError(TtrpcCode.InvalidArgument, badId);
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

        if (!_creating.TryAdd(request.Id, true))
        {
            return new TtrpcError(TtrpcCode.AlreadyExists, $"container {request.Id} is being created in this shim already");
        }

        try
        {
            return _tasks.ContainsKey(request.Id)
                ? new TtrpcError(TtrpcCode.AlreadyExists, $"container {request.Id} is in this shim already")
                : await CreateAsync(request, settings, spec, cancellation).ConfigureAwait(false);
        }
        finally
        {
            _ = _creating.TryRemove(request.Id, out _);
        }
    }

    private async Task<TtrpcResult<CreateTaskResponse>> CreateAsync(
        CreateTaskRequest request, RuntimeSettings settings, OciSpec spec, CancellationToken cancellation)
    {
        var runtime = new OciRuntimeDriver(settings, _namespace, request.Bundle, spec.CgroupsPath);
        var rootfs = Path.Combine(request.Bundle, "rootfs");
        var checkpoint = request.Checkpoint.Length > 0 ? request.Checkpoint : settings.CriuImagePath;
        var init = new TaskProcess(request.Id, "", new StdioRequest(request.Stdin, request.Stdout, request.Stderr, request.Terminal));
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
            var compiler = new ModuleCompiler(settings, _namespace, spec.CgroupsPath);
            var root = Path.Combine(request.Bundle, spec.RootPath);
            var program = await _wasm.PrepareAsync(request.Id, spec, root, ImageRoot.Of(rootfs, request.Rootfs), compiler, cancellation).ConfigureAwait(false);
            if (program.Problem is { } wasmProblem)
            {
                return await GiveUpAsync(wasmProblem).ConfigureAwait(false);
            }

            if (checkpoint.Length > 0 && runtime.CriuProblem() is { } criuProblem)
            {
                return await GiveUpAsync(criuProblem).ConfigureAwait(false);
            }

            // 4. Its streams.
            var task = new ContainerTask(request.Id, request.Bundle, runtime, settings, init)
            {
                Program = program,
                OwnPidNamespace = spec.OwnPidNamespace,
                IsKubernetes = spec.Annotation("io.kubernetes.cri.container-type") is not null,
                Checkpoint = checkpoint.Length > 0 ? checkpoint : null,
            };
            (init.Streams, var stdioProblem) = await ProcessStreams.OpenAsync(init.Stdio, OwnerOf(task, init), _logger, cancellation).ConfigureAwait(false);
            if (init.Streams is null)
            {
                return await GiveUpAsync(stdioProblem!).ConfigureAwait(false);
            }

            if (program.Kind != ProgramKind.Native && task.Checkpoint is null)
            {
                init.Reports = OpenReports(task, init);
            }

            // 5. The container; one that comes from a checkpoint is built by Start, because it runs at once.
            settings.Save(request.Bundle);
            if (task.Checkpoint is null)
            {
                built = true;
                (init.Child, var createProblem) = await runtime.CreateAsync(task.Id, init.ForRuntime, cancellation).ConfigureAwait(false);
                if ((createProblem ?? init.HandedOver()) is { } problem)
                {
                    return await GiveUpAsync(program.Doubt is { } doubt ? $"{problem} ({doubt})" : problem).ConfigureAwait(false);
                }

                task.Cgroup = ContainerCgroup.Of(init.Child!.Pid);
            }

            _ = _tasks.TryAdd(task.Id, task);
            Log.Created(_logger, task.Id, init.Pid, task.Program.Kind);
            _events.Publish("/tasks/create", "containerd.events.TaskCreate", new TaskCreate
            {
                ContainerId = task.Id,
                Bundle = task.Bundle,
                Rootfs = { request.Rootfs },
                Io = new TaskIO { Stdin = request.Stdin, Stdout = request.Stdout, Stderr = request.Stderr, Terminal = request.Terminal },
                Checkpoint = checkpoint,
                Pid = init.Pid,
            });
            if (init.Child is { } child)
            {
                Watch(task, child);
            }

            return new CreateTaskResponse { Pid = init.Pid };
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
            if (built && await runtime.DeleteAsync(request.Id, limit.Token).ConfigureAwait(false) is { } left)
            {
                incomplete.Add(left);
            }

            await init.DisposeAsync().ConfigureAwait(false);
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
        if (Find(request.Id, request.ExecId) is var (task, process, error) && (task is null || process is null))
        {
            return error!;
        }

        // Init's program may have run, and asked for an exec, before the OCI runtime that starts it has returned. Its start is waited for
        // before the exec's gate is taken: init's end waits for that gate.
        if (process.IsExec && task.Init.State == TaskState.Created)
        {
            await task.Init.SettledAsync(cancellation).ConfigureAwait(false);
        }

        await process.Gate.WaitAsync(cancellation).ConfigureAwait(false);
        try
        {
            if (process.State == TaskState.Created && process.Child is { Exit.IsCompleted: true })
            {
                return new TtrpcError(TtrpcCode.FailedPrecondition, $"cannot start {process.Name}: its init has ended before its program was started");
            }

            if (TaskLifecycle.Refusal(process, TaskOperation.Start) is { } refusal)
            {
                return refusal;
            }

            var problem = process.IsExec ? await StartExecAsync(task, process, cancellation).ConfigureAwait(false)
                : task.Checkpoint is { } image ? await RestoreAsync(task, image, cancellation).ConfigureAwait(false)
                : await task.Runtime.StartAsync(task.Id, cancellation).ConfigureAwait(false);
            if (problem is not null)
            {
                // It never ran its program; it must not linger as something that looks startable.
                process.State = TaskState.Errored;
                if (process.IsExec || process.Child is null)
                {
                    process.Ended(new ExitStatus(UnknownStatus, 0, DateTimeOffset.UtcNow));
                }

                _ = process.Child?.Signal(Signals.Kill);
                return new TtrpcError(TtrpcCode.Unknown, $"start {process.Name}: {problem}");
            }

            process.State = TaskState.Running;
            if (process.IsExec)
            {
                _events.Publish("/tasks/exec-started", "containerd.events.TaskExecStarted", new TaskExecStarted
                {
                    ContainerId = task.Id,
                    ExecId = process.ExecId,
                    Pid = process.Pid,
                });
                _ = WatchExecAsync(task, process, process.Child!);
            }
            else
            {
                _events.Publish("/tasks/start", "containerd.events.TaskStart", new TaskStart { ContainerId = task.Id, Pid = process.Pid });
                if (task.Checkpoint is not null)
                {
                    Watch(task, process.Child!);
                }

                task.Oom?.Begin();
            }

            return new StartResponse { Pid = process.Pid };
        }
        finally
        {
            _ = process.Gate.Release();
        }
    }

    private static async Task<string?> RestoreAsync(ContainerTask task, string image, CancellationToken cancellation)
    {
        (task.Init.Child, var problem) = await task.Runtime.RestoreAsync(task.Id, image, task.Init.ForRuntime, cancellation).ConfigureAwait(false);
        problem ??= task.Init.HandedOver();
        if (problem is null)
        {
            task.Cgroup = ContainerCgroup.Of(task.Init.Child!.Pid);
        }

        return problem;
    }

    /// <remarks>
    /// Not behind the gate: a signal goes through a pidfd, so it is safe at any time, also while an OCI runtime hangs. Only an exec that is being
    /// started is waited for: its program may have run before the OCI runtime has returned and its pidfd is here.
    /// </remarks>
    private async Task<TtrpcResult<Empty>> KillAsync(KillRequest request, CancellationToken cancellation)
    {
        if (Find(request.Id, request.ExecId) is var (task, process, error) && (task is null || process is null))
        {
            return error!;
        }

        try
        {
            if (request.All && !process.IsExec && task.Cgroup is { } cgroup)
            {
                cgroup.SignalAll((int)request.Signal);
            }
            else
            {
                if (process.IsExec && process.State == TaskState.Created)
                {
                    await process.SettledAsync(cancellation).ConfigureAwait(false);
                }

                if (TaskLifecycle.Refusal(process, TaskOperation.Kill) is { } refusal)
                {
                    return refusal;
                }

                if (process.Child is null)
                {
                    return new TtrpcError(TtrpcCode.FailedPrecondition, $"cannot kill {process.Name}: its checkpoint has not been restored yet");
                }

                if (!process.Child.Signal((int)request.Signal))
                {
                    return TaskLifecycle.Refusal(process.Name, process.IsExec, TaskOperation.Kill, TaskState.Stopped)!;
                }
            }

            // Under cgroup v1 what is frozen does not even die.
            if (request.Signal == Signals.Kill && task.Init.State == TaskState.Paused)
            {
                _ = await ResumeAsync(task, cancellation).ConfigureAwait(false);
            }

            return new Empty();
        }
        catch (LinuxException e)
        {
            return new TtrpcError(TtrpcCode.InvalidArgument, $"kill {process.Name}: {e.Message}");
        }
    }

    private async Task<TtrpcResult<DeleteResponse>> DeleteAsync(DeleteRequest request, CancellationToken cancellation)
    {
        if (Find(request.Id, request.ExecId) is var (task, process, error) && (task is null || process is null))
        {
            return error!;
        }

        if (process.IsExec)
        {
            return await DeleteExecAsync(task, process, cancellation).ConfigureAwait(false);
        }

        // A container that was never started still has its init, waiting; it ends here.
        if (process.State is TaskState.Created or TaskState.Errored)
        {
            if (process.Child is { } child)
            {
                _ = child.Signal(Signals.Kill);
            }
            else
            {
                process.Ended(new ExitStatus(0, 0, DateTimeOffset.UtcNow));
            }

            _ = await process.Exit.WaitAsync(cancellation).ConfigureAwait(false);
        }

        await process.Gate.WaitAsync(cancellation).ConfigureAwait(false);
        try
        {
            if (TaskLifecycle.Refusal(process, TaskOperation.Delete) is { } refusal)
            {
                return refusal;
            }

            // Two deletes at once: the second finds nothing once it is through the gate.
            if (!_tasks.ContainsKey(task.Id))
            {
                return new TtrpcError(TtrpcCode.NotFound, $"container {task.Id} is not in this shim");
            }

            var exit = await process.Exit.WaitAsync(cancellation).ConfigureAwait(false);
            if (await task.Runtime.DeleteAsync(task.Id, cancellation).ConfigureAwait(false) is { } problem)
            {
                return new TtrpcError(TtrpcCode.Unknown, $"delete container {task.Id}: {problem}");
            }

            Mounter.UnmountTree(Path.Combine(task.Bundle, "rootfs"));
            await task.DisposeAsync().ConfigureAwait(false);
            _ = _tasks.TryRemove(task.Id, out _);
            var response = Deleted(process, exit);
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
            _ = process.Gate.Release();
        }
    }

    private static DeleteResponse Deleted(TaskProcess process, ExitStatus exit) =>
        new() { Pid = process.Pid, ExitStatus = exit.ShellCode, ExitedAt = Timestamp.FromDateTimeOffset(exit.At) };

    private Task<TtrpcResult<Empty>> ShutdownAsync(ShutdownRequest request, CancellationToken cancellation)
    {
        // containerd asks after each container of the pod; only the last one counts.
        if (request.Now || IsEmpty)
        {
            _ = _shutdown.TrySetResult();
        }

        return Ok(new Empty());
    }

    /// <summary>From now on what happens to its processes by itself is published.</summary>
    private void Watch(ContainerTask task, ChildProcess init)
    {
        if (task.Cgroup is { } cgroup)
        {
            task.Oom = OomWatch.Open(
                task.Id,
                cgroup,
                () =>
                {
                    Log.Killed(_logger, task.Id);
                    _events.Publish("/tasks/oom", "containerd.events.TaskOOM", new TaskOOM { ContainerId = task.Id });
                },
                _logger,
                TimeProvider.System);
        }

        _ = WatchInitAsync(task, init);
    }

    /// <summary>What happens when a container's init ends; its exit is the last of the container's exits.</summary>
    private async Task WatchInitAsync(ContainerTask task, ChildProcess child)
    {
        var init = task.Init;
        try
        {
            var exit = await child.Exit.ConfigureAwait(false);

            // 1. No exec starts any more: those that are being started give up, and their gates show that they have.
            await task.EndAsync().ConfigureAwait(false);
            foreach (var exec in task.Execs.Values)
            {
                await exec.SettledAsync(CancellationToken.None).ConfigureAwait(false);
            }

            // 2. What still runs ends: by the kernel where init had a PID namespace of its own, by us elsewhere.
            if (!task.OwnPidNamespace)
            {
                EndLeftovers(task);
            }

            // 3. The exits of the execs.
            foreach (var exec in task.Execs.Values.Where(e => e.Child is not null))
            {
                _ = await exec.Exit.ConfigureAwait(false);
            }

            // 4. Its own.
            await EndedAsync(task, init, exit).ConfigureAwait(false);
        }
        catch (Exception e)
        {
            // Nobody awaits this method, and whoever waits for the exit must not wait for ever.
            Log.ExitFailed(_logger, init.Name, e);
            init.Ended(new ExitStatus(UnknownStatus, 0, DateTimeOffset.UtcNow));
        }
    }

    private void EndLeftovers(ContainerTask task)
    {
        try
        {
            task.Cgroup?.SignalAll(Signals.Kill);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            Log.LeftBehind(_logger, task.Id, e.Message);
        }
    }

    /// <summary>Makes the end of a process known.</summary>
    private async Task EndedAsync(ContainerTask task, TaskProcess process, ExitStatus exit)
    {
        await process.Gate.WaitAsync().ConfigureAwait(false);
        try
        {
            process.State = TaskState.Stopped;
            process.Streams?.ProcessEnded();
            if (process.Reports is not null)
            {
                await process.Reports.CompleteAsync().ConfigureAwait(false);
            }

            if (process.IsExec)
            {
                task.Oom?.Check();
            }
            else
            {
                task.Oom?.CheckLast(exit);
            }

            Log.Exited(_logger, task.Id, process.ExecId, process.Pid, exit.ShellCode);
            _events.Publish("/tasks/exit", "containerd.events.TaskExit", new TaskExit
            {
                ContainerId = task.Id,
                Id = process.IsExec ? process.ExecId : task.Id,
                Pid = process.Pid,
                ExitStatus = exit.ShellCode,
                ExitedAt = Timestamp.FromDateTimeOffset(exit.At),
            });
            process.Ended(exit);
        }
        finally
        {
            _ = process.Gate.Release();
        }
    }

    /// <summary>Whatever the runner says of its guest becomes an event, before that of its exit.</summary>
    private GuestReports OpenReports(ContainerTask task, TaskProcess process) => new(
        report =>
        {
            report.ContainerId = task.Id;
            report.ExecId = process.ExecId;
            _events.Publish(GuestReports.Topic, "skiff.events.GuestReport", report);
        },
        _logger,
        _time);

    private StdioOwner OwnerOf(ContainerTask task, TaskProcess process) => new(
        task.Bundle,
        _namespace,
        process.IsExec ? process.ExecId : task.Id,
        task.Settings.IoUid,
        task.Settings.IoGid,
        ClientClosesInput: !task.IsKubernetes);
}
