using Microsoft.Extensions.Logging;

namespace Skiff.Kubernetes.Watching;

/// <summary>How an object in an <see cref="Informer{T}"/> changed.</summary>
public enum ChangeKind
{
    /// <summary>It was not there before.</summary>
    Added,

    /// <summary>It is another than before.</summary>
    Updated,

    /// <summary>It is no longer there, or no longer selected.</summary>
    Deleted,

    /// <summary>Nothing; the resync time is over.</summary>
    Resync,
}

/// <summary>A change in an <see cref="Informer{T}"/>.</summary>
/// <param name="Kind">What happened.</param>
/// <param name="Current">The object now, or its last known state when it is gone.</param>
/// <param name="Before">What it was; null for <see cref="ChangeKind.Added"/>.</param>
/// <typeparam name="T">The objects.</typeparam>
public sealed record ResourceChange<T>(ChangeKind Kind, T Current, T? Before)
    where T : class, IResource;

/// <summary>Settings of an <see cref="Informer{T}"/>.</summary>
/// <typeparam name="T">The objects.</typeparam>
public sealed record InformerOptions<T>
    where T : class, IResource
{
    /// <summary>Which objects.</summary>
    public Selection Selection { get; init; } = Selection.All;

    /// <summary>What of an object is kept; name, namespace and resource version must stay. Null: all of it.</summary>
    public Func<T, T>? Trim { get; init; }

    /// <summary>How often every object is reported again, so that a reconciler finds drift outside the API server. Null: never.</summary>
    public TimeSpan? Resync { get; init; }

    /// <summary>How long one watch lasts at least; at most twice that. Then the server ends it, and a new one goes on.</summary>
    public TimeSpan WatchLength { get; init; } = TimeSpan.FromMinutes(5);

    /// <summary>The largest event in bytes.</summary>
    public int LongestLine { get; init; } = 8 << 20;
}

