using System.Collections.Concurrent;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Microsoft.Extensions.Logging;
using Skiff.Containerd.Task;
using Skiff.Shim.Events;
using Skiff.Shim.Wasm;
using Skiff.Ttrpc;

namespace Skiff.Shim.Tasks;

/// <summary>
/// containerd's task service for the containers of one pod (api/runtime/task/v2/shim.proto).
/// </summary>
/// <remarks>
/// Lifecycle: Create, Start, Kill, Delete, Shutdown. Execs: Exec and what the calls of the lifecycle do to an exec. Resources: Pause, Resume,
/// Update, Checkpoint. Observation: State, Wait, Pids, Connect, CloseIO, ResizePty.
/// </remarks>
internal sealed partial class TaskService
{
    /// <summary>The names under which containerd may call: version 2 is answered to <c>start</c>, version 3 has the same messages.</summary>
    public static readonly string[] Names = ["containerd.task.v2.Task", "containerd.task.v3.Task"];

    private readonly ConcurrentDictionary<string, ContainerTask> _tasks = new(StringComparer.Ordinal);
    private readonly TaskCompletionSource _shutdown = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly string _namespace;
    private readonly WasmPreparation _wasm;
    private readonly EventPublisher _events;
    private readonly ILogger _logger;
    private readonly TimeProvider _time;

    // Creates in flight: they count as containers, so that a Shutdown meanwhile does not end the shim under them, and hold their names.
    private readonly ConcurrentDictionary<string, bool> _creating = new(StringComparer.Ordinal);

    public TaskService(string ns, WasmPreparation wasm, EventPublisher events, ILogger logger, TimeProvider time)
    {
        _namespace = ns;
        _wasm = wasm;
        _events = events;
        _logger = logger;
        _time = time;
    }

    /// <summary>Completes when containerd has asked for it and no container is left.</summary>
    public Task ShutdownRequested => _shutdown.Task;

    /// <summary>Whether it has no container, and none is being created.</summary>
    public bool IsEmpty => _tasks.IsEmpty && _creating.IsEmpty;

    /// <summary>The methods by name.</summary>
    public TtrpcService ToService()
    {
        return new TtrpcService()
            .Add("Create", CreateTaskRequest.Parser, Call<CreateTaskRequest, CreateTaskResponse>(CreateAsync))
            .Add("Start", StartRequest.Parser, Call<StartRequest, StartResponse>(StartAsync))
            .Add("Kill", KillRequest.Parser, Call<KillRequest, Empty>(KillAsync))
            .Add("Delete", DeleteRequest.Parser, Call<DeleteRequest, DeleteResponse>(DeleteAsync))
            .Add("Shutdown", ShutdownRequest.Parser, Call<ShutdownRequest, Empty>(ShutdownAsync))
            .Add("State", StateRequest.Parser, Call<StateRequest, StateResponse>(StateAsync))
            .Add("Wait", WaitRequest.Parser, Call<WaitRequest, WaitResponse>(WaitAsync))
            .Add("Pids", PidsRequest.Parser, Call<PidsRequest, PidsResponse>(PidsAsync))
            .Add("Connect", ConnectRequest.Parser, Call<ConnectRequest, ConnectResponse>(ConnectAsync))
            .Add("CloseIO", CloseIORequest.Parser, Call<CloseIORequest, Empty>(CloseIOAsync))
            .Add("ResizePty", ResizePtyRequest.Parser, Call<ResizePtyRequest, Empty>(ResizePtyAsync))
            .Add("Exec", ExecProcessRequest.Parser, Call<ExecProcessRequest, Empty>(ExecAsync))
            .Add("Pause", PauseRequest.Parser, Call<PauseRequest, Empty>(PauseAsync))
            .Add("Resume", ResumeRequest.Parser, Call<ResumeRequest, Empty>(ResumeAsync))
            .Add("Update", UpdateTaskRequest.Parser, Call<UpdateTaskRequest, Empty>(UpdateAsync))
            .Add("Checkpoint", CheckpointTaskRequest.Parser, Call<CheckpointTaskRequest, Empty>(CheckpointAsync))
            .Add("Stats", StatsRequest.Parser, Call<StatsRequest, StatsResponse>(StatsAsync));
    }

    private static Func<TRequest, TtrpcContext, CancellationToken, Task<TtrpcResult<TResponse>>> Call<TRequest, TResponse>(
        Func<TRequest, CancellationToken, Task<TtrpcResult<TResponse>>> handler)
        where TRequest : class, IMessage<TRequest>
        where TResponse : class, IMessage<TResponse> => (request, _, cancellation) => handler(request, cancellation);

    private static Task<TtrpcResult<T>> Fail<T>(TtrpcCode code, string message)
        where T : class => Task.FromResult<TtrpcResult<T>>(new TtrpcError(code, message));

    private static Task<TtrpcResult<T>> Ok<T>(T message)
        where T : class => Task.FromResult<TtrpcResult<T>>(message);

    /// <summary>The container a request names, or why there is none.</summary>
    private (ContainerTask? Task, TtrpcError? Error) Find(string id) =>
        _tasks.TryGetValue(id, out var task) ? (task, null) : (null, new TtrpcError(TtrpcCode.NotFound, $"container {id} is not in this shim"));

    /// <summary>The process a request names, or why there is none.</summary>
    private (ContainerTask? Task, TaskProcess? Process, TtrpcError? Error) Find(string id, string execId)
    {
        if (Find(id) is var (task, error) && task is null)
        {
            return (null, null, error);
        }

        return execId.Length == 0 ? (task, task.Init, null)
            : task.Execs.TryGetValue(execId, out var exec) ? (task, exec, null)
            : (task, null, new TtrpcError(TtrpcCode.NotFound, $"container {id} has no exec {execId}"));
    }

    private static partial class Log
    {
        [LoggerMessage(20, LogLevel.Debug, "Created: container={Id} pid={Pid} program={Program}")]
        public static partial void Created(ILogger logger, string id, uint pid, ProgramKind program);

        [LoggerMessage(21, LogLevel.Debug, "Exited: container={Id} exec={ExecId} pid={Pid} status={Status}")]
        public static partial void Exited(ILogger logger, string id, string execId, uint pid, uint status);

        [LoggerMessage(22, LogLevel.Warning, "Clean-up after a failure was not complete: container={Id} error={Error}")]
        public static partial void CleanupIncomplete(ILogger logger, string id, string error);

        [LoggerMessage(23, LogLevel.Error, "The end of a process could not be handled: process={Name}")]
        public static partial void ExitFailed(ILogger logger, string name, Exception error);

        [LoggerMessage(24, LogLevel.Warning, "Processes that init left behind could not be ended: container={Id} error={Error}")]
        public static partial void LeftBehind(ILogger logger, string id, string error);

        [LoggerMessage(26, LogLevel.Information, "A process was killed for want of memory: container={Id}")]
        public static partial void Killed(ILogger logger, string id);
    }
}
