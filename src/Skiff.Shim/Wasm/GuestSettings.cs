using System.Globalization;
using System.Net;

namespace Skiff.Shim.Wasm;

/// <summary>
/// What annotations say about a Wasm container: <c>skiff.dev/KEY</c> for all of a pod's, <c>CONTAINER.skiff.dev/KEY</c> for one of them,
/// which comes before. containerd hands a pod's annotations on to each container (pod_annotations in its configuration).
/// </summary>
internal sealed record GuestSettings
{
    private const string Domain = "skiff.dev/";
    private const ulong OnePage = 64 << 10; // of WebAssembly's

    private static readonly (string Suffix, ulong Factor)[] _units =
    [
        ("Ki", 1UL << 10), ("Mi", 1UL << 20), ("Gi", 1UL << 30), ("Ti", 1UL << 40),
        ("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000), ("T", 1_000_000_000_000),
    ];

    // Each: the settings with a value, or null when it makes no sense; and what would.
    private static readonly (string Key, Func<GuestSettings, string, GuestSettings?> With, string Wanted)[] _keys =
    [
        ("max-memory", (s, text) => Bytes(text) is { } bytes ? s with { MaxMemory = bytes } : null, "an amount of memory of at least 64Ki, like 64Mi"),
        ("network", (s, text) => text is "none" or "pod" ? s with { Network = text == "pod" } : null, "\"none\", or \"pod\" for the pod's network"),
        ("http-listen", (s, text) => Address(text) is { } address ? s with { HttpListen = address } : null,
            "a port or an address with one, like 8080, 127.0.0.1:8080 or [::1]:8080"),
        ("http-reuse", (s, text) => int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var count) && count > 0 ? s with { HttpReuse = count } : null,
            "the number of requests that one instance answers, 1 or more"),
    ];

    /// <summary>The most memory the guest may have, in bytes; null: as much as its container.</summary>
    public ulong? MaxMemory { get; init; }

    /// <summary>Whether it has the pod's network, or none.</summary>
    public bool Network { get; init; } = true;

    /// <summary>Where a server listens: ADDRESS:PORT, or :PORT for all addresses; null: nothing is said about it.</summary>
    public string? HttpListen { get; init; }

    /// <summary>How many requests one instance of a server answers; null: as many as the engine holds right.</summary>
    public int? HttpReuse { get; init; }

    /// <summary>Reads them.</summary>
    /// <param name="annotations">All of the container's.</param>
    /// <returns>The settings, or what is wrong with which annotation.</returns>
    public static (GuestSettings? Settings, string? Problem) Read(IReadOnlyCollection<(string Name, string Value)> annotations)
    {
        var container = annotations.FirstOrDefault(a => a.Name == "io.kubernetes.cri.container-name").Value;
        var settings = new GuestSettings();
        HashSet<string> ofContainer = [];
        foreach (var (name, value) in annotations)
        {
            var at = name.IndexOf(Domain, StringComparison.Ordinal);
            if (at < 0 || (at > 0 && name[..at] != container + "."))
            {
                continue; // somebody else's, or another container's
            }

            var key = name[(at + Domain.Length)..];
            var (known, with, wanted) = _keys.FirstOrDefault(k => k.Key == key);
            if (known is null)
            {
                return (null, $"the annotation {name} is unknown; known are {string.Join(", ", _keys.Select(k => Domain + k.Key))}, each also as CONTAINER.{Domain}…");
            }

            if (with(settings, value) is not { } changed)
            {
                return (null, $"the annotation {name}: \"{value}\" is not {wanted}");
            }

            if (!ofContainer.Contains(key))
            {
                settings = changed;
                if (at > 0)
                {
                    _ = ofContainer.Add(key);
                }
            }
        }

        return (settings, null);
    }

    /// <summary>A whole number with or without one of Kubernetes' units.</summary>
    private static ulong? Bytes(string text)
    {
        var (suffix, factor) = _units.FirstOrDefault(u => text.EndsWith(u.Suffix, StringComparison.Ordinal), (Suffix: "", Factor: 1UL));
        return ulong.TryParse(text[..^suffix.Length], NumberStyles.None, CultureInfo.InvariantCulture, out var number)
            && number <= long.MaxValue / factor && number * factor >= OnePage ? number * factor : null;
    }

    /// <summary>PORT, :PORT, IPV4:PORT or [IPV6]:PORT, the first two as :PORT.</summary>
    private static string? Address(string text)
    {
        var colon = text.LastIndexOf(':');
        var host = colon < 0 ? "" : text[..colon];
        var isHost = host.Length == 0
            || (host is ['[', .. var six, ']'] ? six.Contains(':') && IPAddress.TryParse(six, out var address) && address.ScopeId == 0 : host.Count(c => c == '.') == 3 && IPAddress.TryParse(host, out _));
        return isHost && ushort.TryParse(text[(colon + 1)..], NumberStyles.None, CultureInfo.InvariantCulture, out var port) && port > 0 ? $"{host}:{port}" : null;
    }
}
