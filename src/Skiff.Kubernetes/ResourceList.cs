using System.Text.Json;

namespace Skiff.Kubernetes;

/// <summary>Which objects a list or watch is about.</summary>
public sealed record Selection
{
    /// <summary>Everything of the kind.</summary>
    public static readonly Selection All = new();

    /// <summary>Only this namespace; null for all of them and for what is cluster-scoped.</summary>
    public string? Namespace { get; init; }

    /// <summary>A label selector, for example <c>app=x,tier!=y</c>.</summary>
    public string? Labels { get; init; }

    /// <summary>A field selector, for example <c>spec.nodeName=node-1</c>; each kind supports a few fields only.</summary>
    public string? Fields { get; init; }
}

/// <summary>Objects, as they were at one resource version.</summary>
/// <typeparam name="T">The objects.</typeparam>
/// <param name="Items">The objects.</param>
/// <param name="ResourceVersion">From where a watch goes on.</param>
/// <param name="Continue">Asks for the next page; null on the last one.</param>
public sealed record ResourceList<T>(IReadOnlyList<T> Items, string? ResourceVersion, string? Continue)
    where T : class, IResource
{
    /// <summary>Reads a list without building its JSON tree, and without a JSON type per kind of list.</summary>
    /// <exception cref="JsonException">It is no list.</exception>
    internal static ResourceList<T> Parse(ReadOnlySpan<byte> json, ResourceKind<T> kind)
    {
        var reader = new Utf8JsonReader(json);
        var items = new List<T>();
        ListMeta? meta = null;
        if (!reader.Read() || reader.TokenType != JsonTokenType.StartObject)
        {
            throw new JsonException("a list is an object");
        }

        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            if (reader.ValueTextEquals("metadata"u8))
            {
                _ = reader.Read();
                meta = JsonSerializer.Deserialize(ref reader, WireJson.Default.ListMeta);
            }
            else if (reader.ValueTextEquals("items"u8))
            {
                _ = reader.Read();
                if (reader.TokenType == JsonTokenType.StartArray) // null when there are none, from some servers
                {
                    while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
                    {
                        items.Add(JsonSerializer.Deserialize(ref reader, kind.Json) ?? throw new JsonException("an item is null"));
                    }
                }
            }
            else
            {
                reader.Skip();
            }
        }

        return meta is null
            ? throw new JsonException("the list has no metadata")
            : new ResourceList<T>(items, meta.ResourceVersion, string.IsNullOrEmpty(meta.Continue) ? null : meta.Continue);
    }
}
