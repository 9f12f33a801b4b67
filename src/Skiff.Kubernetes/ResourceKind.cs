using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;

namespace Skiff.Kubernetes;

/// <summary>A kind of objects, built-in or custom: what it is called on the server, and how it is read and written.</summary>
/// <typeparam name="T">The fields that are used of it.</typeparam>
public sealed class ResourceKind<T>
    where T : class, IResource
{
    private readonly string _root;

    /// <summary>Describes a kind.</summary>
    /// <param name="group">Empty for the core group.</param>
    /// <param name="version">For example v1.</param>
    /// <param name="plural">The name in URLs, for example leases.</param>
    /// <param name="kind">The name in objects, for example Lease.</param>
    /// <param name="json">From a source-generated context with camelCase names that leaves out nulls.</param>
    /// <exception cref="ArgumentException">The context has other options; objects would be read empty, or written with nulls that mean "delete".</exception>
    public ResourceKind(string group, string version, string plural, string kind, JsonTypeInfo<T> json)
    {
        ArgumentNullException.ThrowIfNull(json);
        if (json.Options.PropertyNamingPolicy != JsonNamingPolicy.CamelCase || json.Options.DefaultIgnoreCondition != JsonIgnoreCondition.WhenWritingNull)
        {
            throw new ArgumentException("the JSON context must use camelCase names and leave out nulls", nameof(json));
        }

        ApiVersion = group.Length == 0 ? version : $"{group}/{version}";
        Kind = kind;
        Plural = plural;
        Json = json;
        _root = group.Length == 0 ? $"api/{version}" : $"apis/{group}/{version}";
    }

    /// <summary>Group and version, as in objects.</summary>
    public string ApiVersion { get; }

    /// <summary>The name in objects.</summary>
    public string Kind { get; }

    internal string Plural { get; }

    internal JsonTypeInfo<T> Json { get; }

    /// <summary>A reference to an object of this kind, for Events.</summary>
    public ObjectReference Refer(T resource)
    {
        ArgumentNullException.ThrowIfNull(resource);
        var meta = resource.Metadata;
        return new ObjectReference { ApiVersion = ApiVersion, Kind = Kind, Namespace = meta.Namespace, Name = meta.Name, Uid = meta.Uid };
    }

    /// <summary>An owner reference to an object of this kind.</summary>
    /// <exception cref="ArgumentException">The object was not read from the server: it has no name or no uid.</exception>
    public OwnerReference Own(T resource, bool? controller = null)
    {
        ArgumentNullException.ThrowIfNull(resource);
        return resource.Metadata is { Name: { } name, Uid: { } uid }
            ? new OwnerReference { ApiVersion = ApiVersion, Kind = Kind, Name = name, Uid = uid, Controller = controller }
            : throw new ArgumentException("the owner has no name or no uid", nameof(resource));
    }

    internal string PathOf(string? ns) => ns is null ? $"{_root}/{Plural}" : $"{_root}/namespaces/{Uri.EscapeDataString(ns)}/{Plural}";

    internal string PathOf(ObjectKey key)
    {
        // Without a name, a delete would be one of the whole collection.
        ArgumentException.ThrowIfNullOrEmpty(key.Name);
        return $"{PathOf(key.Namespace)}/{Uri.EscapeDataString(key.Name)}";
    }

    /// <summary>The object with apiVersion and kind.</summary>
    internal byte[] Write(T resource)
    {
        var node = (JsonObject)JsonSerializer.SerializeToNode(resource, Json)!;
        node["apiVersion"] = ApiVersion;
        node["kind"] = Kind;
        return JsonBytes.Of(node);
    }
}

internal static class JsonBytes
{
    internal static byte[] Of(JsonObject node)
    {
        using var stream = new MemoryStream();
        using (var writer = new Utf8JsonWriter(stream))
        {
            node.WriteTo(writer);
        }

        return stream.ToArray();
    }
}
