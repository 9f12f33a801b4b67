using System.Reflection;
using Skiff.Operator.Cli;

const string help = """
    skiff-operator: puts the Skiff runtime on Kubernetes nodes.

    Usage:
      skiff-operator node install|uninstall|status [options]   one node, without Kubernetes (node --help says more)
      skiff-operator --version
    """;

switch (args)
{
    case ["node", ..]:
        return await NodeCommand.RunAsync(args[1..]).ConfigureAwait(false);
    case ["--version" or "-v" or "version"]:
        await Console.Out.WriteLineAsync($"skiff-operator {Assembly.GetExecutingAssembly().GetName().Version?.ToString(3)}").ConfigureAwait(false);
        return ExitCode.Done;
    case ["--help" or "-h" or "help"]:
        await Console.Out.WriteLineAsync(help).ConfigureAwait(false);
        return ExitCode.Done;
    default:
        await Console.Error.WriteLineAsync(args is [] ? help : $"skiff-operator: unknown command \"{args[0]}\"\n{help}").ConfigureAwait(false);
        return ExitCode.Usage;
}
