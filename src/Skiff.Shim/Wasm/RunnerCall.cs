using System.Globalization;
using Skiff.Shim.OciRuntime;

namespace Skiff.Shim.Wasm;

/// <summary>How the runner is called for a guest (RunOptions in Skiff.Run).</summary>
/// <param name="Engine">What runs the guest.</param>
/// <param name="Http">Whether the guest calls out by HTTP, or could.</param>
internal readonly record struct RunnerCall(GuestEngine Engine, bool Http = false)
{
    // A server's requests and connections, by its container's memory. What one request needs is up to the guest; with 4 MiB each, one of a few
    // MiB (a JavaScript engine, say) stays within its container, and one that needs more has skiff.dev/max-memory to say so.
    private const long MemoryOfRequest = 4L << 20;
    private const long MemoryOfConnection = 1L << 20; // an HTTP/1 connection holds up to 0.4 MiB of headers
    private const long LeastRequests = 8;
    private const long MostRequests = 1_000;
    private const long LeastConnections = 128;
    private const long MostConnections = 10_000;

    /// <summary>Decides it for a component.</summary>
    /// <returns>The call, or why neither engine can run it.</returns>
    public static (RunnerCall Call, string? Problem) For(ComponentWorld world, GuestSettings settings)
    {
        var (engine, problem) = GuestEngines.Choose(world, prefersHttp: settings.HttpListen is not null);
        return (new RunnerCall(engine, world.Imports.Any(i => i.StartsWith("wasi:http/", StringComparison.Ordinal))), problem);
    }

    /// <summary>Makes the process the runner, with the module and the user's arguments behind it.</summary>
    /// <param name="process">The process, whose arguments are the guest's until now.</param>
    /// <param name="module">The module's path in the container.</param>
    /// <param name="artifact">Its artifact's, or null.</param>
    /// <param name="settings">What annotations say.</param>
    /// <param name="memoryLimit">The container's, in bytes; null: none, or it does not matter.</param>
    public void ApplyTo(OciProcess process, string module, string? artifact, GuestSettings settings, long? memoryLimit = null)
    {
        // WASI preview 1 has no call for the working directory; Go's library takes it from here.
        if (process.WorkingDirectory != "/" && !process.Environment.Any(e => e.StartsWith("PWD=", StringComparison.Ordinal)))
        {
            process.AddEnvironment("PWD=" + process.WorkingDirectory);
        }

        List<string> words = [WasmPreparation.Runner, Engine switch { GuestEngine.Library => "run", GuestEngine.Command => "command", _ => "serve" }, "--module", module];
        Add("--artifact", artifact);
        Add("--max-memory", Number(settings.MaxMemory));
        Add("--network", settings.Network ? null : "none");
        if (Http)
        {
            words.Add("--http");
        }

        if (Engine == GuestEngine.HttpServer)
        {
            Add("--listen", settings.HttpListen);
            Add("--reuse", Number(settings.HttpReuse));
            if (memoryLimit is { } limit)
            {
                var ofRequest = settings.MaxMemory is { } most ? (long)Math.Min(most, long.MaxValue) : MemoryOfRequest;
                Add("--requests", Number<long>(Math.Clamp(limit / ofRequest, settings.MaxMemory is null ? LeastRequests : 1, MostRequests)));
                Add("--connections", Number<long>(Math.Clamp(limit / MemoryOfConnection, LeastConnections, MostConnections)));
            }
        }

        process.SetArguments([.. words, "--reports", $"{GuestReports.Descriptor}", "--", .. process.Arguments]);

        void Add(string option, string? value)
        {
            if (value is not null)
            {
                words.AddRange([option, value]);
            }
        }
    }

    private static string? Number<T>(T? number) where T : struct, IFormattable => number?.ToString(null, CultureInfo.InvariantCulture);
}
