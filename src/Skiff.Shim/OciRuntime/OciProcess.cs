using System.Text.Json.Nodes;
using Google.Protobuf.WellKnownTypes;

namespace Skiff.Shim.OciRuntime;

/// <summary>
/// A process as the OCI runtime specification has it (config.md, "process"): a container's init, or one that Exec adds. It is kept as a
/// document: what this code does not know stays as it is.
/// </summary>
internal sealed class OciProcess
{
    // The name under which containerd registers it; the value is JSON.
    private const string TypeName = "types.containerd.io/opencontainers/runtime-spec/1/Process";

    private readonly JsonObject _document;

    private OciProcess(JsonObject document, string[] arguments, string[] environment)
    {
        _document = document;
        Arguments = arguments;
        Environment = environment;
        WorkingDirectory = OciJson.Text(document, "cwd") is { Length: > 0 } cwd ? cwd : "/";
    }

    public string[] Arguments { get; private set; }

    public string[] Environment { get; }

    public string WorkingDirectory { get; }

    /// <summary>Reads the process of a spec.</summary>
    /// <exception cref="OciFieldException">A field is wrong.</exception>
    public static OciProcess Read(JsonObject document)
    {
        var arguments = OciJson.Strings(document, "process.args", "args");
        return arguments.Length > 0
            ? new OciProcess(document, arguments, OciJson.Strings(document, "process.env", "env"))
            : throw new OciFieldException("process.args is empty: give the image an entrypoint or a command");
    }

    /// <summary>Reads the process that an Exec request brings.</summary>
    /// <returns>The process, or what is wrong with it.</returns>
    public static (OciProcess? Process, string? Problem) Parse(Any? spec, bool terminal)
    {
        if (spec is null || spec.TypeUrl.Length == 0)
        {
            return (null, "the request has no process");
        }

        if (spec.TypeUrl != TypeName)
        {
            return (null, $"a process of type {spec.TypeUrl} is unknown here; {TypeName} is known");
        }

        var (document, problem) = OciJson.Parse(spec.Value.Span);
        if (document is null)
        {
            return (null, $"the process {problem}");
        }

        try
        {
            document["terminal"] = terminal; // the request counts
            return (Read(document), null);
        }
        catch (OciFieldException e)
        {
            return (null, e.Message);
        }
    }

    /// <summary>Replaces args.</summary>
    public void SetArguments(IReadOnlyList<string> arguments)
    {
        Arguments = [.. arguments];
        _document["args"] = OciJson.Array(arguments);
    }

    /// <summary>Adds KEY=VALUE to env.</summary>
    public void AddEnvironment(string entry)
    {
        if (_document["env"] is not JsonArray environment)
        {
            _document["env"] = environment = [];
        }

        environment.Add((JsonNode?)JsonValue.Create(entry));
    }

    /// <summary>It as the OCI runtime reads it.</summary>
    public ReadOnlyMemory<byte> ToJson() => OciJson.Bytes(_document);
}
