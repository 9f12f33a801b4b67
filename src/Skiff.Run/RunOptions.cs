using System.Globalization;

namespace Skiff.Run;

/// <summary>A folder of the container that the guest sees.</summary>
/// <param name="GuestPath">The name it has for the guest.</param>
/// <param name="HostPath">Where it is in the container.</param>
/// <param name="ReadOnly">Whether the guest may only read there; the kernel's own read-only mounts count in any case.</param>
internal sealed record Preopen(string GuestPath, string HostPath, bool ReadOnly);

/// <summary>The command line, which the shim writes (Wasm/WasmPreparation there).</summary>
internal sealed record RunOptions
{
    /// <summary>The exit status for a command line that makes no sense.</summary>
    public const int Usage = 125;

    /// <summary>The exit status for a module that cannot be run.</summary>
    public const int CannotRun = 126;

    private const string UsageText = "usage: skiff-run run --module FILE [--artifact FILE] [--max-memory BYTES] [--reports DESCRIPTOR] [--dir GUEST=PATH[:ro]]... -- NAME [ARGUMENT]... "
        + "| skiff-run compile [--limited] < MODULE > ARTIFACT | skiff-run --version";

    public bool Version { get; private init; }

    /// <summary>Compile stdin to stdout, and run nothing.</summary>
    public bool Compile { get; private init; }

    /// <summary>What <c>compile</c> made of the module; empty: it is compiled here and now.</summary>
    public string Artifact { get; private init; } = "";

    public string Module { get; private init; } = "";

    /// <summary>Empty: the container's whole tree at its own places.</summary>
    public IReadOnlyList<Preopen> Directories { get; private init; } = [];

    /// <summary>The most memory the guest may have, in bytes; null: as much as its container. For compile only whether there is a limit counts.</summary>
    public ulong? MaxMemory { get; private init; }

    /// <summary>Where <see cref="Run.Reports"/> go; null: nowhere.</summary>
    public int? Reports { get; private init; }

    /// <summary>The guest's own arguments, its name first.</summary>
    public string[] Arguments { get; private init; } = [];

    public static (RunOptions? Options, string? Problem) Parse(string[] words)
    {
        if (words is ["--version"])
        {
            return (new RunOptions { Version = true }, null);
        }

        if (words is ["compile"] or ["compile", "--limited"])
        {
            return (new RunOptions { Compile = true, MaxMemory = words.Length > 1 ? ulong.MaxValue : null }, null);
        }

        if (words is not ["run", ..])
        {
            return (null, UsageText);
        }

        string module = "", artifact = "";
        ulong? maxMemory = null;
        int? reports = null;
        List<Preopen> directories = [];
        for (var i = 1; i < words.Length; i++)
        {
            switch (words[i])
            {
                case "--module" when i + 1 < words.Length:
                    module = words[++i];
                    break;
                case "--artifact" when i + 1 < words.Length:
                    artifact = words[++i];
                    break;
                case "--max-memory" when i + 1 < words.Length:
                    if (!ulong.TryParse(words[++i], NumberStyles.None, CultureInfo.InvariantCulture, out var bytes))
                    {
                        return (null, $"--max-memory \"{words[i]}\" is not a number of bytes");
                    }

                    maxMemory = bytes;
                    break;
                case "--reports" when i + 1 < words.Length:
                    if (!int.TryParse(words[++i], NumberStyles.None, CultureInfo.InvariantCulture, out var descriptor))
                    {
                        return (null, $"--reports \"{words[i]}\" is not the number of an open file");
                    }

                    reports = descriptor;
                    break;
                case "--dir" when i + 1 < words.Length:
                    var text = words[++i];
                    var readOnly = text.EndsWith(":ro", StringComparison.Ordinal);
                    var parts = (readOnly ? text[..^3] : text).Split('=', 2);
                    if (parts is not [{ Length: > 0 }, { Length: > 0 }])
                    {
                        return (null, $"--dir \"{text}\" is not GUEST=PATH or GUEST=PATH:ro");
                    }

                    directories.Add(new Preopen(parts[0], parts[1], readOnly));
                    break;
                case "--" when module.Length > 0 && i + 1 < words.Length:
                    return (new RunOptions
                    {
                        Module = module,
                        Artifact = artifact,
                        MaxMemory = maxMemory,
                        Reports = reports,
                        Directories = directories,
                        Arguments = words[(i + 1)..],
                    }, null);
                default:
                    return (null, $"\"{words[i]}\" was not expected; {UsageText}");
            }
        }

        return (null, UsageText);
    }
}
