using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using Skiff.Containerd.Config;
using Skiff.Containerd.Cri;
using Skiff.Operator.Node;

namespace Skiff.Operator.Cli;

/// <summary><c>skiff-operator node install|uninstall|status</c>: one node, without Kubernetes.</summary>
internal static class NodeCommand
{
    /// <summary>What <c>--help</c> prints.</summary>
    public const string Help = """
        skiff-operator node: puts the Skiff runtime on one node, without Kubernetes.

        Usage:
          skiff-operator node install   [--bundle DIR] [--option K=V]... [--pod-annotation P]... [common options]
          skiff-operator node uninstall [--force] [common options]
          skiff-operator node status    [common options]

        Common options:
          --handler NAME       the runtime's name in containerd (default: skiff)
          --host-root DIR      the node's root directory: / (default), or /proc/1/root in a privileged pod with hostPID: true
          --socket PATH        containerd's socket on the node (default: /run/containerd/containerd.sock)
          --config PATH        containerd's configuration file (default: the one that the running containerd reads)
          --restart auto|manual
                               auto: containerd is restarted when its effective configuration changes, never otherwise (default)
                               manual: never; the command says when you have to, and is run again afterwards
          -o text|json         how the result is printed (default: text)

        install:
          --bundle DIR         a folder with bin/containerd-shim-skiff-v1 and run/ (default: the one this program is in, or /opt/skiff-bundle)
          --option K=V         an option of the shim: BinaryName=/usr/bin/crun, SystemdCgroup=true; what is not given is copied from the node's
                               default runtime. true and false are booleans, digits a number
          --pod-annotation P   which annotations of pods the shim sees (default: skiff.dev/* and *.skiff.dev/*)

        uninstall:
          --force              also while pods run under the shim; they cannot be managed any more then

        Examples:
          sudo skiff-operator node install --bundle out
          sudo skiff-operator node install --option BinaryName=/usr/bin/crun --restart manual
          sudo skiff-operator node status -o json
          sudo skiff-operator node uninstall

        A command that was interrupted or killed is ended, or taken back, by running it again.
        Exit status: 0 done, 1 failed (and taken back, unless it says otherwise), 2 usage, 3 held back because pods run.
        """;

    private const string DefaultHandler = "skiff";
    private static readonly string[] _defaultAnnotations = ["skiff.dev/*", "*.skiff.dev/*"];
    private const string ImageBundle = "/opt/skiff-bundle";

    private static readonly Dictionary<string, OptionKind> _common = new(StringComparer.Ordinal)
    {
        ["--handler"] = OptionKind.Single,
        ["--host-root"] = OptionKind.Single,
        ["--socket"] = OptionKind.Single,
        ["--config"] = OptionKind.Single,
        ["-o"] = OptionKind.Single,
    };

    /// <summary>Runs the command.</summary>
    /// <param name="words">The words after <c>node</c>.</param>
    /// <returns>The exit status (<see cref="ExitCode"/>).</returns>
    public static async Task<int> RunAsync(IReadOnlyList<string> words)
    {
        if (words is [] || words.Any(w => w is "--help" or "-h") || words[0] == "help")
        {
            await (words is [] ? Console.Error : Console.Out).WriteLineAsync(Help).ConfigureAwait(false);
            return words is [] ? ExitCode.Usage : ExitCode.Done;
        }

        Dictionary<string, OptionKind> options = new(_common);
        switch (words[0])
        {
            case "install":
                options["--bundle"] = OptionKind.Single;
                options["--option"] = OptionKind.Repeated;
                options["--pod-annotation"] = OptionKind.Repeated;
                options["--restart"] = OptionKind.Single;
                break;
            case "uninstall":
                options["--force"] = OptionKind.Flag;
                options["--restart"] = OptionKind.Single;
                break;
            case "status":
                break;
            default:
                return await UsageAsync($"there is no command \"node {words[0]}\": install, uninstall, status").ConfigureAwait(false);
        }

        if (!Arguments.TryParse([.. words.Skip(1)], options, out var arguments, out var problem))
        {
            return await UsageAsync(problem).ConfigureAwait(false);
        }

        var handler = arguments.Value("--handler") ?? DefaultHandler;
        var format = arguments.Value("-o") ?? "text";
        if ((HandlerName.Problem(handler) ?? FormatProblem(format) ?? RestartProblem(arguments) ?? PathProblem(arguments)) is { } wrong)
        {
            return await UsageAsync(wrong).ConfigureAwait(false);
        }

        if (!LinuxNode.TryOpen(
            arguments.Value("--host-root") ?? "/", arguments.Value("--socket") ?? ContainerdClient.DefaultSocket, out var node, out problem))
        {
            return await UsageAsync(problem).ConfigureAwait(false);
        }

        using (node)
        {
            return await RunAsync(words[0], handler, arguments, node, format == "json").ConfigureAwait(false);
        }
    }

