using System.Text.Json;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using Grpc.Net.Client;
using Skiff.Containerd.Cri.Api;

namespace Skiff.Containerd.Cri;

/// <summary>A client of containerd's version and CRI services over its unix socket.</summary>
/// <remarks>Expected failures are values; only cancellation by the caller throws. Each call ends within its time limit.</remarks>
public sealed class ContainerdClient : IDisposable
{
    /// <summary>Where containerd listens unless it is told otherwise.</summary>
    public const string DefaultSocket = "/run/containerd/containerd.sock";

    private readonly string _socket;
    private readonly TimeSpan _timeout;
    private readonly GrpcChannel _channel;
    private readonly Api.Version.VersionClient _version;
    private readonly RuntimeService.RuntimeServiceClient _cri;

    /// <summary>A client; it connects when the first call is made, and again after containerd was restarted.</summary>
    /// <param name="hostRoot">The node's root directory as we see it (<c>/</c>, <c>/host</c>, <c>/proc/1/root</c>); symbolic links stay below it.</param>
    /// <param name="socket">The socket as the node sees it; it may be of any length.</param>
    /// <param name="timeout">The time limit of each call.</param>
    public ContainerdClient(string hostRoot, string socket, TimeSpan timeout)
    {
        _socket = socket;
        _timeout = timeout;
        _channel = ContainerdChannel.Open(hostRoot, socket);
        _version = new Api.Version.VersionClient(_channel);
        _cri = new RuntimeService.RuntimeServiceClient(_channel);
    }

    /// <summary>
    /// The time limit for starting and for stopping a sandbox, because containerd may have to pull the pause image: the kubelet's own,
    /// unless set.
    /// </summary>
    public TimeSpan SandboxTimeout { get; init; } = TimeSpan.FromMinutes(2);

    /// <summary>containerd's version, as it says it itself.</summary>
    public async Task<(string? Version, ContainerdFailure? Failure)> VersionAsync(CancellationToken cancellation)
    {
        var (answer, failure) = await CallAsync(
            "its version", o => _version.VersionAsync(new Empty(), o), _timeout, cancellation).ConfigureAwait(false);
        return (answer?.Version, failure);
    }

    /// <summary>Whether the CRI plugin, as it runs now, knows this handler.</summary>
    public async Task<(bool? Known, ContainerdFailure? Failure)> HasHandlerAsync(string handler, CancellationToken cancellation)
    {
        const string what = "the CRI plugin's status";
        var (answer, failure) = await CallAsync(
            what, o => _cri.StatusAsync(new StatusRequest { Verbose = true }, o), _timeout, cancellation).ConfigureAwait(false);
        if (answer is null)
        {
            return (null, failure);
        }

        if (answer.RuntimeHandlers.Count > 0)
        {
            return (answer.RuntimeHandlers.Any(h => h.Name == handler), null);
        }

        // 1.x does not list its handlers; but the configuration that it runs with is in the verbose part.
        return ConfiguredRuntimes(answer.Info.TryGetValue("config", out var config) ? config : "") is { } runtimes
            ? (runtimes.Contains(handler), null)
            : (null, new ContainerdFailure(ContainerdError.Failed, $"containerd at {_socket}: {what} has neither runtime handlers nor a configuration"));
    }

    /// <summary>Starts a pod sandbox with the host's network and no containers.</summary>
    /// <returns>Its id.</returns>
    public async Task<(string? Id, ContainerdFailure? Failure)> RunPodSandboxAsync(SandboxRequest request, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(request);
        var config = new PodSandboxConfig
        {
            Metadata = new PodSandboxMetadata { Name = request.Name, Namespace = request.Namespace, Uid = request.Uid },
            Linux = new LinuxPodSandboxConfig
            {
                CgroupParent = request.CgroupParent,
                // The host's network: a self-test does not depend on the node's CNI, which may not be there yet.
                SecurityContext = new LinuxSandboxSecurityContext { NamespaceOptions = new NamespaceOption { Network = NamespaceMode.Node } },
            },
        };
        foreach (var (key, value) in request.Labels)
        {
            config.Labels[key] = value;
        }

        var (answer, failure) = await CallAsync(
            $"a pod sandbox with the handler \"{request.Handler}\"",
            o => _cri.RunPodSandboxAsync(new RunPodSandboxRequest { Config = config, RuntimeHandler = request.Handler }, o),
            SandboxTimeout,
            cancellation).ConfigureAwait(false);
        return (answer?.PodSandboxId, failure);
    }

