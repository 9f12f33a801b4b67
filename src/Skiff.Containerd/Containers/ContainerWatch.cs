using Google.Protobuf;
using Grpc.Core;
using Grpc.Net.Client;
using Skiff.Containerd.Cri;
using Skiff.Containerd.Events;
using Skiff.Containerd.Events.Api;
using Skiff.Containerd.Images.Api;

namespace Skiff.Containerd.Containers;

/// <summary>Something that happened to a container of any runtime.</summary>
/// <param name="ContainerId">Which.</param>
public abstract record ContainerEvent(string ContainerId);

/// <summary>Its shim says that a process of it was killed for want of memory. runc's says so on cgroup v1 of its neighbours, too.</summary>
/// <param name="ContainerId">Which.</param>
public sealed record ContainerOom(string ContainerId) : ContainerEvent(ContainerId);

/// <summary>Its first process has ended.</summary>
/// <param name="ContainerId">Which.</param>
/// <param name="Pid">The process, as containerd counts them.</param>
/// <param name="ExitStatus">How; 128 and the signal's number when it was killed.</param>
public sealed record ContainerExit(string ContainerId, uint Pid, uint ExitStatus) : ContainerEvent(ContainerId);

/// <summary>Our shim's runner refused memory to a WebAssembly guest of it.</summary>
/// <param name="ContainerId">Which.</param>
/// <param name="IsExec">Whether the guest is an exec.</param>
/// <param name="Asked">How much more it wanted, in bytes.</param>
/// <param name="Used">How much it has.</param>
/// <param name="Limit">How much it may have.</param>
public sealed record GuestMemoryRefused(string ContainerId, bool IsExec, ulong Asked, ulong Used, ulong Limit) : ContainerEvent(ContainerId);

/// <summary>A WebAssembly guest of it ended by a trap.</summary>
/// <param name="ContainerId">Which.</param>
/// <param name="IsExec">Whether the guest is an exec.</param>
/// <param name="Code">wasmtime_trap_code_t; null where the engine gives none.</param>
/// <param name="Reason">One line.</param>
/// <param name="Requests">How many requests to a server ended so since it was last said; 0: the guest itself ended.</param>
public sealed record GuestTrapped(string ContainerId, bool IsExec, uint? Code, string Reason, uint Requests = 0) : ContainerEvent(ContainerId);

/// <summary>To which pod a container belongs, by the labels that the kubelet gives it (containerd, internal/cri/labels and the kubelet's types).</summary>
/// <param name="Namespace">The pod's namespace.</param>
/// <param name="Pod">The pod's name.</param>
/// <param name="PodUid">The pod's uid.</param>
/// <param name="Container">The container's name in the pod; null for the pod's sandbox.</param>
public sealed record ContainerOwner(string Namespace, string Pod, string PodUid, string? Container);

/// <summary>containerd's events and containers, in the namespace of Kubernetes.</summary>
/// <remarks>Expected failures are values; only cancellation by the caller throws.</remarks>
public sealed class ContainerWatch : IDisposable
{
    private const string Namespace = "k8s.io";

    private static readonly TimeSpan _timeout = TimeSpan.FromSeconds(5);

    private readonly string _socket;
    private readonly GrpcChannel _channel;

    /// <summary>Prepares it; it connects when it is used, and again after containerd was restarted.</summary>
    /// <param name="hostRoot">The node's root directory as we see it; symbolic links stay below it.</param>
    /// <param name="socket">The socket as the node sees it.</param>
    public ContainerWatch(string hostRoot, string socket)
    {
        _socket = socket;
        _channel = ContainerdChannel.Open(hostRoot, socket);
    }

    /// <summary>Tells what happens from now on, until containerd goes away. What happens while nobody is connected is not told.</summary>
    /// <param name="happened">Called for each event, in order.</param>
    /// <param name="cancellation">Ends it.</param>
    /// <returns>Why it ended.</returns>
    public async Task<ContainerdFailure> FollowAsync(Action<ContainerEvent> happened, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(happened);
        var request = new SubscribeRequest { Filters = { $"namespace==\"{Namespace}\",topic~=\"^/(tasks/(oom|exit)|skiff/guest)$\"" } };
        try
        {
            using var stream = new Events.Api.Events.EventsClient(_channel).Subscribe(request, cancellationToken: cancellation);
            while (await stream.ResponseStream.MoveNext(cancellation).ConfigureAwait(false))
            {
                if (Parse(stream.ResponseStream.Current) is { } one)
                {
                    happened(one);
                }
            }

            return new ContainerdFailure(ContainerdError.Unavailable, $"containerd at {_socket} ended its stream of events");
        }
        catch (RpcException) when (cancellation.IsCancellationRequested)
        {
            throw new OperationCanceledException(cancellation);
        }
        catch (RpcException e)
        {
            return new ContainerdFailure(
                e.StatusCode is StatusCode.Unavailable or StatusCode.Internal ? ContainerdError.Unavailable : ContainerdError.Failed,
                $"containerd at {_socket}, asked for its events: {e.Status.DebugException?.GetBaseException().Message ?? e.Status.Detail}");
        }
    }

    /// <summary>Whose container it is.</summary>
    /// <returns>Null when there is no such container, it is nobody's pod's, or containerd does not answer.</returns>
    public async Task<ContainerOwner?> OwnerAsync(string container, CancellationToken cancellation)
    {
        var options = new CallOptions(new Metadata { { "containerd-namespace", Namespace } }, DateTime.UtcNow + _timeout, cancellation);
        try
        {
            var answer = await new Images.Api.Containers.ContainersClient(_channel).GetAsync(new GetContainerRequest { Id = container }, options).ConfigureAwait(false);
            var labels = answer.Container?.Labels;
            return labels is not null
                && labels.TryGetValue("io.kubernetes.pod.namespace", out var ns)
                && labels.TryGetValue("io.kubernetes.pod.name", out var pod)
                && labels.TryGetValue("io.kubernetes.pod.uid", out var uid)
                ? new ContainerOwner(ns, pod, uid, labels.TryGetValue("io.kubernetes.container.name", out var name) ? name : null) : null;
        }
        catch (RpcException) when (cancellation.IsCancellationRequested)
        {
            throw new OperationCanceledException(cancellation);
        }
        catch (RpcException)
        {
            return null;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _channel.Dispose();

    private static ContainerEvent? Parse(Envelope envelope)
    {
        try
        {
            switch (envelope.Topic)
            {
                case "/tasks/oom":
                    return new ContainerOom(TaskOOM.Parser.ParseFrom(envelope.Event.Value).ContainerId);
                case "/tasks/exit":
                    var exit = TaskExit.Parser.ParseFrom(envelope.Event.Value);
                    return exit.Id == exit.ContainerId ? new ContainerExit(exit.ContainerId, exit.Pid, exit.ExitStatus) : null; // else an exec's
                case "/skiff/guest":
                    var report = GuestReport.Parser.ParseFrom(envelope.Event.Value);
                    var isExec = report.ExecId.Length > 0;
                    return report switch
                    {
                        { Memory: { } memory } => new GuestMemoryRefused(report.ContainerId, isExec, memory.Asked, memory.Used, memory.Limit),
                        { Trap: { } trap } => new GuestTrapped(report.ContainerId, isExec, trap.HasCode ? trap.Code : null, trap.Reason, trap.Requests),
                        _ => null,
                    };
                default:
                    return null;
            }
        }
        catch (InvalidProtocolBufferException)
        {
            return null; // somebody else's event by that name
        }
    }
}
