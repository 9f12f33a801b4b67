using System.Net.Sockets;
using Google.Protobuf;
using Skiff.Ttrpc.Wire;

namespace Skiff.Ttrpc;

/// <summary>
/// Calls a ttrpc server over a unix socket; many calls may be in flight at once. Once the connection has ended every call fails with
/// <see cref="TtrpcCode.Unavailable"/>: whether the server got it is then not known.
/// </summary>
public sealed class TtrpcClient : IDisposable
{
    private readonly Lock _lock = new();
    private readonly Dictionary<uint, Call> _pending = [];
    private readonly FrameConnection _connection;
    private readonly TimeProvider _time;
    private readonly SemaphoreSlim _ordering = new(1, 1);
    private ulong _next = 1;
    private bool _over;

    private TtrpcClient(Socket socket, TimeProvider time)
    {
        _connection = new FrameConnection(socket);
        _time = time;
        _ = ReceiveAllAsync();
    }

    /// <summary>Whether the connection has ended; calls then fail at once.</summary>
    public bool IsClosed => Volatile.Read(ref _over);

    /// <summary>Connects.</summary>
    /// <exception cref="SocketException">Nobody listens there.</exception>
    public static Task<TtrpcClient> ConnectAsync(string path, CancellationToken cancellation = default) =>
        ConnectAsync(path, TimeProvider.System, cancellation);

