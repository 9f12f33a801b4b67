using Skiff.Operator.Cli;

const string help = """
    skiff-operator: puts the Skiff runtime on Kubernetes nodes.

    Usage:
      skiff-operator agent [options]                           what the DaemonSet runs on every node (agent --help says more)
      skiff-operator oom-events [options]                      only memory kills as Events, without rights on the node (oom-events --help)
      skiff-operator remove --all [options]                    takes all Shims off the nodes of a cluster (remove --help)
      skiff-operator node install|uninstall|status [options]   one node, without Kubernetes (node --help says more)
      skiff-operator --version
    """;

switch (args)
{
    case ["agent", ..]:
        return await AgentCommand.RunAsync(args[1..]).ConfigureAwait(false);
    case ["oom-events", ..]:
        return await OomEventsCommand.RunAsync(args[1..]).ConfigureAwait(false);
    case ["remove", ..]:
        return await RemoveCommand.RunAsync(args[1..]).ConfigureAwait(false);
    case ["node", ..]:
        return await NodeCommand.RunAsync(args[1..]).ConfigureAwait(false);
    case ["--version" or "-v" or "version"]:
        await Console.Out.WriteLineAsync($"skiff-operator {ProgramVersion.Text}").ConfigureAwait(false);
        return ExitCode.Done;
    case ["--help" or "-h" or "help"]:
        await Console.Out.WriteLineAsync(help).ConfigureAwait(false);
        return ExitCode.Done;
    default:
        await Console.Error.WriteLineAsync(args is [] ? help : $"skiff-operator: unknown command \"{args[0]}\"\n{help}").ConfigureAwait(false);
        return ExitCode.Usage;
}