/// <summary>
/// Keeps a copy of a set of objects: lists them, watches from there, and says what changed.
/// <list type="bullet">
/// <item>A watch that ends or breaks goes on from the last event or bookmark; nothing is missed.</item>
/// <item>When the server no longer remembers that point (410 Gone) the set is listed again, and the difference is reported.</item>
/// <item>No list takes it back in time, also when another server answers that lags behind; only one whose data are from a backup can.</item>
/// <item>A watch that hangs is noticed when the server should have ended it, and a dead connection by the client's pings.</item>
/// <item>Failures are retried for ever, ever more slowly; the cache keeps its last state meanwhile.</item>
/// </list>
/// </summary>
/// <typeparam name="T">The objects.</typeparam>
public sealed partial class Informer<T>
    where T : class, IResource
{
    private static readonly TimeSpan _firstPause = TimeSpan.FromMilliseconds(500);
    private static readonly TimeSpan _longestPause = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan _startLimit = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan _grace = TimeSpan.FromSeconds(30);

    private readonly Lock _lock = new();
    private readonly Dictionary<ObjectKey, T> _objects = [];
    private readonly TaskCompletionSource _synced = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly KubeClient _client;
    private readonly ResourceKind<T> _kind;
    private readonly InformerOptions<T> _options;
    private readonly ILogger _logger;
    private readonly TimeProvider _time;
    private Action<ResourceChange<T>>? _changed;

    /// <summary>Prepares it; nothing is sent before <see cref="RunAsync"/>.</summary>
    public Informer(KubeClient client, ResourceKind<T> kind, InformerOptions<T> options, ILogger logger, TimeProvider time)
    {
        ArgumentNullException.ThrowIfNull(client);
        ArgumentNullException.ThrowIfNull(kind);
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(logger);
        ArgumentNullException.ThrowIfNull(time);
        _client = client;
        _kind = kind;
        _options = options;
        _logger = logger;
        _time = time;
    }

    /// <summary>Whether the first list has been read and reported.</summary>
    public bool HasSynced => _synced.Task.IsCompleted;

    /// <summary>Why the last list or watch failed; null while all is well.</summary>
    public ApiError? LastError { get; private set; }

    /// <summary>
    /// Reports every change, one after another, also those that led to the first state. Subscribe before <see cref="RunAsync"/>; a handler
    /// must be quick and must not throw: it is there to put a key into a queue.
    /// </summary>
    public void OnChange(Action<ResourceChange<T>> handler) => _changed += handler;

    /// <summary>Waits for <see cref="HasSynced"/>.</summary>
    public Task WaitForSyncAsync(CancellationToken cancellation) => _synced.Task.WaitAsync(cancellation);

    /// <summary>The object as last seen; null when there is none.</summary>
    public T? Get(ObjectKey key)
    {
        lock (_lock)
        {
            return _objects.GetValueOrDefault(key);
        }
    }

    /// <summary>All objects as last seen.</summary>
    public IReadOnlyList<T> List()
    {
        lock (_lock)
        {
            return [.. _objects.Values];
        }
    }

    /// <summary>Lists and watches until cancelled, and then returns.</summary>
    public async Task RunAsync(CancellationToken cancellation)
    {
        var resync = ResyncAsync(cancellation);
        try
        {
            await FollowAsync(cancellation).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
            // The caller's wish.
        }

        await resync.ConfigureAwait(false);
    }

    private async Task FollowAsync(CancellationToken cancellation)
    {
        // As client-go's reflector does: "0" lets the server answer from memory, later lists ask for nothing older than what was seen, and null
        // for the newest state, which needs a quorum of etcd.
        var notOlderThan = "0";
        string? version = null;
        var failures = 0;
        while (true)
        {
            if (version is null)
            {
                var list = await _client.ListAsync(_kind, _options.Selection, cancellation, notOlderThan).ConfigureAwait(false);
                if (list.Value is { ResourceVersion: { } listed } state)
                {
                    Replace(state.Items);
                    notOlderThan = version = listed;
                    LastError = null;
                    _ = _synced.TrySetResult();
                }
                else
                {
                    var error = list.Error ?? new ApiError(ApiErrorKind.Malformed, $"list of {_kind.Plural}: no resource version");

                    // This server has not come to the version, or cannot read it: its data may be from a backup, and then it never will.
                    // The quorum's state is no step back for one that only lags. Any other failure says nothing about the version.
                    if (error.Kind is ApiErrorKind.Gone or ApiErrorKind.NotYet or ApiErrorKind.Invalid)
                    {
                        notOlderThan = null;
                    }

                    await PauseAsync(error).ConfigureAwait(false);
                    continue;
                }
            }

            var (reached, problem) = await WatchAsync(version, cancellation).ConfigureAwait(false);
            if (reached is not null)
            {
                version = reached;
                notOlderThan = reached;
            }

            // A list alone is no progress: a watch that always breaks at once must not make this list again and again without a growing pause.
            if (reached is not null || problem is null)
            {
                failures = 0;
            }

            if (problem is null)
            {
                continue;
            }

            if (problem.Kind != ApiErrorKind.Unreachable)
            {
                version = null;
            }

            await PauseAsync(problem).ConfigureAwait(false);
        }

        async Task PauseAsync(ApiError error)
        {
            LastError = error;
            failures++;
            var pause = Backoff.After(failures, _firstPause, _longestPause);
            if (error.RetryAfter is { } wish && wish > pause)
            {
                pause = wish + Backoff.Jitter(pause);
            }

            Log.Failed(_logger, _kind.Plural, error.Kind, error.Message, pause);
            await Task.Delay(pause, _time, cancellation).ConfigureAwait(false);
        }
    }

    /// <summary>One watch, until the server ends it or it breaks.</summary>
    /// <returns>The newest resource version it came to, if any event or bookmark came; and what ended it, unless its time was over.</returns>
    private async Task<(string? Reached, ApiError? Problem)> WatchAsync(string version, CancellationToken cancellation)
    {
        // Spread, so that the watches of many programs do not end together.
        var length = TimeSpan.FromSeconds(Math.Ceiling((_options.WatchLength * (1 + Random.Shared.NextDouble())).TotalSeconds));
        using var guard = new CancellationTokenSource(_startLimit, _time);
        using var both = CancellationTokenSource.CreateLinkedTokenSource(cancellation, guard.Token);
        var begun = _time.GetTimestamp();
        string? reached = null;
        try
        {
            var start = await _client.WatchAsync(_kind, _options.Selection, version, length, _options.LongestLine, both.Token).ConfigureAwait(false);
            if (start.Value is not { } stream)
            {
                return (null, start.Error);
            }

            await using (stream.ConfigureAwait(false))
            {
                guard.CancelAfter(length + _grace);
                LastError = null;
                while (true)
                {
                    var item = await stream.ReadAsync(both.Token).ConfigureAwait(false);
                    switch (item.Kind)
                    {
                        case WatchItemKind.Upserted:
                            Put(Trim(item.Object!));
                            break;
                        case WatchItemKind.Deleted:
                            Remove(Trim(item.Object!));
                            break;
                        case WatchItemKind.Bookmark:
                            break;
                        case WatchItemKind.End when reached is null && _time.GetElapsedTime(begun) < length / 2:
                            // A server that is shutting down ends watches early. Without a pause this would be a busy loop.
                            return (null, new ApiError(ApiErrorKind.Unreachable, $"watch of {_kind.Plural}: ended early and without an event"));
                        case WatchItemKind.End:
                            return (reached, null);
                        default:
                            return (reached, item.Error);
                    }

                    reached = item.ResourceVersion ?? reached;
                }
            }
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            return (reached, new ApiError(ApiErrorKind.Unreachable, $"watch of {_kind.Plural}: silent past its time"));
        }
    }

    private async Task ResyncAsync(CancellationToken cancellation)
    {
        if (_options.Resync is not { } period)
        {
            return;
        }

        try
        {
            await _synced.Task.WaitAsync(cancellation).ConfigureAwait(false);
            using var timer = new PeriodicTimer(period, _time);
            while (await timer.WaitForNextTickAsync(cancellation).ConfigureAwait(false))
            {
                lock (_lock)
                {
                    foreach (var resource in _objects.Values)
                    {
                        _changed?.Invoke(new ResourceChange<T>(ChangeKind.Resync, resource, resource));
                    }
                }
            }
        }
        catch (OperationCanceledException)
        {
            // The caller's wish.
        }
    }

    private void Replace(IReadOnlyList<T> items)
    {
        lock (_lock)
        {
            var gone = new HashSet<ObjectKey>(_objects.Keys);
            foreach (var item in items)
            {
                _ = gone.Remove(ObjectKey.Of(item));
                Put(Trim(item));
            }

            foreach (var key in gone)
            {
                Remove(_objects[key]);
            }
        }
    }

    private T Trim(T resource) => _options.Trim?.Invoke(resource) ?? resource;

    private void Put(T resource)
    {
        var key = ObjectKey.Of(resource);

        // Handlers are called under the lock, so that they hear of changes in their order, also of those that the resync timer reports.
        lock (_lock)
        {
            var before = _objects.GetValueOrDefault(key);
            if (before is not null && before.Metadata.ResourceVersion == resource.Metadata.ResourceVersion)
            {
                return;
            }

            _objects[key] = resource;
            _changed?.Invoke(new ResourceChange<T>(before is null ? ChangeKind.Added : ChangeKind.Updated, resource, before));
        }
    }

    private void Remove(T last)
    {
        lock (_lock)
        {
            if (_objects.Remove(ObjectKey.Of(last), out var before))
            {
                _changed?.Invoke(new ResourceChange<T>(ChangeKind.Deleted, last, before));
            }
        }
    }

    private static partial class Log
    {
        [LoggerMessage(100, LogLevel.Warning, "a list or watch failed: resource={Resource} kind={Kind} error={Error} pause={Pause}")]
        public static partial void Failed(ILogger logger, string resource, ApiErrorKind kind, string error, TimeSpan pause);
    }
}
