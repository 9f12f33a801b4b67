using System.Globalization;
using System.Runtime.InteropServices;
using Microsoft.Extensions.Logging;
using Skiff.Containerd.Cri;
using Skiff.Kubernetes;
using Skiff.Kubernetes.Events;
using Skiff.Kubernetes.Leadership;
using Skiff.Operator.Agent;
using Skiff.Operator.Cluster;
using Skiff.Operator.Health;
using Skiff.Operator.Node;

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

        Environment: POD_NAME, which names this agent in the Lease and in Events (default: the node's name).
        """;

    /// <summary>The Lease by which one agent is elected.</summary>
    public const string LeaseName = "skiff-operator";

    private const string EventController = "runtime.skiff.dev/skiff-operator";

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

        if (!ushort.TryParse(arguments.Value("--health-port") ?? "8080", NumberStyles.None, CultureInfo.InvariantCulture, out var port))
        {
            return await UsageAsync($"--health-port {arguments.Value("--health-port")}: a number from 0 to 65535 is needed").ConfigureAwait(false);
        }

        if (!Enum.TryParse<LogLevel>(arguments.Value("--log-level") ?? "information", ignoreCase: true, out var level))
        {
            return await UsageAsync($"--log-level {arguments.Value("--log-level")}: debug, information, warning or error").ConfigureAwait(false);
        }

        if (!LinuxNode.TryOpen(arguments.Value("--host-root") ?? "/proc/1/root", arguments.Value("--socket") ?? ContainerdClient.DefaultSocket, out var node, out problem))
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
                try
                {
                    await RunAsync(nodeName, ns, arguments.Value("--bundle") ?? "/skiff", port, level, client, installer).ConfigureAwait(false);
                    return ExitCode.Done;
                }
                catch (IOException e)
                {
                    return await FailedAsync(e.Message).ConfigureAwait(false);
                }
            }
        }
    }

    private static async Task RunAsync(string nodeName, string ns, string bundle, int port, LogLevel level, KubeClient client, INodeInstaller installer)
    {
        var time = TimeProvider.System;
        using var loggers = LoggerFactory.Create(b => b.SetMinimumLevel(level).AddFilter("Microsoft", LogLevel.Warning).AddJsonConsole(o =>
        {
            o.UseUtcTimestamp = true;
            o.TimestampFormat = "yyyy-MM-dd'T'HH:mm:ss.fff'Z'";
        }));
        var logger = loggers.CreateLogger("Skiff.Operator");
        using var stop = new CancellationTokenSource();
        using var terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Stop);
        using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Stop);

        var pod = Environment.GetEnvironmentVariable("POD_NAME") is { Length: > 0 } named ? named : nodeName;
        await using var events = new EventRecorder(client, EventController, pod, loggers.CreateLogger("Skiff.Kubernetes.Events"), time);
        using var agent = new AgentPart(
            nodeName, bundle, ProgramVersion.Text, client, installer, events, loggers.CreateLogger("Skiff.Operator.Agent"), time);
        var cluster = new ClusterPart(client, events, loggers, time);

        // A pod that was restarted must not be taken for its predecessor, whose work may still be going on.
        var options = new LeaderElectionOptions { Namespace = ns, Name = LeaseName, Identity = $"{pod}_{Guid.NewGuid():n}" };
        var elector = new LeaderElector(client, options, loggers.CreateLogger("Skiff.Kubernetes.Leadership"), time);
        var state = new OperatorState
        {
            Version = ProgramVersion.Text,
            Agent = agent.Controller,
            HasSynced = () => agent.HasSynced,
            Cluster = () => cluster.Controller,
            Leads = () => elector.Leads,
            Events = events,
        };
        Log.Started(logger, ProgramVersion.Text, nodeName, client.Server);
        await Loops.RunAsync(
            stop.Token,
            agent.RunAsync,
            cancellation => elector.RunAsync(cluster.RunAsync, cancellation),
            cancellation => HealthServer.RunAsync(port, state, loggers, null, cancellation)).ConfigureAwait(false);
        await events.CompleteAsync(_eventPatience).ConfigureAwait(false);
        Log.Stopped(logger);

        void Stop(PosixSignalContext context)
        {
            context.Cancel = true; // in order: the present step is ended, the lead given back, Events written; nothing is uninstalled
            stop.Cancel();
        }
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
