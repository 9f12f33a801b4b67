using Skiff.Shim;
using Skiff.Shim.Bootstrap;

// containerd reads stdout and stderr of `start` as one, so nothing but the answer, or the reason of a failure, is ever written.
var arguments = ShimArguments.Parse(args);
if (arguments.Version)
{
    await Console.Out.WriteLineAsync($"containerd-shim-skiff-v1 {SkiffVersion.Text}").ConfigureAwait(false);
    return 0;
}

if (arguments.Help)
{
    await Console.Out.WriteLineAsync(
        "containerd-shim-skiff-v1: runs WebAssembly and native containers for containerd, which starts it by itself.\n"
        + "  ctr run --runtime /opt/skiff/bin/containerd-shim-skiff-v1 IMAGE ID\n"
        + "Flags: -namespace -id -address -bundle -debug -info -v; actions: start, delete.").ConfigureAwait(false);
    return 0;
}

try
{
    if (!arguments.Info && arguments.Action.Length == 0)
    {
        if (Identifier.Problem("-namespace", arguments.Namespace) is { } problem)
        {
            return await FailAsync(problem + "; containerd starts this program, see -help").ConfigureAwait(false);
        }

        await Daemon.RunAsync(arguments).ConfigureAwait(false);
        return 0;
    }

    using var stdin = Console.OpenStandardInput();
    var (answer, failure) = arguments switch
    {
        { Info: true } => await InfoCommand.RunAsync(stdin, CancellationToken.None).ConfigureAwait(false),
        { Action: "start" } => await StartCommand.RunAsync(arguments, stdin, CancellationToken.None).ConfigureAwait(false),
        { Action: "delete" } => await DeleteCommand.RunAsync(arguments).ConfigureAwait(false),
        _ => (null, $"the action \"{arguments.Action}\" is unknown; start and delete are known"),
    };
    if (answer is null)
    {
        return await FailAsync(failure!).ConfigureAwait(false);
    }

    using var stdout = Console.OpenStandardOutput();
    await stdout.WriteAsync(answer).ConfigureAwait(false);
    await stdout.FlushAsync().ConfigureAwait(false);
    return 0;
}
catch (Exception e) when (e is IOException or UnauthorizedAccessException)
{
    return await FailAsync(e.Message).ConfigureAwait(false);
}

static async Task<int> FailAsync(string problem)
{
    await Console.Error.WriteLineAsync($"containerd-shim-skiff-v1: {problem}").ConfigureAwait(false);
    return 1;
}
