using Microsoft.Extensions.Logging;
using Skiff.Containerd.Containers;
using Skiff.Containerd.Cri;
using Skiff.Kubernetes;
using Skiff.Kubernetes.Events;
using Skiff.Kubernetes.Leadership;
using Skiff.Operator.Agent;
using Skiff.Operator.Cluster;
using Skiff.Operator.Health;
using Skiff.Operator.Node;
using Skiff.Operator.OomEvents;

namespace Skiff.Operator.Cli;

/// <summary><c>skiff-operator agent</c>: what the DaemonSet runs, on every node; one of them is elected for what is cluster-wide.</summary>
internal static partial class AgentCommand
{
    /// <summary>What <c>--help</c> prints.</summary>
    public const string Help = """
        skiff-operator agent: keeps a node as the cluster's Shims want it. Runs until it is told to stop, and uninstalls nothing then.

        Usage:
          skiff-operator agent --node-name NAME --namespace NAME [options]

          --node-name NAME   the node's name in Kubernetes
          --namespace NAME   where the Lease is by which one agent is elected
          --host-root DIR    the node's root directory: /proc/1/root (default) in a privileged pod with hostPID: true, or /
          --bundle DIR       what is installed: a folder with bin/containerd-shim-skiff-v1 and run/ (default: /skiff)
          --socket PATH      containerd's socket on the node (default: /run/containerd/containerd.sock)
          --config PATH      containerd's configuration file (default: the one that the running containerd reads)
          --kubeconfig FILE  the API server (default: KUBECONFIG, the pod's service account, ~/.kube/config)
          --health-port N    /healthz, /readyz and /metrics (default: 8080)
          --log-level LEVEL  debug, information (default), warning or error
          --no-oom-events    memory kills get no Events
          --oom-events-on-workloads
                             memory kills get an Event on what manages the pod, too

        Environment: POD_NAME, which names this agent in the Lease and in Events (default: the node's name).
        """;

    /// <summary>The Lease by which one agent is elected.</summary>
    public const string LeaseName = "skiff-operator";

    /// <summary>Who reports Events.</summary>
    public const string EventController = "runtime.skiff.dev/skiff-operator";

    private static readonly TimeSpan _eventPatience = TimeSpan.FromSeconds(5);

    private static readonly Dictionary<string, OptionKind> _options = new(StringComparer.Ordinal)
    {
        ["--node-name"] = OptionKind.Single,
        ["--namespace"] = OptionKind.Single,
        ["--host-root"] = OptionKind.Single,
        ["--bundle"] = OptionKind.Single,
        ["--socket"] = OptionKind.Single,
        ["--config"] = OptionKind.Single,
        ["--kubeconfig"] = OptionKind.Single,
        ["--health-port"] = OptionKind.Single,
        ["--log-level"] = OptionKind.Single,
        ["--no-oom-events"] = OptionKind.Flag,
        ["--oom-events-on-workloads"] = OptionKind.Flag,
    };

    /// <summary>Runs the command.</summary>
    /// <param name="words">The words after <c>agent</c>.</param>
    /// <returns>The exit status (<see cref="ExitCode"/>).</returns>
    public static async Task<int> RunAsync(IReadOnlyList<string> words)
    {
        if (words.Any(w => w is "--help" or "-h"))
        {
            await Console.Out.WriteLineAsync(Help).ConfigureAwait(false);
            return ExitCode.Done;
        }

        if (!Arguments.TryParse(words, _options, out var arguments, out var problem))
        {
            return await UsageAsync(problem).ConfigureAwait(false);
        }

        if (arguments.Value("--node-name") is not { Length: > 0 } nodeName || arguments.Value("--namespace") is not { Length: > 0 } ns)
        {
            return await UsageAsync("--node-name and --namespace are needed").ConfigureAwait(false);
        }

        if (!Service.TryParse(arguments, out var service, out problem))
        {
            return await UsageAsync(problem).ConfigureAwait(false);
        }

        var hostRoot = arguments.Value("--host-root") ?? "/proc/1/root";
        var socket = arguments.Value("--socket") ?? ContainerdClient.DefaultSocket;
        if (!LinuxNode.TryOpen(hostRoot, socket, out var node, out problem))
        {
            return await UsageAsync(problem).ConfigureAwait(false);
        }

        using (node)
        {
            var connected = KubeClient.Connect(arguments.Value("--kubeconfig"), ProgramVersion.UserAgent, TimeProvider.System);
            if (connected.Value is not { } client)
            {
                return await FailedAsync(connected.Error!.Message).ConfigureAwait(false);
            }

            using (client)
            {
                var installer = new NodeInstaller(node, arguments.Value("--config"), TimeProvider.System);
                using var containerd = new ContainerWatch(hostRoot, socket);
                var oomEvents = arguments.Has("--no-oom-events") ? null : new OomEventsOptions
                {
                    Cgroups = hostRoot.TrimEnd('/') + "/sys/fs/cgroup",
                    Spool = NodePaths.State,
                    Files = node.Files,
                    Processes = hostRoot.TrimEnd('/') + "/proc",
                    KernelLog = hostRoot.TrimEnd('/') + "/dev/kmsg",
                    Containerd = containerd,
                    OnWorkloads = arguments.Has("--oom-events-on-workloads"),
                };
                try
                {
                    await service.RunAsync((loggers, cancellation) => RunAsync(
                        nodeName, ns, arguments.Value("--bundle") ?? "/skiff", service.HealthPort, client, installer, oomEvents, loggers, cancellation)).ConfigureAwait(false);
                    return ExitCode.Done;
                }
                catch (IOException e)
                {
                    return await FailedAsync(e.Message).ConfigureAwait(false);
                }
            }
        }
    }

