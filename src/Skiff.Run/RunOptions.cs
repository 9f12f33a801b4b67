using System.Globalization;

namespace Skiff.Run;

/// <summary>A folder of the container that the guest sees.</summary>
/// <param name="GuestPath">The name it has for the guest.</param>
/// <param name="HostPath">Where it is in the container.</param>
/// <param name="ReadOnly">Whether the guest may only read there; the kernel's own read-only mounts count in any case.</param>
internal sealed record Preopen(string GuestPath, string HostPath, bool ReadOnly);

/// <summary>What is to be done.</summary>
internal enum RunVerb
{
    /// <summary>Say the version.</summary>
    Version,

    /// <summary>Compile a module with the engine's library.</summary>
    Compile,

    /// <summary>Compile one with the engine's command.</summary>
    CompileForCommand,

    /// <summary>Run a guest by the engine's library.</summary>
    Run,

    /// <summary>Run a guest by the engine's command.</summary>
    Command,

    /// <summary>Let the engine's command answer HTTP requests with a guest.</summary>
    Serve,
}

/// <summary>The command line, which the shim writes (Wasm/WasmPreparation there).</summary>
internal sealed record RunOptions
{
    /// <summary>The exit status for a command line that makes no sense.</summary>
    public const int Usage = 125;

    /// <summary>The exit status when this program and the engine's library do not fit.</summary>
    public const int Misfit = 124;

    /// <summary>The exit status for a module that cannot be run.</summary>
    public const int CannotRun = 126;

    private const string UsageText = "usage: skiff-run run|command|serve --module FILE [--artifact FILE] [--max-memory BYTES] [--reports DESCRIPTOR] [--dir GUEST=PATH[:ro]]... "
        + "[--network pod|none] [--http] [--listen [ADDRESS]:PORT] [--reuse REQUESTS] [--requests MOST] [--connections MOST] -- NAME [ARGUMENT]... "
        + "| skiff-run compile [--limited|--command] < MODULE > ARTIFACT | skiff-run --version";

    /// <summary>What is to be done.</summary>
    public RunVerb Verb { get; private init; }

    /// <summary>What <c>compile</c> made of the module; empty: it is compiled here and now.</summary>
    public string Artifact { get; private set; } = "";

    public string Module { get; private set; } = "";

    /// <summary>Empty: the container's whole tree at its own places.</summary>
    public List<Preopen> Directories { get; } = [];

    /// <summary>The most memory the guest may have, in bytes; null: as much as its container. For compile only whether there is a limit counts.</summary>
    public ulong? MaxMemory { get; private set; }

    /// <summary>Where <see cref="Run.Reports"/> go; null: nowhere.</summary>
    public int? Reports { get; private set; }

    /// <summary>Whether the guest has the pod's network.</summary>
    public bool Network { get; private set; } = true;

    /// <summary>Whether a command calls out by HTTP, or could.</summary>
    public bool Http { get; private set; }

    /// <summary>Where a server listens: ADDRESS:PORT, or :PORT for all addresses.</summary>
    public string Listen { get; private set; } = ":8080";

    /// <summary>How many requests one instance answers; null: as the engine holds right.</summary>
    public int? Reuse { get; private set; }

    /// <summary>How many requests are answered at once at most; null: as many as the engine holds right.</summary>
    public int? Requests { get; private set; }

    /// <summary>How many connections a server holds at most; null: any number.</summary>
    public int? Connections { get; private set; }

    /// <summary>The guest's own arguments, its name first.</summary>
    public string[] Arguments { get; private set; } = [];

    public static (RunOptions? Options, string? Problem) Parse(string[] words)
    {
        RunVerb? verb = words switch
        {
            ["--version"] => RunVerb.Version,
            ["compile"] or ["compile", "--limited"] => RunVerb.Compile,
            ["compile", "--command"] => RunVerb.CompileForCommand,
            ["run", ..] => RunVerb.Run,
            ["command", ..] => RunVerb.Command,
            ["serve", ..] => RunVerb.Serve,
            _ => null,
        };
        if (verb is null)
        {
            return (null, UsageText);
        }

        var options = new RunOptions { Verb = verb.Value, MaxMemory = words is ["compile", "--limited"] ? ulong.MaxValue : null };
        return verb is not (RunVerb.Run or RunVerb.Command or RunVerb.Serve) ? (options, null)
            : options.Read(words) is { } problem ? (null, problem) : (options, null);
    }

    private string? Read(string[] words)
    {
        for (var i = 1; i < words.Length; i++)
        {
            var word = words[i];
            if (word == "--http")
            {
                Http = true;
                continue;
            }

            if (i + 1 == words.Length)
            {
                break;
            }

            if (word == "--" && Module.Length > 0)
            {
                Arguments = words[(i + 1)..];
                return null;
            }

            if (Take(word, words[++i]) is { } problem)
            {
                return problem;
            }
        }

        return UsageText;
    }

    private string? Take(string option, string value)
    {
        switch (option)
        {
            case "--module":
                Module = value;
                return null;
            case "--artifact":
                Artifact = value;
                return null;
            case "--max-memory" when ulong.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out var bytes):
                MaxMemory = bytes;
                return null;
            case "--network" when value is "pod" or "none":
                Network = value == "pod";
                return null;
            case "--listen":
                Listen = value;
                return null;
            case "--dir":
                var readOnly = value.EndsWith(":ro", StringComparison.Ordinal);
                if ((readOnly ? value[..^3] : value).Split('=', 2) is not [{ Length: > 0 } guest, { Length: > 0 } host])
                {
                    return $"--dir \"{value}\" is not GUEST=PATH or GUEST=PATH:ro";
                }

                Directories.Add(new Preopen(guest, host, readOnly));
                return null;
            case "--reports" or "--reuse" or "--requests" or "--connections" when int.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out var number):
                _ = option switch
                {
                    "--reports" => Reports = number,
                    "--reuse" => Reuse = number,
                    "--requests" => Requests = number,
                    _ => Connections = number,
                };
                return null;
            case "--max-memory" or "--reports" or "--reuse" or "--requests" or "--connections":
                return $"{option} \"{value}\" is not a number";
            default:
                return $"\"{option}\" was not expected; {UsageText}";
        }
    }
}
