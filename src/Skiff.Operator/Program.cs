// skiff-operator: so far it only says what it is. What it will do is in docs/design.md.
using System.Reflection;

var version = Assembly.GetExecutingAssembly().GetName().Version?.ToString(3);
if (args is ["--version"] or ["-v"] or ["version"])
{
    await Console.Out.WriteLineAsync($"skiff-operator {version}").ConfigureAwait(false);
    return 0;
}

var help = args is [] or ["--help"] or ["-h"] or ["help"];
var text = "skiff-operator: installs the Skiff runtime on Kubernetes nodes.\nUsage: skiff-operator --version | --help\nNo other command exists yet.";
await (help ? Console.Out : Console.Error).WriteLineAsync(help ? text : $"skiff-operator: unknown command \"{args[0]}\"\n{text}").ConfigureAwait(false);
return help ? 0 : 125;
