namespace Skiff.Shim.Bootstrap;

/// <summary>
/// The command line that containerd gives a shim: Go-style flags (one dash or two, value after <c>=</c> or as the next word), then the
/// action. Source: containerd pkg/shim/shim.go, parseFlags. Flags of other versions are passed over, so that a newer containerd works.
/// </summary>
internal sealed record ShimArguments
{
    private static readonly string[] _switches = ["debug", "v", "version", "info", "h", "help"];

    public string Namespace { get; private init; } = "";

    public string Id { get; private init; } = "";

    /// <summary>containerd's gRPC address.</summary>
    public string Address { get; private init; } = "";

    public string Bundle { get; private init; } = "";

    /// <summary>For the daemon: where its listener is bound, to be removed at the end.</summary>
    public string Socket { get; private init; } = "";

    public bool Debug { get; private init; }

    public bool Version { get; private init; }

    public bool Info { get; private init; }

    public bool Help { get; private init; }

    /// <summary><c>start</c>, <c>delete</c>, or empty: the daemon.</summary>
    public string Action { get; private init; } = "";

    public static ShimArguments Parse(IReadOnlyList<string> arguments)
    {
        var result = new ShimArguments();
        for (var i = 0; i < arguments.Count; i++)
        {
            var word = arguments[i];
            if (word.Length < 2 || word[0] != '-')
            {
                return result with { Action = word };
            }

            var name = word.TrimStart('-');
            string? value = null;
            if (name.IndexOf('=') is var equals and > 0)
            {
                (name, value) = (name[..equals], name[(equals + 1)..]);
            }

            if (Array.IndexOf(_switches, name) >= 0)
            {
                var on = value is null or "true" or "1";
                result = name switch
                {
                    "debug" => result with { Debug = on },
                    "info" => result with { Info = on },
                    "h" or "help" => result with { Help = on },
                    _ => result with { Version = on },
                };
                continue;
            }

            if (value is null && i + 1 < arguments.Count)
            {
                value = arguments[++i];
            }

            value ??= "";
            result = name switch
            {
                "namespace" => result with { Namespace = value },
                "id" => result with { Id = value },
                "address" => result with { Address = value },
                "socket" => result with { Socket = value },
                "bundle" => result with { Bundle = value },
                _ => result,
            };
        }

        return result;
    }
}