    /// <summary>Reads <c>K=V</c>: true and false are booleans, digits a number, everything else is a string.</summary>
    internal static (string Key, OptionValue Value)? ParseOption(string text) =>
        text.Split('=', 2) is [{ Length: > 0 } key, var value]
            ? (key, value switch
            {
                "true" => true,
                "false" => false,
                _ => long.TryParse(value, out var number) ? OptionValue.FromInt64(number) : OptionValue.FromString(value),
            })
            : null;

    /// <summary>The exit status of an outcome.</summary>
    internal static int StatusOf(InstallResult result) => result switch
    {
        InstallResult.Done or InstallResult.RestartPending => ExitCode.Done,
        InstallResult.InUse => ExitCode.InUse,
        _ => ExitCode.Failed,
    };

    /// <summary>A status as a table of two columns.</summary>
    internal static string Table(NodeStatus status)
    {
        StringBuilder text = new();
        Row("handler", status.Handler);
        Row("ready", status.Ready ? "yes" : "no");
        Row("bundle", status.Bundle ?? "none");
        Row("engines", status.Engines ?? "unknown");
        Row("old bundles", status.OldBundles.Count == 0 ? "none" : string.Join(", ", status.OldBundles));
        Row("registered", status.Registered ? "yes" : "no");
        Row("served", status.Served switch { true => "yes", false => "no", null => "unknown" });
        Row("containerd", status.ContainerdVersion ?? "unknown");
        Row("configuration", status.ConfigPath ?? "unknown");
        Row("unit", status.Unit ?? "none");
        Row("running shims", status.RunningShims.ToString());
        Row("unfinished", status.Unfinished ?? "nothing");
        foreach (var problem in status.Problems)
        {
            Row("problem", problem);
        }

        return text.ToString();

        void Row(string name, string value) => text.Append(name.PadRight(16)).Append(value).Append('\n');
    }

