using System.Net;
using System.Net.Http.Headers;
using System.Text.Json;
using System.Text.Json.Nodes;
using k8s.Authentication;
using Skiff.Kubernetes.Watching;

namespace Skiff.Kubernetes;

/// <summary>
/// Typed requests to one API server. Every request has a time limit, every answer a size limit, and every failure comes back as an
/// <see cref="ApiError"/>; nothing is tried again here, because callers have queues that back off. Safe for use by many at once.
/// </summary>
public sealed partial class KubeClient : IDisposable
{
    // A list page of 500 objects of the largest size that etcd takes would be larger, but then memory is the smaller concern.
    private const int LargestAnswer = 128 << 20;
    private const int LargestError = 64 << 10;
    private const int PageSize = 500;

    private static readonly TimeSpan _requestLimit = TimeSpan.FromSeconds(30);

    private readonly HttpMessageInvoker _http;
    private readonly Uri _server;
    private readonly ITokenProvider? _tokens;
    private readonly string _userAgent;
    private readonly TimeProvider _time;

    internal KubeClient(HttpMessageHandler handler, Uri server, string? ns, ITokenProvider? tokens, string userAgent, TimeProvider time)
    {
        _http = new HttpMessageInvoker(handler);
        _server = server.AbsoluteUri.EndsWith('/') ? server : new Uri(server.AbsoluteUri + "/");
        Namespace = ns;
        _tokens = tokens;
        _userAgent = userAgent;
        _time = time;
    }

    /// <summary>The namespace of the service account or of the kubeconfig's context; null when neither names one.</summary>
    public string? Namespace { get; }

    /// <summary>The server's address.</summary>
    public Uri Server => _server;

    /// <summary>Reads an object.</summary>
    public Task<ApiResult<T>> GetAsync<T>(ResourceKind<T> kind, ObjectKey key, CancellationToken cancellation)
        where T : class, IResource
    {
        ArgumentNullException.ThrowIfNull(kind);
        return ObjectAsync(kind, HttpMethod.Get, kind.PathOf(key), null, cancellation);
    }

    /// <summary>Reads one page of a list.</summary>
    /// <param name="kind">What.</param>
    /// <param name="selection">Which of them.</param>
    /// <param name="limit">How many at most; the server may give more when it answers from its cache. 0: no limit.</param>
    /// <param name="continuation">From the page before; null for the first.</param>
    /// <param name="resourceVersion">
    /// Null: the newest state, by a quorum. "0": whatever the server has in memory. Else: not older than this, or <see cref="ApiErrorKind.NotYet"/>.
    /// Only for the first page.
    /// </param>
    /// <param name="cancellation">Ends the request.</param>
    public async Task<ApiResult<ResourceList<T>>> ListPageAsync<T>(
        ResourceKind<T> kind, Selection selection, int limit, string? continuation, string? resourceVersion, CancellationToken cancellation)
        where T : class, IResource
    {
        ArgumentNullException.ThrowIfNull(kind);
        var query = Query(selection);
        if (limit > 0)
        {
            query.Add($"limit={limit}");
        }

        if (continuation is not null)
        {
            query.Add("continue=" + Uri.EscapeDataString(continuation));
        }
        else if (resourceVersion is not null)
        {
            query.Add("resourceVersion=" + Uri.EscapeDataString(resourceVersion));

            // Unsaid, a version together with a limit means exactly that version, which may be forgotten already.
            if (resourceVersion != "0")
            {
                query.Add("resourceVersionMatch=NotOlderThan");
            }
        }

        var answer = await SendAsync(HttpMethod.Get, PathAndQuery(kind, selection, query), null, cancellation).ConfigureAwait(false);
        if (answer.Error is { } error)
        {
            return error;
        }

        try
        {
            return ResourceList<T>.Parse(answer.Value, kind);
        }
        catch (JsonException e)
        {
            return new ApiError(ApiErrorKind.Malformed, $"GET {kind.PathOf(selection.Namespace)}: {e.Message}");
        }
    }

    /// <summary>Reads a list to its end, page by page.</summary>
    /// <returns>The objects, or <see cref="ApiErrorKind.Gone"/> when the list took so long that the server forgot its beginning.</returns>
    public async Task<ApiResult<ResourceList<T>>> ListAsync<T>(
        ResourceKind<T> kind, Selection selection, CancellationToken cancellation, string? resourceVersion = null)
        where T : class, IResource
    {
        var items = new List<T>();
        string? continuation = null;

        // With a limit a server answers from etcd what it could answer from memory. "0" is the exception: there it ignores the limit.
        var limit = resourceVersion is null or "0" ? PageSize : 0;
        while (true)
        {
            var page = await ListPageAsync(kind, selection, limit, continuation, resourceVersion, cancellation).ConfigureAwait(false);
            if (page.Value is not { } list)
            {
                return page;
            }

            items.AddRange(list.Items);
            continuation = list.Continue;
            if (continuation is null)
            {
                return new ResourceList<T>(items, list.ResourceVersion, null);
            }
        }
    }

