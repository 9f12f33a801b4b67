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

    private readonly JsonObject _document;

    private OciSpec(string path, JsonObject document, OciProcess process)
    {
        Path = path;
        _document = document;
        Process = process;
    }

    /// <summary>The file it was read from.</summary>
    public string Path { get; }

    /// <summary>What init runs.</summary>
    public OciProcess Process { get; }

    /// <summary>root.path: absolute, or relative to the bundle.</summary>
    public string RootPath { get; private init; } = "rootfs";

    public string CgroupsPath { get; private init; } = "";

    /// <summary>Whether init sees a PID namespace made for it alone, so that its end ends all its processes.</summary>
    public bool OwnPidNamespace { get; private init; }

    /// <summary>linux.resources.memory.limit, in bytes; null: there is none.</summary>
    public long? MemoryLimit { get; private init; }

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

        var (document, problem) = OciJson.Parse(bytes);
        if (document is null)
        {
            return (null, $"{path} {problem}");
        }

        try
        {
            return (Read(path, document), null);
        }
        catch (OciFieldException e)
        {
            return (null, $"{path}: {e.Message}");
        }
    }

    /// <summary>A string of the annotations, or null.</summary>
    public string? Annotation(string key) =>
        _document["annotations"] is JsonObject annotations && annotations[key] is JsonValue value && value.TryGetValue(out string? text) ? text : null;

    /// <summary>All annotations; one that is no string is empty.</summary>
    public IReadOnlyCollection<(string Name, string Value)> Annotations =>
        _document["annotations"] is JsonObject annotations
            ? [.. annotations.Select(a => (a.Key, a.Value is JsonValue value && value.TryGetValue(out string? text) ? text : ""))] : [];

    /// <summary>Adds a bind mount after all others.</summary>
    public void AddBind(string source, string destination, params ReadOnlySpan<string> options)
    {
        if (_document["mounts"] is not JsonArray mounts)
        {
            _document["mounts"] = mounts = [];
        }

        mounts.Add((JsonNode)new JsonObject
        {
            ["destination"] = destination,
            ["type"] = "bind",
            ["source"] = source,
            ["options"] = OciJson.Array(options.ToArray()),
        });
    }

    /// <summary>Gives it a network of its own, in which there is nothing, instead of the pod's.</summary>
    public void UseNoNetwork()
    {
        if (_document["linux"] is not JsonObject linux)
        {
            _document["linux"] = linux = [];
        }

        if (linux["namespaces"] is not JsonArray namespaces)
        {
            linux["namespaces"] = namespaces = [];
        }

        for (var i = namespaces.Count - 1; i >= 0; i--)
        {
            if (namespaces[i] is JsonObject ns && OciJson.Text(ns, "type") == "network")
            {
                namespaces.RemoveAt(i);
            }
        }

        namespaces.Add((JsonNode)new JsonObject { ["type"] = "network" });
    }

    /// <summary>Writes it back, whole or not at all.</summary>
    public void Save() => AtomicFile.Write(Path, OciJson.Bytes(_document).Span, 0x180); // 0600

    private static OciSpec Read(string path, JsonObject document)
    {
        if (document["process"] is not JsonObject process)
        {
            throw new OciFieldException("it has no object \"process\", so there is nothing to run");
        }

        var linux = document["linux"] as JsonObject;
        var ownPid = false;
        if (linux?["namespaces"] is JsonArray namespaces)
        {
            foreach (var item in namespaces)
            {
                ownPid |= item is JsonObject ns && OciJson.Text(ns, "type") == "pid" && string.IsNullOrEmpty(OciJson.Text(ns, "path"));
            }
        }

        List<(string, string)> binds = [];
        if (document["mounts"] is JsonArray mounts)
        {
            foreach (var item in mounts)
            {
                if (item is JsonObject mount && OciJson.Text(mount, "destination") is { Length: > 0 } destination
                    && OciJson.Text(mount, "source") is { Length: > 0 } source && source[0] == '/')
                {
                    binds.Add((destination, source));
                }
            }
        }

        return new OciSpec(path, document, OciProcess.Read(process))
        {
            RootPath = document["root"] is JsonObject root && OciJson.Text(root, "path") is { Length: > 0 } rootPath ? rootPath : "rootfs",
            CgroupsPath = linux is null ? "" : OciJson.Text(linux, "cgroupsPath") ?? "",
            OwnPidNamespace = ownPid,
            MemoryLimit = linux?["resources"] is JsonObject resources && resources["memory"] is JsonObject memory
                && memory["limit"] is JsonValue limit && limit.TryGetValue(out long bytes) && bytes > 0 ? bytes : null,
            Binds = binds,
        };
    }
}
