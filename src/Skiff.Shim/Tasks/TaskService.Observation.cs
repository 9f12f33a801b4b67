using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Skiff.Containerd.Options;
using Skiff.Containerd.Task;
using Skiff.Containerd.Types;
using Skiff.Linux;
using Skiff.Ttrpc;

namespace Skiff.Shim.Tasks;

internal sealed partial class TaskService
{
    /// <remarks>Not behind the gate: a state can be told while an OCI runtime takes its time.</remarks>
    private async Task<TtrpcResult<StateResponse>> StateAsync(StateRequest request, CancellationToken cancellation)
    {
        if (Find(request.Id, request.ExecId) is var (task, process, error) && (task is null || process is null))
        {
            return error!;
        }

        var response = new StateResponse
        {
            Id = task.Id,
            ExecId = process.ExecId,
            Bundle = task.Bundle,
            Pid = process.Pid,
            Status = process.State switch
            {
                TaskState.Running when task.Init.State != TaskState.Paused => Status.Running,
                TaskState.Running or TaskState.Paused => Status.Paused,
                TaskState.Stopped => Status.Running, // a moment later its status is there as well
                _ => Status.Created,
            },
            Stdin = process.Stdio.Stdin,
            Stdout = process.Stdio.Stdout,
            Stderr = process.Stdio.Stderr,
            Terminal = process.Stdio.Terminal,
        };

        // Stopped is said together with the exit status or not at all.
        if (process.Exit.IsCompletedSuccessfully)
        {
            var exit = await process.Exit.ConfigureAwait(false);
            response.Status = Status.Stopped;
            response.ExitStatus = exit.ShellCode;
            response.ExitedAt = Timestamp.FromDateTimeOffset(exit.At);
        }

        return response;
    }

    private async Task<TtrpcResult<WaitResponse>> WaitAsync(WaitRequest request, CancellationToken cancellation)
    {
        if (Find(request.Id, request.ExecId) is var (_, process, error) && process is null)
        {
            return error!;
        }

        var exit = await process.Exit.WaitAsync(cancellation).ConfigureAwait(false);
        return new WaitResponse { ExitStatus = exit.ShellCode, ExitedAt = Timestamp.FromDateTimeOffset(exit.At) };
    }

    /// <remarks>
    /// Init is among them as long as the container is there, also when it has ended: a containerd that has just started takes a container
    /// without processes for one that was never made, and deletes it before anybody can ask how it ended.
    /// </remarks>
    private Task<TtrpcResult<PidsResponse>> PidsAsync(PidsRequest request, CancellationToken cancellation)
    {
        if (Find(request.Id) is var (task, error) && task is null)
        {
            return Task.FromResult<TtrpcResult<PidsResponse>>(error!);
        }

        var execs = task.Execs.Values.Where(e => e.Child is { Exit.IsCompleted: false }).ToDictionary(e => e.Pid, e => e.ExecId);
        var pids = (task.Cgroup?.Processes() ?? []).Select(p => (uint)p);
        var response = new PidsResponse();
        foreach (var pid in task.Init.Child is null ? pids : pids.Prepend(task.Init.Pid).Distinct())
        {
            response.Processes.Add(new ProcessInfo
            {
                Pid = pid,
                Info = execs.TryGetValue(pid, out var execId)
                    ? new Any { TypeUrl = "containerd.runc.v1.ProcessDetails", Value = new ProcessDetails { ExecId = execId }.ToByteString() }
                    : null,
            });
        }

        return Ok(response);
    }

    private Task<TtrpcResult<StatsResponse>> StatsAsync(StatsRequest request, CancellationToken cancellation)
    {
        if (Find(request.Id) is var (task, error) && task is null)
        {
            return Task.FromResult<TtrpcResult<StatsResponse>>(error!);
        }

        return task.Cgroup is { } cgroup
            ? Ok(new StatsResponse { Stats = ContainerStatistics.Read(cgroup) })
            : Fail<StatsResponse>(TtrpcCode.NotFound, $"container {task.Id} has no cgroup: its init had ended before it could be read");
    }

    private Task<TtrpcResult<ConnectResponse>> ConnectAsync(ConnectRequest request, CancellationToken cancellation) => Ok(new ConnectResponse
    {
        ShimPid = (uint)Environment.ProcessId,
        TaskPid = _tasks.TryGetValue(request.Id, out var task) ? task.Init.Pid : 0,
        Version = SkiffVersion.Text,
    });

    private Task<TtrpcResult<Empty>> CloseIOAsync(CloseIORequest request, CancellationToken cancellation)
    {
        if (Find(request.Id, request.ExecId) is var (_, process, error) && process is null)
        {
            return Task.FromResult<TtrpcResult<Empty>>(error!);
        }

        if (request.Stdin)
        {
            process.Streams?.CloseStdin();
        }

        return Ok(new Empty());
    }

    private Task<TtrpcResult<Empty>> ResizePtyAsync(ResizePtyRequest request, CancellationToken cancellation)
    {
        if (Find(request.Id, request.ExecId) is var (_, process, error) && process is null)
        {
            return Task.FromResult<TtrpcResult<Empty>>(error!);
        }

        try
        {
            process.Streams?.Resize((ushort)request.Width, (ushort)request.Height);
            return Ok(new Empty());
        }
        catch (LinuxException e)
        {
            return Fail<Empty>(TtrpcCode.Unknown, $"resize {process.Name}: {e.Message}");
        }
    }
}