    /// <summary>Creates an object.</summary>
    public Task<ApiResult<T>> CreateAsync<T>(ResourceKind<T> kind, T resource, CancellationToken cancellation)
        where T : class, IResource
    {
        ArgumentNullException.ThrowIfNull(kind);
        ArgumentNullException.ThrowIfNull(resource);
        return ObjectAsync(kind, HttpMethod.Post, kind.PathOf(resource.Metadata.Namespace), Json(kind.Write(resource)), cancellation);
    }

    /// <summary>
    /// Replaces an object; fields that <typeparamref name="T"/> does not have are lost. With a resource version in its metadata this fails
    /// with <see cref="ApiErrorKind.Conflict"/> when the object has changed since.
    /// </summary>
    public Task<ApiResult<T>> UpdateAsync<T>(ResourceKind<T> kind, T resource, CancellationToken cancellation)
        where T : class, IResource
    {
        ArgumentNullException.ThrowIfNull(kind);
        return ObjectAsync(kind, HttpMethod.Put, kind.PathOf(ObjectKey.Of(resource)), Json(kind.Write(resource)), cancellation);
    }

    /// <summary>Server-side apply: what is in <paramref name="resource"/> will be so, and what this manager applied before and now leaves out goes.</summary>
    /// <param name="kind">What.</param>
    /// <param name="resource">Only the fields that the manager wants to own; no resource version unless a change in between must be a conflict.</param>
    /// <param name="manager">The field manager's name; the same every time.</param>
    /// <param name="force">Whether fields that another manager owns are taken; otherwise they are a <see cref="ApiErrorKind.Conflict"/>.</param>
    /// <param name="cancellation">Ends the request.</param>
    public Task<ApiResult<T>> ApplyAsync<T>(ResourceKind<T> kind, T resource, string manager, bool force, CancellationToken cancellation)
        where T : class, IResource => ApplyAsync(kind, resource, "", manager, force, cancellation);

    /// <summary>Server-side apply of the status; the rest of <paramref name="resource"/> but its name is ignored by the server.</summary>
    public Task<ApiResult<T>> ApplyStatusAsync<T>(ResourceKind<T> kind, T resource, string manager, bool force, CancellationToken cancellation)
        where T : class, IResource => ApplyAsync(kind, resource, "/status", manager, force, cancellation);

    /// <summary>JSON merge patch (RFC 7386): null removes, lists are replaced whole.</summary>
    public Task<ApiResult<T>> MergePatchAsync<T>(ResourceKind<T> kind, ObjectKey key, JsonObject patch, CancellationToken cancellation)
        where T : class, IResource => MergePatchAsync(kind, key, "", patch, cancellation);

    /// <summary>JSON merge patch of the status.</summary>
    /// <param name="kind">What.</param>
    /// <param name="key">Where.</param>
    /// <param name="patch">With <c>status</c> at its root.</param>
    /// <param name="cancellation">Ends the request.</param>
    public Task<ApiResult<T>> MergePatchStatusAsync<T>(ResourceKind<T> kind, ObjectKey key, JsonObject patch, CancellationToken cancellation)
        where T : class, IResource => MergePatchAsync(kind, key, "/status", patch, cancellation);

    /// <summary>Asks for an object's deletion; it stays while it has finalizers.</summary>
    /// <returns>Null when the server has taken the wish.</returns>
    public async Task<ApiError?> DeleteAsync<T>(ResourceKind<T> kind, ObjectKey key, DeletePreconditions? preconditions, CancellationToken cancellation)
        where T : class, IResource
    {
        ArgumentNullException.ThrowIfNull(kind);
        var body = JsonSerializer.SerializeToUtf8Bytes(new DeleteBody { Preconditions = preconditions }, WireJson.Default.DeleteBody);
        return (await SendAsync(HttpMethod.Delete, kind.PathOf(key), Json(body), cancellation).ConfigureAwait(false)).Error;
    }

    /// <summary>Closes the connections.</summary>
    public void Dispose() => _http.Dispose();

