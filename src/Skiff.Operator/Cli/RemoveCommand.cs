using Skiff.Kubernetes;
using Skiff.Operator.Api;

namespace Skiff.Operator.Cli;

/// <summary><c>skiff-operator remove</c>: deletes all Shims and waits until they are off the nodes; for the chart's pre-delete hook.</summary>
internal static class RemoveCommand
{
    /// <summary>What <c>--help</c> prints.</summary>
    public const string Help = """
        skiff-operator remove: takes every Shim off the nodes, by deleting the Shims. The agents do the work, so they must still run.

        Usage:
          skiff-operator remove --all [--wait] [--timeout 10m] [--kubeconfig FILE]

          --all              all Shims; to remove one, use kubectl delete shim NAME
          --wait             wait until they are gone, and say meanwhile what holds them
          --timeout TIME     how long to wait, such as 90s, 10m or 1h30m (default: 10m)
          --kubeconfig FILE  the API server (default: KUBECONFIG, the pod's service account, ~/.kube/config)

        Exit status: 0 gone (or, without --wait, deleted), 1 not in time or failed, 2 usage.
        """;

    private const string Asked = "its deletion is asked for";
    private const string NoFinalizers = "{\"metadata\":{\"finalizers\":null}}";

    private static readonly TimeSpan _look = TimeSpan.FromSeconds(2);

    private static readonly Dictionary<string, OptionKind> _options = new(StringComparer.Ordinal)
    {
        ["--all"] = OptionKind.Flag,
        ["--wait"] = OptionKind.Flag,
        ["--timeout"] = OptionKind.Single,
        ["--kubeconfig"] = OptionKind.Single,
    };

    /// <summary>Runs the command.</summary>
    /// <param name="words">The words after <c>remove</c>.</param>
    /// <returns>The exit status (<see cref="ExitCode"/>).</returns>
    public static async Task<int> RunAsync(IReadOnlyList<string> words)
    {
        if (words.Any(w => w is "--help" or "-h"))
        {
            await Console.Out.WriteLineAsync(Help).ConfigureAwait(false);
            return ExitCode.Done;
        }

        TimeSpan timeout = default;
        if (!Arguments.TryParse(words, _options, out var arguments, out var problem)
            || !arguments.Has("--all") || !Durations.TryParse(arguments.Value("--timeout") ?? "10m", out timeout))
        {
            problem ??= !arguments!.Has("--all") ? "--all is needed" : $"--timeout {arguments.Value("--timeout")}: write hours, minutes and seconds, such as 90s, 10m or 1h30m";
            await Console.Error.WriteLineAsync($"skiff-operator: {problem}\nsee skiff-operator remove --help").ConfigureAwait(false);
            return ExitCode.Usage;
        }

        var connected = KubeClient.Connect(arguments.Value("--kubeconfig"), ProgramVersion.UserAgent, TimeProvider.System);
        if (connected.Value is not { } client)
        {
            await Console.Error.WriteLineAsync($"skiff-operator: {connected.Error!.Message}").ConfigureAwait(false);
            return ExitCode.Failed;
        }

        using (client)
        {
            return await RunAsync(client, arguments.Has("--wait") ? timeout : null, TimeProvider.System, Console.Out, CancellationToken.None).ConfigureAwait(false);
        }
    }

    /// <summary>Deletes the Shims.</summary>
    /// <param name="client">The API server.</param>
    /// <param name="wait">How long to wait until they are gone; null: not at all.</param>
    /// <param name="time">The clock.</param>
    /// <param name="output">Hears of how it goes.</param>
    /// <param name="cancellation">Ends it.</param>
    internal static async Task<int> RunAsync(KubeClient client, TimeSpan? wait, TimeProvider time, TextWriter output, CancellationToken cancellation)
    {
        var begun = time.GetTimestamp();
        var said = new Dictionary<string, string>(StringComparer.Ordinal);
        while (true)
        {
            var found = await client.ListAsync(Shim.Resource, Selection.All, cancellation).ConfigureAwait(false);

            // Where the kind is gone there are none of it.
            var shims = found.Error is { Kind: ApiErrorKind.NotFound } ? [] : found.Value?.Items;
            var now = shims is null
                ? [new("the API server", found.Error!.Message)]
                : await DeleteAsync(client, shims, cancellation).ConfigureAwait(false);
            foreach (var (about, state) in now.Where(n => said.GetValueOrDefault(n.Key) != n.Value))
            {
                await output.WriteLineAsync($"{about}: {state}").ConfigureAwait(false);
            }

            said = new(now, StringComparer.Ordinal);
            if (shims is { Count: 0 })
            {
                await output.WriteLineAsync("no Shim is left").ConfigureAwait(false);
                return ExitCode.Done;
            }

            if (wait is null && shims is not null && now.All(n => n.Value == Asked))
            {
                return ExitCode.Done;
            }

            if (wait is not { } limit || time.GetElapsedTime(begun) >= limit)
            {
                await output.WriteLineAsync(
                    $"""
                    not done{(wait is null ? "" : $" within {wait}")}: {string.Join("; ", said.Select(n => $"{n.Key}: {n.Value}"))}
                    What to do: end what is named here, and run this again. The removal goes on meanwhile: kubectl get shims,shiminstallations
                    A node whose agent never comes back is left after its Shim's spec.removal.timeout. As a last resort, this leaves the nodes as they are:
                      kubectl patch shim NAME --type=merge -p '{NoFinalizers}'
                    """).ConfigureAwait(false);
                return ExitCode.Failed;
            }

            await Task.Delay(_look, time, cancellation).ConfigureAwait(false);
        }
    }

    /// <summary>Deletes the Shims that are not deleted yet.</summary>
    /// <returns>How far each is.</returns>
    private static async Task<List<KeyValuePair<string, string>>> DeleteAsync(KubeClient client, IReadOnlyList<Shim> shims, CancellationToken cancellation)
    {
        var states = new List<KeyValuePair<string, string>>();
        foreach (var shim in shims)
        {
            var state = Asked;
            if (!shim.Deleting)
            {
                var error = await client.DeleteAsync(
                    Shim.Resource, ObjectKey.Of(shim), new DeletePreconditions { Uid = shim.Metadata.Uid }, cancellation).ConfigureAwait(false);
                state = error is null or { Kind: ApiErrorKind.NotFound or ApiErrorKind.Conflict } ? Asked : error.Message;
            }
            else if (shim.Status?.Conditions?.FirstOrDefault(c => c.Type == "Progressing") is { Status: "True" } progressing)
            {
                state = $"{progressing.Reason}: {progressing.Message}";
            }

            states.Add(new($"shim {shim.Name}", state));
        }

        return states;
    }
}
