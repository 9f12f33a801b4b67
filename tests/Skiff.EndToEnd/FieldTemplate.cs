using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;

namespace Skiff.EndToEnd;

/// <summary>
/// What <c>kubectl -o jsonpath=</c> makes of an object, as far as the tests use it: text with <c>{.a.b[0].c}</c> and
/// <c>{.list[?(@.name=="x")].field}</c> in it. A field that is not there is empty; several results have a space between them.
/// </summary>
internal static class FieldTemplate
{
    public static string Apply(string template, JsonNode? document)
    {
        StringBuilder text = new();
        var at = 0;
        while (template.IndexOf('{', at) is var begin and >= 0)
        {
            // A brace in a filter's text would end it too early; no test has one.
            var end = template.IndexOf('}', begin);
            _ = text.Append(template, at, begin - at).AppendJoin(' ', Select([document], template[(begin + 1)..end]).Select(Text));
            at = end + 1;
        }

        return text.Append(template, at, template.Length - at).ToString();
    }

    private static IEnumerable<JsonNode?> Select(IEnumerable<JsonNode?> nodes, string path)
    {
        while (path.Length > 0)
        {
            if (path.StartsWith("[?(@", StringComparison.Ordinal))
            {
                var end = path.IndexOf(")]", StringComparison.Ordinal);
                var (field, wanted) = path[4..end].Split("==") is [var left, var right] ? (left, right.Trim('"')) : throw new FormatException(path);
                nodes = [.. nodes.SelectMany(n => n as JsonArray ?? []).Where(n => Select([n], field).Any(f => f is not null && Text(f) == wanted))];
                path = path[(end + 2)..];
            }
            else if (path[0] == '[')
            {
                var end = path.IndexOf(']', StringComparison.Ordinal);
                var index = int.Parse(path[1..end], CultureInfo.InvariantCulture);
                nodes = [.. nodes.Select(n => n is JsonArray list && index < list.Count ? list[index] : null)];
                path = path[(end + 1)..];
            }
            else
            {
                var end = path.AsSpan(1).IndexOfAny('.', '[') is var next and >= 0 ? next + 1 : path.Length;
                var name = path[1..end];
                nodes = [.. nodes.Select(n => n is JsonObject o ? o[name] : null)];
                path = path[end..];
            }
        }

        return nodes.Where(n => n is not null);
    }

    private static string Text(JsonNode? node) => node is JsonValue value ? value.ToString() : node?.ToJsonString() ?? "";
}