    /// <summary>Starts a watch. Its events follow <paramref name="resourceVersion"/> without a gap.</summary>
    /// <param name="kind">What.</param>
    /// <param name="selection">Which of them.</param>
    /// <param name="resourceVersion">From a list, an event or a bookmark.</param>
    /// <param name="length">After this long the server ends it, in whole seconds.</param>
    /// <param name="longestLine">An event larger than this many bytes ends it with <see cref="ApiErrorKind.Malformed"/>.</param>
    /// <param name="cancellation">Ends the request.</param>
    internal async Task<ApiResult<WatchStream<T>>> WatchAsync<T>(
        ResourceKind<T> kind, Selection selection, string resourceVersion, TimeSpan length, int longestLine, CancellationToken cancellation)
        where T : class, IResource
    {
        var query = Query(selection);
        query.Add("watch=true");
        query.Add("allowWatchBookmarks=true");
        query.Add("resourceVersion=" + Uri.EscapeDataString(resourceVersion));
        query.Add($"timeoutSeconds={(long)length.TotalSeconds}");
        var (response, error) = await BeginAsync(HttpMethod.Get, PathAndQuery(kind, selection, query), null, cancellation).ConfigureAwait(false);
        if (response is null)
        {
            return error!;
        }

        try
        {
            var body = await response.Content.ReadAsStreamAsync(cancellation).ConfigureAwait(false);
            return new WatchStream<T>(kind, response, body, longestLine);
        }
        catch
        {
            response.Dispose();
            throw;
        }
    }

    private static ByteArrayContent Content(byte[] bytes, string type)
    {
        var content = new ByteArrayContent(bytes);
        content.Headers.ContentType = new MediaTypeHeaderValue(type);
        return content;
    }

    private static ByteArrayContent Json(byte[] bytes) => Content(bytes, "application/json");

    private static List<string> Query(Selection selection)
    {
        var query = new List<string>();
        if (selection.Labels is { } labels)
        {
            query.Add("labelSelector=" + Uri.EscapeDataString(labels));
        }

        if (selection.Fields is { } fields)
        {
            query.Add("fieldSelector=" + Uri.EscapeDataString(fields));
        }

        return query;
    }

    private static string PathAndQuery<T>(ResourceKind<T> kind, Selection selection, List<string> query)
        where T : class, IResource => query.Count == 0 ? kind.PathOf(selection.Namespace) : $"{kind.PathOf(selection.Namespace)}?{string.Join('&', query)}";

    /// <summary>Reads a body whole.</summary>
    /// <returns>Null when it is larger than the limit.</returns>
    private static async Task<byte[]?> ReadAsync(HttpContent content, int limit, CancellationToken cancellation)
    {
        var stream = await content.ReadAsStreamAsync(cancellation).ConfigureAwait(false);
        await using (stream.ConfigureAwait(false))
        {
            using var whole = new MemoryStream();
            var buffer = new byte[16 << 10];
            while (await stream.ReadAsync(buffer, cancellation).ConfigureAwait(false) is var count and > 0)
            {
                if (whole.Length + count > limit)
                {
                    return null;
                }

                whole.Write(buffer, 0, count);
            }

            return whole.ToArray();
        }
    }

    private Task<ApiResult<T>> ApplyAsync<T>(ResourceKind<T> kind, T resource, string part, string manager, bool force, CancellationToken cancellation)
        where T : class, IResource
    {
        ArgumentNullException.ThrowIfNull(kind);
        var path = $"{kind.PathOf(ObjectKey.Of(resource))}{part}?fieldManager={Uri.EscapeDataString(manager)}&force={(force ? "true" : "false")}";
        // JSON is YAML.
        return ObjectAsync(kind, HttpMethod.Patch, path, Content(kind.Write(resource), "application/apply-patch+yaml"), cancellation);
    }

    private Task<ApiResult<T>> MergePatchAsync<T>(ResourceKind<T> kind, ObjectKey key, string part, JsonObject patch, CancellationToken cancellation)
        where T : class, IResource
    {
        ArgumentNullException.ThrowIfNull(kind);
        return ObjectAsync(kind, HttpMethod.Patch, kind.PathOf(key) + part, Content(JsonBytes.Of(patch), "application/merge-patch+json"), cancellation);
    }

    private async Task<ApiResult<T>> ObjectAsync<T>(ResourceKind<T> kind, HttpMethod method, string path, HttpContent? content, CancellationToken cancellation)
        where T : class, IResource
    {
        var answer = await SendAsync(method, path, content, cancellation).ConfigureAwait(false);
        if (answer.Error is { } error)
        {
            return error;
        }

        try
        {
            return JsonSerializer.Deserialize(answer.Value, kind.Json) is { } value
                ? value
                : new ApiError(ApiErrorKind.Malformed, $"{method} {path}: the answer is null");
        }
        catch (JsonException e)
        {
            return new ApiError(ApiErrorKind.Malformed, $"{method} {path}: {e.Message}");
        }
    }

