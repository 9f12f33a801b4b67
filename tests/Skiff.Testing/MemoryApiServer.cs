using System.Buffers;
using System.IO.Pipelines;
using System.Net;
using System.Text.Json.Nodes;

namespace Skiff.Testing;

/// <summary>
/// What an API server does with objects, in memory and at once: resource versions and conflicts, lists and watches with selectors, merge patch,
/// server-side apply (without conflicts between managers; lists are atomic), a status of its own, generations, finalizers, preconditions.
/// It stands where the network would, so the whole client is in the test.
/// </summary>
public sealed class MemoryApiServer : HttpMessageHandler
{
    private readonly Lock _lock = new();
    private readonly Dictionary<string, JsonObject> _objects = [];
    private readonly Dictionary<(string Path, string Manager), JsonObject> _applied = [];
    private readonly List<(long Version, string Type, JsonObject Object, string Collection)> _history = [];
    private readonly List<Watch> _watches = [];
    private readonly List<string> _requests = [];
    private long _version = 100;

    /// <summary>Answers instead of the server when it returns something; for faults.</summary>
    public Func<HttpRequestMessage, HttpResponseMessage?>? Intercept { get; set; }

    /// <summary>All requests so far: method and path with query.</summary>
    public IReadOnlyList<string> Requests
    {
        get
        {
            lock (_lock)
            {
                return [.. _requests];
            }
        }
    }

    /// <summary>How many watches are open.</summary>
    public int Watches
    {
        get
        {
            lock (_lock)
            {
                return _watches.Count;
            }
        }
    }

    /// <summary>An answer with a Status.</summary>
    public static HttpResponseMessage Status(HttpStatusCode code, string reason, string message) => new(code)
    {
        Content = new StringContent(new JsonObject { ["kind"] = "Status", ["code"] = (int)code, ["reason"] = reason, ["message"] = message }.ToJsonString()),
    };

    /// <summary>The object at a path such as <c>apis/runtime.skiff.dev/v1alpha1/shims/skiff</c>; null when there is none.</summary>
    public JsonObject? Find(string path)
    {
        lock (_lock)
        {
            return (JsonObject?)_objects.GetValueOrDefault(path)?.DeepClone();
        }
    }

    /// <summary>All objects whose path begins so.</summary>
    public IReadOnlyList<JsonObject> All(string prefix)
    {
        lock (_lock)
        {
            return [.. _objects.Where(o => o.Key.StartsWith(prefix + "/", StringComparison.Ordinal)).Select(o => (JsonObject)o.Value.DeepClone())];
        }
    }

    /// <summary>Writes an object as it is, with its status; for what others do.</summary>
    /// <param name="collection">For example <c>api/v1/nodes</c>.</param>
    /// <param name="json">The object.</param>
    public JsonObject Put(string collection, string json)
    {
        var body = (JsonObject)JsonNode.Parse(json)!;
        lock (_lock)
        {
            var path = $"{collection}/{(string)body["metadata"]!["name"]!}";
            return Store(collection, path, body, _objects.GetValueOrDefault(path));
        }
    }

    /// <summary>Removes an object at once, finalizers or not; for what others do.</summary>
    public void Remove(string path)
    {
        lock (_lock)
        {
            Drop(path, path[..path.LastIndexOf('/')]);
        }
    }

    /// <summary>Breaks all watches, as a restart does.</summary>
    public void BreakWatches()
    {
        lock (_lock)
        {
            foreach (var watch in _watches)
            {
                watch.Pipe.Writer.Complete(new IOException("the server went away"));
            }

            _watches.Clear();
        }
    }

    /// <summary>Forgets the past: watches from before now are Gone.</summary>
    public void Compact()
    {
        lock (_lock)
        {
            _version += 1000;
            _history.Clear();
        }
    }

    /// <inheritdoc/>
    protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        ArgumentNullException.ThrowIfNull(request);
        var body = request.Content is null ? null : await request.Content.ReadAsStringAsync(cancellationToken);
        lock (_lock)
        {
            _requests.Add($"{request.Method} {request.RequestUri!.PathAndQuery}");
        }

        if (Intercept?.Invoke(request) is { } answer)
        {
            return answer;
        }

