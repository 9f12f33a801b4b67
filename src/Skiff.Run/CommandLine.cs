namespace Skiff.Run;

/// <summary>What <c>skiff-run</c> is asked to do.</summary>
internal enum Verb
{
    /// <summary>Nothing that is known: <see cref="CommandLine.Problem"/> says why.</summary>
    None,

    /// <summary>Run a module.</summary>
    Run,

    /// <summary>Compile standard input to standard output.</summary>
    Compile,

    /// <summary>The second half of <see cref="Compile"/>, after the process has confined itself. Not for users.</summary>
    CompileConfined,

    /// <summary>Print what a compiled artifact depends on.</summary>
    EngineKey,

    /// <summary>Print the version.</summary>
    Version,

    /// <summary>Print the usage.</summary>
    Help,
}

/// <summary>A directory that the guest gets.</summary>
/// <param name="GuestPath">The name under which the guest finds it.</param>
/// <param name="HostPath">Where it is in the container.</param>
/// <param name="ReadOnly">Whether the engine refuses to change it, on top of what the kernel refuses.</param>
/// <param name="Optional">Whether the guest does without it when it cannot be opened.</param>
internal sealed record Preopen(string GuestPath, string HostPath, bool ReadOnly = false, bool Optional = false);

/// <summary>The command line, parsed. The shim writes these command lines; see <see cref="Usage"/>.</summary>
internal sealed class CommandLine
{
    internal const string Usage = """
        usage: skiff-run run (--module PATH | --artifact PATH --kind core|component) [--dir GUEST=HOST[:ro]]... [--] ARGV0 [ARG...]
               skiff-run compile [--kind core|component]   (module on standard input, artifact on standard output)
               skiff-run engine-key
               skiff-run --version
        """;

    private readonly List<Preopen> _directories = [];

    private CommandLine(Verb verb) => Verb = verb;

    /// <summary>What to do.</summary>
    internal Verb Verb { get; private set; }

    /// <summary>The module or artifact to run.</summary>
    internal string Path { get; private set; } = string.Empty;

    /// <summary>Whether <see cref="Path"/> is the output of <c>compile</c>.</summary>
    internal bool IsArtifact { get; private set; }

    /// <summary>The kind that was asked for, if one was.</summary>
    internal ModuleKind Kind { get; private set; }

    /// <summary>The directories that replace the default ones, in order; empty for the default.</summary>
    internal IReadOnlyList<Preopen> Directories => _directories;

    /// <summary>The guest's arguments, its name first.</summary>
    internal ReadOnlyMemory<string> GuestArguments { get; private set; }

    /// <summary>Why this is not a usable command line.</summary>
    internal string? Problem { get; private set; }

    /// <summary>Parses; a command line that is wrong comes back with <see cref="Verb.None"/> and a <see cref="Problem"/>.</summary>
    internal static CommandLine Parse(string[] args)
    {
        if (args.Length == 0)
        {
            return new CommandLine(Verb.None) { Problem = "no command" };
        }

        CommandLine command;
        switch (args[0])
        {
            case "run":
                command = new CommandLine(Verb.Run);
                command.ParseRun(args);
                break;
            case "compile":
                command = new CommandLine(Verb.Compile);
                command.ParseCompile(args);
                break;
            case ConfinedVerb:
                command = new CommandLine(Verb.CompileConfined);
                command.ParseCompile(args);
                break;
            case "engine-key":
                command = new CommandLine(Verb.EngineKey);
                command.ExpectNothingAfter(args);
                break;
            case "--version":
                command = new CommandLine(Verb.Version);
                command.ExpectNothingAfter(args);
                break;
            case "--help" or "-h" or "help":
                command = new CommandLine(Verb.Help);
                break;
            default:
                command = new CommandLine(Verb.None) { Problem = $"unknown command \"{args[0]}\"" };
                break;
        }

        if (command.Problem is not null)
        {
            command.Verb = Verb.None;
        }

        return command;
    }

    /// <summary>How <see cref="Verb.CompileConfined"/> is written.</summary>
    internal const string ConfinedVerb = "compile-confined";

    private void ParseRun(string[] args)
    {
        int index = 1;
        while (index < args.Length && args[index].StartsWith('-'))
        {
            string option = args[index++];
            if (option == "--")
            {
                break;
            }

            if (option is not ("--module" or "--artifact" or "--kind" or "--dir"))
            {
                Problem = $"unknown option {option}";
                return;
            }

            if (index == args.Length)
            {
                Problem = $"{option} needs a value";
                return;
            }

            Apply(option, args[index++]);
            if (Problem is not null)
            {
                return;
            }
        }

        GuestArguments = args.AsMemory(index);
        if (Path.Length == 0)
        {
            Problem = "--module or --artifact is needed";
        }
        else if (IsArtifact && Kind == ModuleKind.Unknown)
        {
            Problem = "--artifact needs --kind: an artifact does not say what it was compiled from";
        }
        else if (GuestArguments.IsEmpty)
        {
            Problem = "the guest's ARGV0 is missing";
        }
    }

    private void Apply(string option, string value)
    {
        switch (option)
        {
            case "--module" or "--artifact" when Path.Length > 0:
                Problem = "--module and --artifact: one of them, once";
                break;
            case "--module" or "--artifact" when value.Length == 0:
                Problem = $"{option} needs a path";
                break;
            case "--module" or "--artifact":
                Path = value;
                IsArtifact = option == "--artifact";
                break;
            case "--kind":
                ParseKind(value);
                break;
            default:
                ParseDirectory(value);
                break;
        }
    }

    private void ParseCompile(string[] args)
    {
        if (args.Length == 1)
        {
            return;
        }

        if (args.Length == 3 && args[1] == "--kind")
        {
            ParseKind(args[2]);
            return;
        }

        Problem = $"{args[0]} takes --kind core|component and nothing else";
    }

    private void ParseKind(string value)
    {
        Kind = value switch
        {
            "core" => ModuleKind.Core,
            "component" => ModuleKind.Component,
            _ => ModuleKind.Unknown,
        };

        if (Kind == ModuleKind.Unknown)
        {
            Problem = $"--kind is core or component, not \"{value}\"";
        }
    }

    // GUEST cannot hold "=", HOST can: the first one splits.
    private void ParseDirectory(string value)
    {
        const string ReadOnlySuffix = ":ro";
        bool readOnly = value.EndsWith(ReadOnlySuffix, StringComparison.Ordinal);
        string pair = readOnly ? value[..^ReadOnlySuffix.Length] : value;
        int split = pair.IndexOf('=', StringComparison.Ordinal);
        if (split <= 0 || split == pair.Length - 1)
        {
            Problem = $"--dir is GUEST=HOST or GUEST=HOST:ro, not \"{value}\"";
            return;
        }

        _directories.Add(new Preopen(pair[..split], pair[(split + 1)..], readOnly));
    }

    private void ExpectNothingAfter(string[] args)
    {
        if (args.Length > 1)
        {
            Problem = $"{args[0]} takes no arguments";
        }
    }
}