    /// <summary>Sends a request and reads its answer whole, all within the time limit.</summary>
    private async Task<ApiResult<byte[]>> SendAsync(HttpMethod method, string path, HttpContent? content, CancellationToken cancellation)
    {
        using var limit = new CancellationTokenSource(_requestLimit, _time);
        using var both = CancellationTokenSource.CreateLinkedTokenSource(cancellation, limit.Token);
        try
        {
            var (response, error) = await BeginAsync(method, path, content, both.Token).ConfigureAwait(false);
            if (response is null)
            {
                return error!;
            }

            using (response)
            {
                return await ReadAsync(response.Content, LargestAnswer, both.Token).ConfigureAwait(false) is { } bytes
                    ? bytes
                    : new ApiError(ApiErrorKind.Malformed, $"{method} {path}: the answer is larger than {LargestAnswer} bytes");
            }
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            return new ApiError(ApiErrorKind.Unreachable, $"{method} {path}: no answer from {_server} within {_requestLimit.TotalSeconds:0} s");
        }
        catch (Exception e) when (e is IOException or HttpRequestException)
        {
            return new ApiError(ApiErrorKind.Unreachable, $"{method} {path}: the answer of {_server} broke off: {e.Message}");
        }
    }

    /// <summary>Sends a request until the answer's head is there.</summary>
    /// <returns>A response that went well and whose body is still to be read, or the error.</returns>
    private async Task<(HttpResponseMessage? Response, ApiError? Error)> BeginAsync(
        HttpMethod method, string path, HttpContent? content, CancellationToken cancellation)
    {
        var name = $"{method} {path}";
        using var request = new HttpRequestMessage(method, new Uri(_server, path))
        {
            Content = content,
            Version = HttpVersion.Version20,
            VersionPolicy = HttpVersionPolicy.RequestVersionOrLower,
        };
        request.Headers.Accept.Add(new MediaTypeWithQualityHeaderValue("application/json"));
        _ = request.Headers.TryAddWithoutValidation("User-Agent", _userAgent);
        if (_tokens is not null)
        {
            try
            {
                request.Headers.Authorization = await _tokens.GetAuthenticationHeaderAsync(cancellation).ConfigureAwait(false);
            }
            catch (Exception e) when (e is not OperationCanceledException)
            {
                // A token file that is just being replaced, or a credential plugin that failed: the next try may go well.
                return (null, new ApiError(ApiErrorKind.Unauthorized, $"{name}: no token: {e.GetBaseException().Message}"));
            }
        }

        HttpResponseMessage response;
        try
        {
            response = await _http.SendAsync(request, cancellation).ConfigureAwait(false);
        }
        catch (HttpRequestException e)
        {
            return (null, new ApiError(ApiErrorKind.Unreachable, $"{name}: cannot reach {_server}: {e.GetBaseException().Message}"));
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            return (null, new ApiError(ApiErrorKind.Unreachable, $"{name}: no connection to {_server} within {_connectLimit.TotalSeconds:0} s"));
        }

        if (response.IsSuccessStatusCode)
        {
            return (response, null);
        }

        using (response)
        {
            return (null, await ErrorAsync(name, response, cancellation).ConfigureAwait(false));
        }
    }

    private static async Task<ApiError> ErrorAsync(string name, HttpResponseMessage response, CancellationToken cancellation)
    {
        byte[]? body;
        try
        {
            body = await ReadAsync(response.Content, LargestError, cancellation).ConfigureAwait(false);
        }
        catch (Exception e) when (e is IOException or HttpRequestException)
        {
            body = null; // The status alone says enough.
        }

        StatusBody? status = null;
        string? text = null;
        if (body is not null)
        {
            try
            {
                status = JsonSerializer.Deserialize(body, WireJson.Default.StatusBody);
            }
            catch (JsonException)
            {
                text = System.Text.Encoding.UTF8.GetString(body.AsSpan(0, Math.Min(body.Length, 512))); // a proxy's page
            }
        }

        var error = ApiError.FromStatus(name, (int)response.StatusCode, status, text);
        return error.RetryAfter is null && response.Headers.RetryAfter?.Delta is { } delta ? error with { RetryAfter = delta } : error;
    }
}