    private static async Task<int> RunAsync(string command, string handler, Arguments arguments, LinuxNode node, bool json)
    {
        using CancellationTokenSource interrupted = new();
        using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Cancel);
        using var terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Cancel);
        NodeInstaller installer = new(node, arguments.Value("--config"), TimeProvider.System);
        var restart = arguments.Value("--restart") == "manual" ? RestartMode.Manual : RestartMode.Auto;
        try
        {
            switch (command)
            {
                case "status":
                    var status = await installer.StatusAsync(handler, interrupted.Token).ConfigureAwait(false);
                    await Console.Out.WriteAsync(json ? JsonSerializer.Serialize(status, NodeJson.Default.NodeStatus) + "\n" : Table(status)).ConfigureAwait(false);
                    return status.Problems.Count == 0 ? ExitCode.Done : ExitCode.Failed;
                case "uninstall":
                    NodeUninstallRequest removal = new(handler) { Force = arguments.Has("--force"), Restart = restart };
                    return await PrintAsync(
                        await installer.UninstallAsync(removal, new StepPrinter(), interrupted.Token).ConfigureAwait(false), json).ConfigureAwait(false);
                default:
                    Dictionary<string, OptionValue> options = [];
                    foreach (var text in arguments.Values("--option"))
                    {
                        if (ParseOption(text) is not { } option || !options.TryAdd(option.Key, option.Value))
                        {
                            return await UsageAsync($"--option {text}: it has the form KEY=VALUE, each key once").ConfigureAwait(false);
                        }
                    }

                    var annotations = arguments.Values("--pod-annotation");
                    var request = new NodeInstallRequest(handler, arguments.Value("--bundle") ?? DefaultBundle())
                    {
                        Options = options,
                        PodAnnotations = annotations.Count > 0 ? annotations : _defaultAnnotations,
                        Restart = restart,
                    };
                    return await PrintAsync(
                        await installer.InstallAsync(request, new StepPrinter(), interrupted.Token).ConfigureAwait(false), json).ConfigureAwait(false);
            }
        }
        catch (OperationCanceledException)
        {
            await Console.Error.WriteLineAsync("skiff-operator: interrupted; run the same command again to end what was begun").ConfigureAwait(false);
            return ExitCode.Failed;
        }

        void Cancel(PosixSignalContext context)
        {
            context.Cancel = true;
            interrupted.Cancel();
        }
    }

    private static async Task<int> PrintAsync(InstallOutcome outcome, bool json)
    {
        if (json)
        {
            await Console.Out.WriteLineAsync(JsonSerializer.Serialize(outcome, NodeJson.Default.InstallOutcome)).ConfigureAwait(false);
            return StatusOf(outcome.Result);
        }

        var good = StatusOf(outcome.Result) == ExitCode.Done;
        var to = good ? Console.Out : Console.Error;
        await to.WriteLineAsync($"skiff-operator: {outcome.Result}: {outcome.Message}.").ConfigureAwait(false);
        foreach (var note in outcome.Notes)
        {
            await to.WriteLineAsync($"note: {note}").ConfigureAwait(false);
        }

        if (outcome.ContainerdSaid is { } said)
        {
            await to.WriteLineAsync($"containerd's last words:\n{said.TrimEnd()}").ConfigureAwait(false);
        }

        return StatusOf(outcome.Result);
    }

    private static async Task<int> UsageAsync(string problem)
    {
        await Console.Error.WriteLineAsync($"skiff-operator: {problem}\nsee skiff-operator node --help").ConfigureAwait(false);
        return ExitCode.Usage;
    }

    /// <summary>The folder that this program is part of, or where the operator's image has a bundle.</summary>
    private static string DefaultBundle() =>
        Path.GetFullPath(Path.Combine(AppContext.BaseDirectory, "..")) is var own && File.Exists(Path.Combine(own, NodePaths.Shim)) ? own : ImageBundle;

    private static string? FormatProblem(string format) => format is "text" or "json" ? null : $"-o {format}: text or json";

    private static string? RestartProblem(Arguments arguments) =>
        arguments.Value("--restart") is null or "auto" or "manual" ? null : $"--restart {arguments.Value("--restart")}: auto or manual";

    private static string? PathProblem(Arguments arguments) =>
        ((string[])["--host-root", "--socket", "--config"])
            .Where(o => arguments.Value(o) is { } path && !path.StartsWith('/'))
            .Select(o => $"{o} {arguments.Value(o)}: an absolute path is needed").FirstOrDefault();

    /// <summary>Says on stderr what is being done; results go to stdout.</summary>
    private sealed class StepPrinter : IProgress<InstallStep>
    {
        public void Report(InstallStep value) => Console.Error.WriteLine(value switch
        {
            InstallStep.Preflight => "looking at the node",
            InstallStep.Recover => "an earlier run did not end: going on from there",
            InstallStep.Binaries => "copying the bundle",
            InstallStep.Configuration => "editing containerd's configuration",
            InstallStep.Validate => "having containerd read it for a trial",
            InstallStep.Restart => "restarting containerd",
            InstallStep.Verify => "checking the handler",
            InstallStep.RollBack => "going back",
            _ => "cleaning up",
        });
    }
}

/// <summary>Outcomes as JSON, without reflection.</summary>
[JsonSerializable(typeof(NodeStatus))]
[JsonSerializable(typeof(InstallOutcome))]
[JsonSourceGenerationOptions(WriteIndented = true, PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, UseStringEnumConverter = true)]
internal sealed partial class NodeJson : JsonSerializerContext;
