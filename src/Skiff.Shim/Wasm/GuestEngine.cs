namespace Skiff.Shim.Wasm;

/// <summary>What runs a guest.</summary>
internal enum GuestEngine
{
    /// <summary>The engine's library, in the runner's own process: core modules, and commands of WASI 0.2 that open no sockets.</summary>
    Library,

    /// <summary>The engine's command: commands that open sockets, and those of WASI 0.3.</summary>
    Command,

    /// <summary>The engine's command as a server: components that answer HTTP requests, of WASI 0.2 and 0.3.</summary>
    HttpServer,
}

/// <summary>Decides by a component's imports and exports what runs it.</summary>
internal static class GuestEngines
{
    private const string Run = "wasi:cli/run";

    private static readonly (string Interface, string Version, GuestEngine Engine)[] _entries =
    [
        (Run, "0.2", GuestEngine.Library),
        (Run, "0.3", GuestEngine.Command),
        ("wasi:http/incoming-handler", "0.2", GuestEngine.HttpServer),
        ("wasi:http/handler", "0.3", GuestEngine.HttpServer),
    ];

    /// <summary>Chooses.</summary>
    /// <param name="world">The component's.</param>
    /// <param name="prefersHttp">Whether a component that is both a command and a server is to serve.</param>
    /// <returns>The engine, or why neither can run it.</returns>
    public static (GuestEngine Engine, string? Problem) Choose(ComponentWorld world, bool prefersHttp)
    {
        var found = _entries.Where(e => world.Exports.Any(x => IsVersion(x, e.Interface, e.Version))).Select(e => e.Engine)
            .OrderBy(e => prefersHttp && e != GuestEngine.HttpServer).ToList();
        if (found.Count > 0)
        {
            return (found[0] == GuestEngine.Library && world.Imports.Any(NeedsCommand) ? GuestEngine.Command : found[0], null);
        }

        var other = world.Exports.FirstOrDefault(x => _entries.Any(e => x.StartsWith(e.Interface + "@", StringComparison.Ordinal)));
        return (GuestEngine.Library, other is not null
            ? $"is for WASI {other[(other.IndexOf('@') + 1)..]} (it exports {other}); the engines here have 0.2 and 0.3; build it again with tools of one of these"
            : $"has no entry: it exports {Names(world.Exports)}; to be run it has to export wasi:cli/run (a command) or wasi:http/incoming-handler, in WASI 0.3 wasi:http/handler (a server)");
    }

    /// <summary>
    /// Whether an import of a command of WASI 0.2 is what the library has not. Since Wasmtime's PR 13936 (July 2026) a host has to allow TCP and UDP, for
    /// which the C interface has no call; without sockets of its own a guest does nothing with the other interfaces of wasi:sockets. And what a command
    /// was linked with may be of 0.3.
    /// </summary>
    public static bool NeedsCommand(string import) =>
        IsVersion(import, "wasi:sockets/tcp-create-socket", "0.2") || IsVersion(import, "wasi:sockets/udp-create-socket", "0.2") || IsOf03(import);

    /// <summary>Whether a name is an interface of WASI 0.3.</summary>
    public static bool IsOf03(string name) => name.StartsWith("wasi:", StringComparison.Ordinal) && IsVersion(name, name.Split('@')[0], "0.3");

    /// <summary>Whether a name is an interface in a released version: 0.2 stands for 0.2.0, 0.2.7 and so on, but for no draft like 0.2.0-rc-1.</summary>
    private static bool IsVersion(string name, string ofInterface, string version) =>
        name.Length > ofInterface.Length && name[ofInterface.Length] == '@' && name.StartsWith(ofInterface, StringComparison.Ordinal)
        && name[(ofInterface.Length + 1)..] is var full && full.StartsWith(version, StringComparison.Ordinal)
        && full[version.Length..] is "" or ['.', ..] && full.AsSpan().TrimStart("0123456789.").IsEmpty;

    private static string Names(IReadOnlyList<string> names) =>
        names.Count == 0 ? "nothing" : string.Join(", ", names.Take(8)) + (names.Count > 8 ? $" and {names.Count - 8} more" : "");
}
