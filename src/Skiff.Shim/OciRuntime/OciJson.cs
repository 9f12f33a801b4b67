using System.Text.Json;
using System.Text.Json.Nodes;

namespace Skiff.Shim.OciRuntime;

/// <summary>Reading of OCI documents, with errors that name the field.</summary>
internal static class OciJson
{
    private static readonly JsonDocumentOptions _options = new() { MaxDepth = 64, AllowDuplicateProperties = false };

    /// <summary>Reads an object.</summary>
    /// <returns>The object, or why it is none.</returns>
    public static (JsonObject? Document, string? Problem) Parse(ReadOnlySpan<byte> json)
    {
        try
        {
            return JsonNode.Parse(json, null, _options) is JsonObject document ? (document, null) : (null, "is not a JSON object");
        }
        catch (JsonException e)
        {
            return (null, $"is not valid JSON: {e.Message}");
        }
    }

    /// <summary>A string field; null when it is not there or something else.</summary>
    public static string? Text(JsonObject owner, string name) =>
        owner[name] is JsonValue value && value.TryGetValue(out string? text) ? text : null;

    /// <summary>A list of strings; empty when it is not there.</summary>
    /// <exception cref="OciFieldException">It is something else.</exception>
    public static string[] Strings(JsonObject owner, string field, string name)
    {
        if (owner[name] is null)
        {
            return [];
        }

        if (owner[name] is not JsonArray items)
        {
            throw new OciFieldException($"{field} is not a list of strings");
        }

        var result = new string[items.Count];
        for (var i = 0; i < result.Length; i++)
        {
            result[i] = items[i] is JsonValue value && value.TryGetValue(out string? text) && !text.Contains('\0')
                ? text
                : throw new OciFieldException($"{field}[{i}] is not a string");
        }

        return result;
    }

    /// <summary>A list of strings as JSON.</summary>
    public static JsonArray Array(IEnumerable<string> items) => new([.. items.Select(i => (JsonNode?)JsonValue.Create(i))]);

    /// <summary>The bytes of a document.</summary>
    public static ReadOnlyMemory<byte> Bytes(JsonObject document)
    {
        var buffer = new MemoryStream();
        using (var writer = new Utf8JsonWriter(buffer))
        {
            document.WriteTo(writer);
        }

        return buffer.GetBuffer().AsMemory(0, (int)buffer.Length);
    }
}

/// <summary>A field is wrong; the message names it. Whoever reads a document makes a value of it.</summary>
internal sealed class OciFieldException(string message) : Exception(message);
