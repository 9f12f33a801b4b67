using System.Text.Json;
using System.Text.Json.Nodes;
using Skiff.Linux.Files;

namespace Skiff.Shim.OciRuntime;

/// <summary>
/// A bundle's config.json (OCI runtime specification, config.md), kept as a document: what this code does not know stays as it is.
/// </summary>
internal sealed class OciSpec
{
    /// <summary>No honest spec comes near this; it bounds what a hostile one costs.</summary>
    public const int Limit = 16 << 20;

    private static readonly JsonDocumentOptions _documentOptions = new() { MaxDepth = 64 };

    private readonly JsonObject _document;

    private OciSpec(string path, JsonObject document)
    {
        Path = path;
        _document = document;
    }

    /// <summary>The file it was read from.</summary>
    public string Path { get; }

    public string[] Arguments { get; private init; } = [];

    public string[] Environment { get; private init; } = [];

    public string WorkingDirectory { get; private init; } = "/";

    /// <summary>root.path: absolute, or relative to the bundle.</summary>
    public string RootPath { get; private init; } = "rootfs";

    public string CgroupsPath { get; private init; } = "";

    /// <summary>Whether init sees a PID namespace made for it alone, so that its end ends all its processes.</summary>
    public bool OwnPidNamespace { get; private init; }

    /// <summary>Bind mounts: where in the container, and from where on the node.</summary>
    public IReadOnlyList<(string Destination, string Source)> Binds { get; private init; } = [];

    /// <summary>Reads and checks the file.</summary>
    /// <returns>The spec, or what is wrong with it: file, field and fix.</returns>
    public static (OciSpec? Spec, string? Problem) Load(string bundle)
    {
        var path = System.IO.Path.Combine(bundle, "config.json");
        byte[] bytes;
        try
        {
            var length = new FileInfo(path).Length;
            if (length > Limit)
            {
                return (null, $"{path} has {length} bytes; at most {Limit >> 20} MiB are read");
            }

            bytes = File.ReadAllBytes(path);
        }
        catch (IOException e)
        {
            return (null, $"{path} cannot be read: {e.Message}");
        }

        try
        {
            return JsonNode.Parse(bytes, null, _documentOptions) is JsonObject document
                ? (Read(path, document), null)
                : (null, $"{path} is not a JSON object; an OCI bundle's config.json is one");
        }
        catch (JsonException e)
        {
            return (null, $"{path} is not valid JSON: {e.Message}");
        }
        catch (SpecException e)
        {
            return (null, $"{path}: {e.Message}");
        }
    }

    /// <summary>A string of the annotations, or null.</summary>
    public string? Annotation(string key) =>
        _document["annotations"] is JsonObject annotations && annotations[key] is JsonValue value && value.TryGetValue(out string? text) ? text : null;

    /// <summary>Replaces process.args.</summary>
    public void SetArguments(IEnumerable<string> arguments) =>
        Process()["args"] = new JsonArray([.. arguments.Select(a => (JsonNode?)JsonValue.Create(a))]);

    /// <summary>Adds KEY=VALUE to process.env.</summary>
    public void AddEnvironment(string entry)
    {
        if (Process()["env"] is not JsonArray environment)
        {
            Process()["env"] = environment = [];
        }

        environment.Add((JsonNode?)JsonValue.Create(entry));
    }

    /// <summary>Adds a bind mount after all others.</summary>
    public void AddBind(string source, string destination, params ReadOnlySpan<string> options)
    {
        if (_document["mounts"] is not JsonArray mounts)
        {
            _document["mounts"] = mounts = [];
        }

        var words = new JsonArray();
        foreach (var option in options)
        {
            words.Add((JsonNode?)JsonValue.Create(option));
        }

        mounts.Add((JsonNode)new JsonObject
        {
            ["destination"] = destination,
            ["type"] = "bind",
            ["source"] = source,
            ["options"] = words,
        });
    }

    /// <summary>Writes it back, whole or not at all.</summary>
    public void Save()
    {
        using var buffer = new MemoryStream();
        using (var writer = new Utf8JsonWriter(buffer))
        {
            _document.WriteTo(writer);
        }

        AtomicFile.Write(Path, buffer.GetBuffer().AsSpan(0, (int)buffer.Length), 0x180); // 0600
    }

    private static OciSpec Read(string path, JsonObject document)
    {
        if (document["process"] is not JsonObject process)
        {
            throw new SpecException("it has no object \"process\", so there is nothing to run");
        }

        var arguments = Strings(process, "process.args", "args");
        if (arguments.Length == 0)
        {
            throw new SpecException("process.args is empty: give the image an entrypoint or a command");
        }

        var linux = document["linux"] as JsonObject;
        var ownPid = false;
        if (linux?["namespaces"] is JsonArray namespaces)
        {
            foreach (var item in namespaces)
            {
                ownPid |= item is JsonObject ns && Text(ns, "type") == "pid" && string.IsNullOrEmpty(Text(ns, "path"));
            }
        }

        List<(string, string)> binds = [];
        if (document["mounts"] is JsonArray mounts)
        {
            foreach (var item in mounts)
            {
                if (item is JsonObject mount && Text(mount, "destination") is { Length: > 0 } destination
                    && Text(mount, "source") is { Length: > 0 } source && source[0] == '/')
                {
                    binds.Add((destination, source));
                }
            }
        }

        return new OciSpec(path, document)
        {
            Arguments = arguments,
            Environment = Strings(process, "process.env", "env"),
            WorkingDirectory = Text(process, "cwd") is { Length: > 0 } cwd ? cwd : "/",
            RootPath = document["root"] is JsonObject root && Text(root, "path") is { Length: > 0 } rootPath ? rootPath : "rootfs",
            CgroupsPath = linux is null ? "" : Text(linux, "cgroupsPath") ?? "",
            OwnPidNamespace = ownPid,
            Binds = binds,
        };
    }

    private static string? Text(JsonObject owner, string name) =>
        owner[name] is JsonValue value && value.TryGetValue(out string? text) ? text : null;

    private static string[] Strings(JsonObject owner, string field, string name)
    {
        if (owner[name] is null)
        {
            return [];
        }

        if (owner[name] is not JsonArray items)
        {
            throw new SpecException($"{field} is not a list of strings");
        }

        var result = new string[items.Count];
        for (var i = 0; i < result.Length; i++)
        {
            result[i] = items[i] is JsonValue value && value.TryGetValue(out string? text) && !text.Contains('\0')
                ? text
                : throw new SpecException($"{field}[{i}] is not a string");
        }

        return result;
    }

    private JsonObject Process() => (JsonObject)_document["process"]!;

    /// <summary>A field is wrong; never leaves this class.</summary>
    private sealed class SpecException(string message) : Exception(message);
}
