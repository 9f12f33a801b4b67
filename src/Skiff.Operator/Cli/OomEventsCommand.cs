using Microsoft.Extensions.Logging;
using Skiff.Kubernetes;
using Skiff.Kubernetes.Events;
using Skiff.Kubernetes.Watching;
using Skiff.Linux.Files;
using Skiff.Operator.Api;
using Skiff.Operator.Health;
using Skiff.Operator.OomEvents;

namespace Skiff.Operator.Cli;

/// <summary><c>skiff-operator oom-events</c>: memory kills as Events and nothing else, without any right on the node but to read its cgroups.</summary>
internal static partial class OomEventsCommand
{
    /// <summary>What <c>--help</c> prints.</summary>
    public const string Help = """
        skiff-operator oom-events: gives each pod of a node an Event when the kernel kills a process of it for want of memory. Runs until it is
        told to stop. It needs to read the node's cgroup tree, and to list pods and write Events; no more.

        Usage:
          skiff-operator oom-events --node-name NAME [options]

          --node-name NAME   the node's name in Kubernetes
          --cgroups DIR      the node's /sys/fs/cgroup (default: /sys/fs/cgroup)
          --spool DIR        where kills are kept until the API server has them (default: /var/lib/skiff)
          --on-workloads     an Event on what manages the pod, too
          --kubeconfig FILE  the API server (default: KUBECONFIG, the pod's service account, ~/.kube/config)
          --health-port N    /healthz, /readyz and /metrics (default: 8080)
          --log-level LEVEL  debug, information (default), warning or error

        Environment: POD_NAME, which names this agent in Events (default: the node's name).
        """;

    private static readonly Dictionary<string, OptionKind> _options = new(StringComparer.Ordinal)
    {
        ["--node-name"] = OptionKind.Single,
        ["--cgroups"] = OptionKind.Single,
        ["--spool"] = OptionKind.Single,
        ["--on-workloads"] = OptionKind.Flag,
        ["--kubeconfig"] = OptionKind.Single,
        ["--health-port"] = OptionKind.Single,
        ["--log-level"] = OptionKind.Single,
    };

    /// <summary>Runs the command.</summary>
    /// <param name="words">The words after <c>oom-events</c>.</param>
    /// <returns>The exit status (<see cref="ExitCode"/>).</returns>
    public static async Task<int> RunAsync(IReadOnlyList<string> words)
    {
        if (words.Any(w => w is "--help" or "-h"))
        {
            await Console.Out.WriteLineAsync(Help).ConfigureAwait(false);
            return ExitCode.Done;
        }

        Service? service = null;
        if (!Arguments.TryParse(words, _options, out var arguments, out var problem)
            || (problem = arguments.Value("--node-name") is { Length: > 0 } ? null : "--node-name is needed") is not null
            || !Service.TryParse(arguments, out service, out problem))
        {
            return await FailedAsync($"{problem}\nsee skiff-operator oom-events --help", ExitCode.Usage).ConfigureAwait(false);
        }

        var nodeName = arguments.Value("--node-name")!;
        var connected = KubeClient.Connect(arguments.Value("--kubeconfig"), ProgramVersion.UserAgent, TimeProvider.System);
        if (connected.Value is not { } client)
        {
            return await FailedAsync(connected.Error!.Message, ExitCode.Failed).ConfigureAwait(false);
        }

        using (client)
        {
            var options = new OomEventsOptions
            {
                Cgroups = arguments.Value("--cgroups") ?? "/sys/fs/cgroup",
                Spool = arguments.Value("--spool") ?? "/var/lib/skiff",
                Files = new RootedTree("/"),
                OnWorkloads = arguments.Has("--on-workloads"),
            };
            try
            {
                await service.RunAsync((loggers, cancellation) => RunAsync(nodeName, service.HealthPort, client, options, loggers, cancellation)).ConfigureAwait(false);
                return ExitCode.Done;
            }
            catch (IOException e)
            {
                return await FailedAsync(e.Message, ExitCode.Failed).ConfigureAwait(false);
            }
        }
    }

    private static async Task RunAsync(string nodeName, int port, KubeClient client, OomEventsOptions options, ILoggerFactory loggers, CancellationToken cancellation)
    {
        var time = TimeProvider.System;
        var logger = loggers.CreateLogger("Skiff.Operator.OomEvents");
        var pod = Environment.GetEnvironmentVariable("POD_NAME") is { Length: > 0 } named ? named : nodeName;
        var pods = new Informer<Pod>(client, Pod.Resource, new() { Selection = new Selection { Fields = $"spec.nodeName={nodeName}" }, Trim = Pod.Trim }, logger, time);
        var part = new OomEventsPart(options, pods, new EventWriter(client, AgentCommand.EventController, pod), logger, time);
        var state = new OomEventsState { Version = ProgramVersion.Text, Part = part, HasSynced = () => pods.HasSynced };
        Log.Started(logger, ProgramVersion.Text, nodeName, client.Server);
        await Loops.RunAsync(
            cancellation,
            pods.RunAsync,
            part.RunAsync,
            stop => HealthServer.RunAsync(port, state, loggers, null, stop)).ConfigureAwait(false);
        Log.Stopped(logger);
    }

    private static async Task<int> FailedAsync(string problem, int code)
    {
        await Console.Error.WriteLineAsync($"skiff-operator: {problem}").ConfigureAwait(false);
        return code;
    }

    private static partial class Log
    {
        [LoggerMessage(222, LogLevel.Information, "started, for memory kills only: version={Version} node={Node} server={Server}")]
        public static partial void Started(ILogger logger, string version, string node, Uri server);

        [LoggerMessage(223, LogLevel.Information, "stopped")]
        public static partial void Stopped(ILogger logger);
    }
}
