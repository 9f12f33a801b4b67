using Google.Protobuf.WellKnownTypes;
using Skiff.Containerd.Task;
using Skiff.Containerd.Types;
using Skiff.Ttrpc;

namespace Skiff.Shim.Tasks;

internal sealed partial class TaskService
{
    private async Task<TtrpcResult<StateResponse>> StateAsync(StateRequest request, CancellationToken cancellation)
    {
        if (Find(request.Id, request.ExecId) is var (task, error) && task is null)
        {
            return error!;
        }

        await task.Gate.WaitAsync(cancellation).ConfigureAwait(false);
        try
        {
            var response = new StateResponse
            {
                Id = task.Id,
                Bundle = task.Bundle,
                Pid = (uint)task.Init.Pid,
                Status = task.State switch
                {
                    TaskState.Created => Status.Created,
                    TaskState.Running => Status.Running,
                    TaskState.Paused => Status.Paused,
                    _ => Status.Stopped,
                },
                Stdin = task.Stdio.Stdin,
                Stdout = task.Stdio.Stdout,
                Stderr = task.Stdio.Stderr,
            };
            if (task.Exit.IsCompletedSuccessfully)
            {
                var exit = await task.Exit.ConfigureAwait(false);
                response.ExitStatus = exit.ShellCode;
                response.ExitedAt = Timestamp.FromDateTimeOffset(exit.At);
            }

            return response;
        }
        finally
        {
            _ = task.Gate.Release();
        }
    }

    private async Task<TtrpcResult<WaitResponse>> WaitAsync(WaitRequest request, CancellationToken cancellation)
    {
        if (Find(request.Id, request.ExecId) is var (task, error) && task is null)
        {
            return error!;
        }

        var exit = await task.Exit.WaitAsync(cancellation).ConfigureAwait(false);
        return new WaitResponse { ExitStatus = exit.ShellCode, ExitedAt = Timestamp.FromDateTimeOffset(exit.At) };
    }

    private Task<TtrpcResult<PidsResponse>> PidsAsync(PidsRequest request, CancellationToken cancellation)
    {
        if (Find(request.Id, "") is var (task, error) && task is null)
        {
            return Task.FromResult<TtrpcResult<PidsResponse>>(error!);
        }

        var response = new PidsResponse();
        foreach (var pid in task.Cgroup?.Processes() ?? [])
        {
            response.Processes.Add(new ProcessInfo { Pid = (uint)pid });
        }

        return Ok(response);
    }

    private Task<TtrpcResult<ConnectResponse>> ConnectAsync(ConnectRequest request, CancellationToken cancellation) => Ok(new ConnectResponse
    {
        ShimPid = (uint)Environment.ProcessId,
        TaskPid = _tasks.TryGetValue(request.Id, out var task) ? (uint)task.Init.Pid : 0,
        Version = SkiffVersion.Text,
    });

    private Task<TtrpcResult<Empty>> CloseIOAsync(CloseIORequest request, CancellationToken cancellation)
    {
        if (Find(request.Id, request.ExecId) is var (task, error) && task is null)
        {
            return Task.FromResult<TtrpcResult<Empty>>(error!);
        }

        if (request.Stdin)
        {
            task.Stdio.CloseStdin();
        }

        return Ok(new Empty());
    }
}