    /// <summary>Connects.</summary>
    /// <param name="path">The socket's path.</param>
    /// <param name="time">The clock of timeouts.</param>
    /// <param name="cancellation">Gives up.</param>
    /// <exception cref="SocketException">Nobody listens there.</exception>
    public static async Task<TtrpcClient> ConnectAsync(string path, TimeProvider time, CancellationToken cancellation = default)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(path), cancellation).ConfigureAwait(false);
            return new TtrpcClient(socket, time);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    /// <summary>Calls a method.</summary>
    /// <param name="service">The service's full name.</param>
    /// <param name="method">The method.</param>
    /// <param name="request">What to send.</param>
    /// <param name="parser">Decodes the answer.</param>
    /// <param name="timeout">How long to wait here; the server is told, too. Null and infinite are the same.</param>
    /// <param name="cancellation">Gives up.</param>
    /// <returns>
    /// The answer, or the server's error; <see cref="TtrpcCode.Unavailable"/> when the connection ended first,
    /// <see cref="TtrpcCode.DeadlineExceeded"/> when the time did.
    /// </returns>
    /// <exception cref="OperationCanceledException">Cancelled; an answer that still comes is dropped.</exception>
    public Task<TtrpcResult<TResponse>> CallAsync<TResponse>(
        string service, string method, IMessage request, MessageParser<TResponse> parser, TimeSpan? timeout = null, CancellationToken cancellation = default)
        where TResponse : class, IMessage<TResponse> =>
        CallAsync(service, method, request, parser, timeout, metadata: null, cancellation);

    /// <summary>Calls a method, with metadata.</summary>
    /// <param name="service">The service's full name.</param>
    /// <param name="method">The method.</param>
    /// <param name="request">What to send.</param>
    /// <param name="parser">Decodes the answer.</param>
    /// <param name="timeout">How long to wait here; the server is told, too. Null and infinite are the same.</param>
    /// <param name="metadata">A key may come more than once. Keys are sent in lower case, the only one in which a Go server finds them.</param>
    /// <param name="cancellation">Gives up.</param>
    /// <returns>As without metadata.</returns>
    /// <exception cref="OperationCanceledException">Cancelled; an answer that still comes is dropped.</exception>
    public async Task<TtrpcResult<TResponse>> CallAsync<TResponse>(
        string service,
        string method,
        IMessage request,
        MessageParser<TResponse> parser,
        TimeSpan? timeout,
        IEnumerable<KeyValuePair<string, string>>? metadata,
        CancellationToken cancellation)
        where TResponse : class, IMessage<TResponse>
    {
        ArgumentNullException.ThrowIfNull(parser);
        var result = await CallAsync(service, method, request.ToByteString(), timeout, metadata, cancellation).ConfigureAwait(false);
        if (result.Error is { } error)
        {
            return error;
        }

        try
        {
            return parser.ParseFrom(result.Value);
        }
        catch (InvalidProtocolBufferException e)
        {
            return new TtrpcError(TtrpcCode.Internal, $"{service}/{method}: the answer cannot be decoded: {e.Message}");
        }
    }

    /// <summary>Calls a method with messages that are encoded already.</summary>
    /// <param name="service">The service's full name.</param>
    /// <param name="method">The method.</param>
    /// <param name="payload">The request.</param>
    /// <param name="timeout">How long to wait here; the server is told, too. Null and infinite are the same.</param>
    /// <param name="metadata">A key may come more than once. Keys are sent in lower case, the only one in which a Go server finds them.</param>
    /// <param name="cancellation">Gives up.</param>
    /// <returns>As with typed messages.</returns>
    /// <exception cref="OperationCanceledException">Cancelled; an answer that still comes is dropped.</exception>
    public async Task<TtrpcResult<ByteString>> CallAsync(
        string service,
        string method,
        ByteString payload,
        TimeSpan? timeout = null,
        IEnumerable<KeyValuePair<string, string>>? metadata = null,
        CancellationToken cancellation = default)
    {
        cancellation.ThrowIfCancellationRequested();
        if (timeout == Timeout.InfiniteTimeSpan || timeout?.TotalMilliseconds >= uint.MaxValue)
        {
            timeout = null; // longer than a timer can hold is longer than anybody waits
        }

        var call = new Call($"{service}/{method}");
        if (timeout <= TimeSpan.Zero)
        {
            return call.Late();
        }

        var request = new Request { Service = service, Method = method, Payload = payload, TimeoutNano = (timeout?.Ticks * 100) ?? 0 };
        foreach (var (key, value) in metadata ?? [])
        {
            request.Metadata.Add(new KeyValue { Key = key.ToLowerInvariant(), Value = value });
        }

        if (request.CalculateSize() is var size and > FrameHeader.MaxLength)
        {
            return new TtrpcError(TtrpcCode.ResourceExhausted, $"{call.Name}: the request has {size} bytes; the limit is {FrameHeader.MaxLength}");
        }

        using var limit = timeout is { } time ? new CancellationTokenSource(time, _time) : null;
        using var both = limit is null ? null : CancellationTokenSource.CreateLinkedTokenSource(limit.Token, cancellation);
        var token = both?.Token ?? cancellation;
        try
        {
            // Beside the wait and not before it: a server that has stopped reading would hold up the caller beyond its patience.
            _ = SendAsync(call, request, token);
            return await call.Answer.Task.WaitAsync(token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            return call.Late();
        }
        finally
        {
            lock (_lock)
            {
                call.IsForgotten = true;
                _ = _pending.Remove(call.Stream);
            }
        }
    }

    /// <summary>Closes the connection; calls in flight fail.</summary>
    public void Dispose() => _connection.Dispose();

    // Whatever goes wrong here becomes the call's answer.
    private async Task SendAsync(Call call, Request request, CancellationToken cancellation)
    {
        // The server wants growing stream numbers, so numbering and writing are one step.
        try
        {
            await _ordering.WaitAsync(cancellation).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            return; // the caller has gone
        }

        try
        {
            bool isOver;
            lock (_lock)
            {
                if (call.IsForgotten)
                {
                    return;
                }

                isOver = _over || _next > uint.MaxValue; // stream numbers are not used twice, so when they run out the connection ends
                if (!isOver)
                {
                    call.Stream = (uint)_next;
                    _next += 2;
                    _pending.Add(call.Stream, call);
                }
            }

            if (isOver)
            {
                _connection.Dispose();
            }

            if (isOver || !await _connection.WriteAsync(call.Stream, FrameType.Request, request).ConfigureAwait(false))
            {
                _ = call.Answer.TrySetResult(call.Gone());
            }
        }
        finally
        {
            _ = _ordering.Release();
        }
    }

    private async Task ReceiveAllAsync()
    {
        while (await _connection.ReadHeaderAsync().ConfigureAwait(false) is { } header && await ReceiveAsync(header).ConfigureAwait(false))
        {
        }

        Call[] left;
        lock (_lock)
        {
            _over = true;
            left = [.. _pending.Values];
        }

        _connection.Dispose();
        foreach (var call in left)
        {
            _ = call.Answer.TrySetResult(call.Gone());
        }
    }

    // False when the connection is over.
    private async ValueTask<bool> ReceiveAsync(FrameHeader header)
    {
        Call? call;
        lock (_lock)
        {
            // It stays among the pending until its answer is whole, and fails with them when the connection ends before.
            call = _pending.GetValueOrDefault(header.Stream);
        }

        // Nobody waits: the call was given up.
        if (call is null)
        {
            return await _connection.SkipDataAsync(header).ConfigureAwait(false);
        }

        TtrpcResult<ByteString> answer;
        if (header.Length > FrameHeader.MaxLength || header.Type != FrameType.Response)
        {
            if (!await _connection.SkipDataAsync(header).ConfigureAwait(false))
            {
                return false;
            }

            answer = header.Type != FrameType.Response
                ? new TtrpcError(TtrpcCode.Internal, $"{call.Name}: answered with a frame of type {(byte)header.Type} instead of a response")
                : new TtrpcError(TtrpcCode.ResourceExhausted, $"{call.Name}: the answer has {header.Length} bytes; the limit is {FrameHeader.MaxLength}");
        }
        else if (await _connection.ReadDataAsync(header).ConfigureAwait(false) is { } data)
        {
            answer = Decode(call, data);
        }
        else
        {
            return false;
        }

        _ = call.Answer.TrySetResult(answer);
        return true;
    }

    private static TtrpcResult<ByteString> Decode(Call call, byte[] data)
    {
        try
        {
            var response = Response.Parser.ParseFrom(data);
            return response.Status is { Code: not 0 } status ? new TtrpcError((TtrpcCode)status.Code, status.Message) : response.Payload;
        }
        catch (InvalidProtocolBufferException e)
        {
            return new TtrpcError(TtrpcCode.Internal, $"{call.Name}: the response envelope cannot be decoded: {e.Message}");
        }
    }

    private sealed class Call(string name)
    {
        public string Name => name;

        // The caller goes on elsewhere, so that no caller can hold up the reading.
        public TaskCompletionSource<TtrpcResult<ByteString>> Answer { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

        // Zero, which no call has, until it is sent. Guarded by the client's lock, as is the next.
        public uint Stream { get; set; }

        public bool IsForgotten { get; set; }

        public TtrpcError Gone() => new(TtrpcCode.Unavailable, $"{name}: the connection has ended");

        public TtrpcError Late() => new(TtrpcCode.DeadlineExceeded, $"{name}: no answer in time");
    }
}
