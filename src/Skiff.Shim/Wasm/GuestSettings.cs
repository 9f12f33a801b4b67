using System.Globalization;

namespace Skiff.Shim.Wasm;

/// <summary>
/// What annotations say about a Wasm container: <c>skiff.dev/KEY</c> for all of a pod's, <c>CONTAINER.skiff.dev/KEY</c> for one of them,
/// which comes before. containerd hands a pod's annotations on to each container (pod_annotations in its configuration).
/// </summary>
/// <param name="MaxMemory">The most memory the guest may have, in bytes; null: as much as its container.</param>
internal sealed record GuestSettings(ulong? MaxMemory)
{
    private const string Domain = "skiff.dev/";
    private const string MaxMemoryKey = "max-memory";
    private const ulong OnePage = 64 << 10; // of WebAssembly's

    private static readonly (string Suffix, ulong Factor)[] _units =
    [
        ("Ki", 1UL << 10), ("Mi", 1UL << 20), ("Gi", 1UL << 30), ("Ti", 1UL << 40),
        ("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000), ("T", 1_000_000_000_000),
    ];

    /// <summary>Reads them.</summary>
    /// <param name="annotations">All of the container's.</param>
    /// <returns>The settings, or what is wrong with which annotation.</returns>
    public static (GuestSettings? Settings, string? Problem) Read(IReadOnlyCollection<(string Name, string Value)> annotations)
    {
        var container = annotations.FirstOrDefault(a => a.Name == "io.kubernetes.cri.container-name").Value;
        ulong? maxMemory = null;
        var ofContainer = false;
        foreach (var (name, value) in annotations)
        {
            var at = name.IndexOf(Domain, StringComparison.Ordinal);
            if (at < 0 || (at > 0 && name[..at] != container + "."))
            {
                continue; // somebody else's, or another container's
            }

            if (name[(at + Domain.Length)..] != MaxMemoryKey)
            {
                return (null, $"the annotation {name} is unknown; {Domain}{MaxMemoryKey} is known, also as CONTAINER.{Domain}{MaxMemoryKey}");
            }

            if (Bytes(value) is not { } bytes)
            {
                return (null, $"the annotation {name}: \"{value}\" is not an amount of memory of at least 64Ki, like 64Mi");
            }

            if (!ofContainer)
            {
                maxMemory = bytes;
                ofContainer = at > 0;
            }
        }

        return (new GuestSettings(maxMemory), null);
    }

    /// <summary>A whole number with or without one of Kubernetes' units.</summary>
    private static ulong? Bytes(string text)
    {
        var (suffix, factor) = _units.FirstOrDefault(u => text.EndsWith(u.Suffix, StringComparison.Ordinal), (Suffix: "", Factor: 1UL));
        return ulong.TryParse(text[..^suffix.Length], NumberStyles.None, CultureInfo.InvariantCulture, out var number)
            && number <= long.MaxValue / factor && number * factor >= OnePage ? number * factor : null;
    }
}