        lock (_lock)
        {
            return Answer(request, body is null ? null : (JsonObject)JsonNode.Parse(body)!);
        }
    }

    private static HttpResponseMessage Json(JsonNode node, HttpStatusCode code = HttpStatusCode.OK) => new(code) { Content = new StringContent(node.ToJsonString()) };

    private static HttpResponseMessage NotFound(string path) => Status(HttpStatusCode.NotFound, "NotFound", $"{path} not found");

    /// <summary>Whether what is stored in one collection is in another: the same, or that of all namespaces.</summary>
    private static bool Within(string stored, string asked)
    {
        if (stored == asked)
        {
            return true;
        }

        var steps = stored.Split('/');
        return steps.Length > 3 && steps[^3] == "namespaces" && string.Join('/', [.. steps[..^3], steps[^1]]) == asked;
    }

    private static bool Matches(JsonObject o, IReadOnlyDictionary<string, string> query)
    {
        if (query.TryGetValue("fieldSelector", out var fields))
        {
            foreach (var term in fields.Split(','))
            {
                var pair = term.Split('=', 2);
                JsonNode? at = o;
                foreach (var step in pair[0].Split('.'))
                {
                    at = at?[step];
                }

                if ((at?.ToString() ?? "") != pair[1])
                {
                    return false;
                }
            }
        }

        return !query.TryGetValue("labelSelector", out var labels)
            || labels.Split(',').Select(t => t.Split('=', 2)).All(p => (string?)o["metadata"]?["labels"]?[p[0]] == p[1]);
    }

    private static void Merge(JsonObject into, JsonObject patch)
    {
        foreach (var (name, value) in patch)
        {
            if (value is null)
            {
                _ = into.Remove(name);
            }
            else if (value is JsonObject inner)
            {
                if (into[name] is not JsonObject)
                {
                    into[name] = new JsonObject();
                }

                Merge((JsonObject)into[name]!, inner);
            }
            else
            {
                into[name] = value.DeepClone();
            }
        }
    }

    /// <summary>Removes what the manager applied before and leaves out now.</summary>
    private static void Withdraw(JsonObject from, JsonObject before, JsonObject now)
    {
        foreach (var (name, value) in before)
        {
            if (now[name] is null)
            {
                _ = from.Remove(name);
            }
            else if (value is JsonObject inner && now[name] is JsonObject still && from[name] is JsonObject target)
            {
                Withdraw(target, inner, still);
            }
        }
    }

    private static (string Collection, string? Name, string? Part) Split(string path)
    {
        var steps = path.Trim('/').Split('/').Select(Uri.UnescapeDataString).ToArray();
        var at = steps[0] == "api" ? 2 : 3;
        var plural = steps.Length > at + 1 && steps[at] == "namespaces" && steps.Length > at + 2 ? at + 2 : at;
        return (string.Join('/', steps[..(plural + 1)]), steps.ElementAtOrDefault(plural + 1), steps.ElementAtOrDefault(plural + 2));
    }

    private HttpResponseMessage Answer(HttpRequestMessage request, JsonObject? body)
    {
        var (collection, name, part) = Split(request.RequestUri!.AbsolutePath);
        var query = request.RequestUri.Query.TrimStart('?').Split('&', StringSplitOptions.RemoveEmptyEntries)
            .Select(p => p.Split('=', 2)).ToDictionary(p => p[0], p => Uri.UnescapeDataString(p[1]));
        var path = $"{collection}/{name}";
        var found = name is null ? null : _objects.GetValueOrDefault(path);
        switch (request.Method.Method)
        {
            case "GET" when name is null && query.ContainsKey("watch"):
                return StartWatch(collection, query);
            case "GET" when name is null:
                var items = _objects.Where(o => Within(o.Key[..o.Key.LastIndexOf('/')], collection) && Matches(o.Value, query));
                return Json(new JsonObject
                {
                    ["metadata"] = new JsonObject { ["resourceVersion"] = $"{_version}" },
                    ["items"] = new JsonArray([.. items.Select(i => i.Value.DeepClone())]),
                });
            case "GET":
                return found is null ? NotFound(path) : Json(found);
            case "POST":
                path = $"{collection}/{(string)body!["metadata"]!["name"]!}";
                return _objects.ContainsKey(path)
                    ? Status(HttpStatusCode.Conflict, "AlreadyExists", $"{path} already exists")
                    : Json(Store(collection, path, WithoutStatus(body), null), HttpStatusCode.Created);
            case "PUT":
                return found is null ? NotFound(path)
                    : Stale(body!, found) ? Status(HttpStatusCode.Conflict, "Conflict", $"{path} has been modified")
                    : Json(Store(collection, path, body!, found));
            case "PATCH":
                return Patch(request, collection, path, part, body!, found, query);
            case "DELETE":
                return Delete(collection, path, body, found);
            default:
                return Status(HttpStatusCode.MethodNotAllowed, "MethodNotAllowed", request.Method.Method);
        }
    }

    private static JsonObject WithoutStatus(JsonObject body)
    {
        _ = body.Remove("status");
        return body;
    }

    private static bool Stale(JsonObject body, JsonObject found) =>
        (string?)body["metadata"]?["resourceVersion"] is { } wanted && wanted != (string)found["metadata"]!["resourceVersion"]!;

    private HttpResponseMessage Patch(
        HttpRequestMessage request, string collection, string path, string? part, JsonObject body, JsonObject? found, Dictionary<string, string> query)
    {
        var apply = request.Content!.Headers.ContentType!.MediaType == "application/apply-patch+yaml";
        if (found is null && (!apply || part is not null))
        {
            return NotFound(path);
        }

        if (found is not null && Stale(body, found))
        {
            return Status(HttpStatusCode.Conflict, "Conflict", $"{path} has been modified");
        }

        var patch = part == "status" ? new JsonObject { ["status"] = body["status"]?.DeepClone() } : WithoutStatus(body);
        var next = (JsonObject?)found?.DeepClone() ?? [];
        if (apply)
        {
            var manager = (path, query["fieldManager"] + "/" + part);
            if (_applied.TryGetValue(manager, out var before))
            {
                Withdraw(next, before, patch);
            }

            _applied[manager] = (JsonObject)patch.DeepClone();
        }

        Merge(next, patch);
        return Json(Store(collection, path, next, found));
    }

    private HttpResponseMessage Delete(string collection, string path, JsonObject? body, JsonObject? found)
    {
        if (found is null)
        {
            return NotFound(path);
        }

        if ((string?)body?["preconditions"]?["uid"] is { } uid && uid != (string)found["metadata"]!["uid"]!)
        {
            return Status(HttpStatusCode.Conflict, "Conflict", "the UID in the precondition does not match");
        }

        if (found["metadata"]!["finalizers"] is JsonArray { Count: > 0 })
        {
            var next = (JsonObject)found.DeepClone();
            next["metadata"]!["deletionTimestamp"] ??= TimeProvider.System.GetUtcNow().ToString("yyyy-MM-dd'T'HH:mm:ss'Z'");
            return Json(Store(collection, path, next, found));
        }

        Drop(path, collection);
        return Json(new JsonObject { ["kind"] = "Status", ["status"] = "Success" });
    }

    private JsonObject Store(string collection, string path, JsonObject next, JsonObject? before)
    {
        var meta = (JsonObject)next["metadata"]!;
        _ = meta.Remove("resourceVersion");
        if (before is not null)
        {
            var old = (JsonObject)before.DeepClone();
            _ = ((JsonObject)old["metadata"]!).Remove("resourceVersion");
            meta["uid"] = (string)old["metadata"]!["uid"]!;
            meta["creationTimestamp"] = (string)old["metadata"]!["creationTimestamp"]!;
            meta["generation"] = (long)old["metadata"]!["generation"]! + (JsonNode.DeepEquals(old["spec"], next["spec"]) ? 0 : 1);
            if (JsonNode.DeepEquals(old, next))
            {
                return before;
            }

            if (meta["deletionTimestamp"] is not null && meta["finalizers"] is not JsonArray { Count: > 0 })
            {
                Drop(path, collection);
                return next;
            }
        }
        else
        {
            meta["uid"] = $"uid-{_version + 1}";
            meta["creationTimestamp"] = "2026-01-01T00:00:00Z";
            meta["generation"] = 1L;
        }

        meta["resourceVersion"] = $"{++_version}";
        _objects[path] = next;
        Tell(before is null ? "ADDED" : "MODIFIED", next, collection);
        return next;
    }

    private void Drop(string path, string collection)
    {
        if (_objects.Remove(path, out var last))
        {
            foreach (var key in _applied.Keys.Where(k => k.Path == path).ToList())
            {
                _ = _applied.Remove(key);
            }

            last = (JsonObject)last.DeepClone();
            last["metadata"]!["resourceVersion"] = $"{++_version}";
            Tell("DELETED", last, collection);
        }
    }

    private void Tell(string type, JsonObject o, string collection)
    {
        var copy = (JsonObject)o.DeepClone();
        _history.Add((_version, type, copy, collection));
        foreach (var watch in _watches.Where(w => Within(collection, w.Collection) && Matches(copy, w.Query)))
        {
            watch.Send(type, copy);
        }
    }

    private HttpResponseMessage StartWatch(string collection, Dictionary<string, string> query)
    {
        var from = long.Parse(query["resourceVersion"]);
        if (from < _version && (_history.Count == 0 || _history[0].Version > from + 1))
        {
            return Status(HttpStatusCode.Gone, "Expired", $"too old resource version: {from} ({_version})");
        }

        var watch = new Watch(collection, query, new Pipe(new PipeOptions(pauseWriterThreshold: 0)));
        foreach (var (_, type, o, _) in _history.Where(h => h.Version > from && Within(h.Collection, collection) && Matches(h.Object, query)))
        {
            watch.Send(type, o);
        }

        _watches.Add(watch);
        return new HttpResponseMessage(HttpStatusCode.OK) { Content = new StreamContent(watch.Pipe.Reader.AsStream()) };
    }

    private sealed record Watch(string Collection, IReadOnlyDictionary<string, string> Query, Pipe Pipe)
    {
        public void Send(string type, JsonObject o)
        {
            var line = new JsonObject { ["type"] = type, ["object"] = o.DeepClone() }.ToJsonString() + "\n";
            Pipe.Writer.Write(System.Text.Encoding.UTF8.GetBytes(line));
            _ = Pipe.Writer.FlushAsync().AsTask();
        }
    }
}