    private static async Task RunAsync(
        string nodeName, string ns, string bundle, int port, KubeClient client, INodeInstaller installer, OomEventsOptions? oomEvents,
        ILoggerFactory loggers, CancellationToken cancellation)
    {
        var time = TimeProvider.System;
        var logger = loggers.CreateLogger("Skiff.Operator");
        var pod = Environment.GetEnvironmentVariable("POD_NAME") is { Length: > 0 } named ? named : nodeName;
        await using var events = new EventRecorder(client, EventController, pod, loggers.CreateLogger("Skiff.Kubernetes.Events"), time);
        using var agent = new AgentPart(
            nodeName, bundle, ProgramVersion.Text, client, installer, events, loggers.CreateLogger("Skiff.Operator.Agent"), time);
        var cluster = new ClusterPart(client, events, loggers, time);

        // A pod that was restarted must not be taken for its predecessor, whose work may still be going on.
        var options = new LeaderElectionOptions { Namespace = ns, Name = LeaseName, Identity = $"{pod}_{Guid.NewGuid():n}" };
        var elector = new LeaderElector(client, options, loggers.CreateLogger("Skiff.Kubernetes.Leadership"), time);
        var oom = oomEvents is null ? null
            : new OomEventsPart(oomEvents, agent.Pods, new EventWriter(client, EventController, pod), loggers.CreateLogger("Skiff.Operator.OomEvents"), time);
        var state = new OperatorState
        {
            Version = ProgramVersion.Text,
            Agent = agent.Controller,
            HasSynced = () => agent.HasSynced,
            Cluster = () => cluster.Controller,
            Leads = () => elector.Leads,
            Events = events,
            OomEvents = oom,
        };
        Log.Started(logger, ProgramVersion.Text, nodeName, client.Server);
        await Loops.RunAsync(
            cancellation,
            agent.RunAsync,
            stop => elector.RunAsync(cluster.RunAsync, stop),
            stop => oom?.RunAsync(stop) ?? Task.Delay(Timeout.Infinite, stop),
            stop => HealthServer.RunAsync(port, state, loggers, null, stop)).ConfigureAwait(false);
        await events.CompleteAsync(_eventPatience).ConfigureAwait(false);
        if (oomEvents is not null && oomEvents.Files.Status(NodePaths.Journal) is null)
        {
            oom?.Forget(); // nothing of ours is installed here, so nobody would take it away
        }

        Log.Stopped(logger);
    }

    private static async Task<int> UsageAsync(string problem)
    {
        await Console.Error.WriteLineAsync($"skiff-operator: {problem}\nsee skiff-operator agent --help").ConfigureAwait(false);
        return ExitCode.Usage;
    }

    private static async Task<int> FailedAsync(string problem)
    {
        await Console.Error.WriteLineAsync($"skiff-operator: {problem}").ConfigureAwait(false);
        return ExitCode.Failed;
    }

    private static partial class Log
    {
        [LoggerMessage(220, LogLevel.Information, "started: version={Version} node={Node} server={Server}")]
        public static partial void Started(ILogger logger, string version, string node, Uri server);

        [LoggerMessage(221, LogLevel.Information, "stopped")]
        public static partial void Stopped(ILogger logger);
    }
}