    /// <summary>Whether the sandbox runs.</summary>
    public async Task<(bool? Ready, ContainerdFailure? Failure)> PodSandboxReadyAsync(string id, CancellationToken cancellation)
    {
        var (answer, failure) = await CallAsync(
            $"the state of the sandbox {id}",
            o => _cri.PodSandboxStatusAsync(new PodSandboxStatusRequest { PodSandboxId = id }, o),
            _timeout,
            cancellation).ConfigureAwait(false);
        return (answer is null ? null : answer.Status?.State == PodSandboxState.SandboxReady, failure);
    }

    /// <summary>The sandboxes that have all of these labels.</summary>
    public async Task<(IReadOnlyList<Sandbox>? Sandboxes, ContainerdFailure? Failure)> ListPodSandboxesAsync(
        IReadOnlyDictionary<string, string> labels, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(labels);
        var filter = new PodSandboxFilter();
        foreach (var (key, value) in labels)
        {
            filter.LabelSelector[key] = value;
        }

        var (answer, failure) = await CallAsync(
            "its sandboxes",
            o => _cri.ListPodSandboxAsync(new ListPodSandboxRequest { Filter = filter }, o),
            _timeout,
            cancellation).ConfigureAwait(false);
        return (answer is null ? null : [.. answer.Items.Select(i => new Sandbox(
            i.Id, i.Metadata?.Name ?? "", i.Metadata?.Namespace ?? "", i.RuntimeHandler, i.State == PodSandboxState.SandboxReady))], failure);
    }

    /// <summary>Stops and removes a sandbox; one that is not there is no failure.</summary>
    public async Task<ContainerdFailure?> RemovePodSandboxAsync(string id, CancellationToken cancellation)
    {
        var (_, failure) = await CallAsync(
            $"the end of the sandbox {id}",
            o => _cri.StopPodSandboxAsync(new StopPodSandboxRequest { PodSandboxId = id }, o),
            SandboxTimeout,
            cancellation).ConfigureAwait(false);
        if (failure is null)
        {
            (_, failure) = await CallAsync(
                $"the removal of the sandbox {id}",
                o => _cri.RemovePodSandboxAsync(new RemovePodSandboxRequest { PodSandboxId = id }, o),
                SandboxTimeout,
                cancellation).ConfigureAwait(false);
        }

        return failure is { Error: ContainerdError.NotFound } ? null : failure;
    }

    /// <inheritdoc/>
    public void Dispose() => _channel.Dispose();

    private static HashSet<string>? ConfiguredRuntimes(string config)
    {
        try
        {
            using var document = JsonDocument.Parse(config);
            return document.RootElement is { ValueKind: JsonValueKind.Object } root
                && root.TryGetProperty("containerd", out var containerd) && containerd.ValueKind == JsonValueKind.Object
                && containerd.TryGetProperty("runtimes", out var runtimes) && runtimes.ValueKind == JsonValueKind.Object
                ? [.. runtimes.EnumerateObject().Select(r => r.Name)] : null;
        }
        catch (JsonException)
        {
            return null;
        }
    }

    private async Task<(T? Answer, ContainerdFailure? Failure)> CallAsync<T>(
        string what, Func<CallOptions, AsyncUnaryCall<T>> call, TimeSpan timeout, CancellationToken cancellation)
        where T : class
    {
        try
        {
            using var running = call(new CallOptions(deadline: DateTime.UtcNow + timeout, cancellationToken: cancellation));
            return (await running.ConfigureAwait(false), null);
        }
        catch (RpcException e) when (e.StatusCode == StatusCode.Cancelled && cancellation.IsCancellationRequested)
        {
            throw new OperationCanceledException($"containerd at {_socket} was asked for {what}", e, cancellation);
        }
        catch (RpcException e)
        {
            var error = e.StatusCode switch
            {
                StatusCode.Unavailable => ContainerdError.Unavailable,
                StatusCode.Internal when e.Status.DebugException is HttpRequestException => ContainerdError.Unavailable,
                StatusCode.DeadlineExceeded => ContainerdError.TimedOut,
                StatusCode.Unimplemented => ContainerdError.NoCri,
                StatusCode.NotFound => ContainerdError.NotFound,
                _ => ContainerdError.Failed,
            };
            return (null, new ContainerdFailure(error, $"containerd at {_socket}, asked for {what}: {Reason(error, e, timeout)}"));
        }
    }

    private static string Reason(ContainerdError error, RpcException e, TimeSpan timeout) => error switch
    {
        ContainerdError.TimedOut => $"no answer within {timeout.TotalSeconds:0.#} s",
        ContainerdError.NoCri => $"its CRI plugin does not run ({e.Status.Detail}): see disabled_plugins in its configuration, and its log",
        ContainerdError.Unavailable => e.Status.DebugException?.GetBaseException().Message ?? e.Status.Detail,
        _ => e.Status.Detail,
    };
}
