using System.Net.Sockets;
using Google.Protobuf;
using Microsoft.Extensions.Logging;
using Skiff.Ttrpc.Wire;

namespace Skiff.Ttrpc;

/// <summary>
/// One peer of a server. Frames are read one after another, and what can be refused is refused at once, as containerd/ttrpc server.go
/// does; calls run beside the reading, so that one that waits holds up no other.
/// </summary>
internal sealed partial class ServerConnection(
    Socket socket, IReadOnlyDictionary<string, TtrpcService> services, ILogger logger, TimeProvider time) : IDisposable
{
    // More at once than any containerd sends; it bounds what one peer can pile up.
    public const int MaxInFlight = 1024;

    // Errors quote what the caller sent, and must fit into a frame whatever that was.
    private const int MaxMessage = 16 << 10;

    private readonly Lock _lock = new();
    private readonly FrameConnection _frames = new(socket);
    private readonly CancellationTokenSource _ended = new();
    private uint _last;
    private int _unanswered; // calls whose answer is not written yet
    private int _running; // these, and those answered at their deadline whose handler has not noticed
    private bool _draining;

    /// <summary>Serves until the peer or <see cref="Dispose"/> ends the connection, then cancels the handlers.</summary>
    public async Task ServeAsync()
    {
        try
        {
            while (await _frames.ReadHeaderAsync().ConfigureAwait(false) is { } header && await HandleFrameAsync(header).ConfigureAwait(false))
            {
            }
        }
        finally
        {
            _frames.Dispose();
            _ = CancelAsync(_ended);
        }
    }

    /// <summary>Takes no more calls, and closes the connection when all have been answered: at once if none is in flight.</summary>
    public void Drain()
    {
        lock (_lock)
        {
            _draining = true;
            if (_unanswered > 0)
            {
                return;
            }
        }

        _frames.Dispose();
    }

    /// <summary>Closes the connection.</summary>
    public void Dispose() => _frames.Dispose();

    // False when the connection is over.
    private async ValueTask<bool> HandleFrameAsync(FrameHeader header)
    {
        if (header.Length > FrameHeader.MaxLength)
        {
            return await _frames.SkipDataAsync(header).ConfigureAwait(false)
                && await RefuseAsync(header, TtrpcCode.ResourceExhausted, $"a frame of {header.Length} bytes exceeds the limit of {FrameHeader.MaxLength}").ConfigureAwait(false);
        }

        if (header.Type == FrameType.Request && header.Stream % 2 == 1 && header.Stream > _last)
        {
            return await _frames.ReadDataAsync(header).ConfigureAwait(false) is { } data && await HandleRequestAsync(header, data).ConfigureAwait(false);
        }

        if (!await _frames.SkipDataAsync(header).ConfigureAwait(false))
        {
            return false;
        }

        // Data of a stream that was opened is passed over: the stream has its answer, or will get it, and a second one would only confuse
        // the caller. A frame of another type belongs to a later protocol, and nobody waits for an answer to it.
        var isRefused = header.Stream % 2 == 0 || header.Type == FrameType.Request || (header.Type == FrameType.Data && header.Stream > _last);
        return !isRefused || await RefuseAsync(header, TtrpcCode.InvalidArgument, header switch
        {
            { Type: FrameType.Data, Stream: var stream } when stream % 2 == 1 => $"stream {stream} is not open",
            _ => $"stream {header.Stream} is not an odd number greater than {_last}",
        }).ConfigureAwait(false);
    }

    private ValueTask<bool> HandleRequestAsync(FrameHeader header, byte[] data)
    {
        _last = header.Stream;
        Request request;
        try
        {
            request = Request.Parser.ParseFrom(data);
        }
        catch (InvalidProtocolBufferException e)
        {
            return RefuseAsync(header, TtrpcCode.InvalidArgument, $"the request envelope cannot be decoded: {e.Message}");
        }

        if (!services.TryGetValue(request.Service, out var service))
        {
            return RefuseAsync(header, TtrpcCode.Unimplemented, $"service {request.Service} is not served here");
        }

        if (service.Find(request.Method) is not { } method)
        {
            return RefuseAsync(header, TtrpcCode.Unimplemented, $"service {request.Service} has no method {request.Method}");
        }

        if ((header.Flags & (FrameHeader.RemoteClosed | FrameHeader.RemoteOpen)) != 0)
        {
            return RefuseAsync(header, TtrpcCode.Unimplemented, $"{request.Service}/{request.Method} is a unary call and cannot be streamed");
        }

        if (request.TimeoutNano < 0)
        {
            return RefuseAsync(header, TtrpcCode.DeadlineExceeded, $"{request.Service}/{request.Method}: the caller's time was over when the request came");
        }

        bool isStopping, isFull;
        lock (_lock)
        {
            isStopping = _draining;
            isFull = _running >= MaxInFlight;
            if (!isStopping && !isFull)
            {
                _unanswered++;
                _running++;
            }
        }

        if (isStopping)
        {
            return RefuseAsync(header, TtrpcCode.Unavailable, $"{request.Service}/{request.Method}: the server is stopping");
        }

        if (isFull)
        {
            return RefuseAsync(header, TtrpcCode.ResourceExhausted, $"{request.Service}/{request.Method}: {MaxInFlight} calls are in flight on this connection");
        }

        _ = AnswerAsync(header.Stream, request, method);
        return ValueTask.FromResult(true);
    }

    private async Task AnswerAsync(uint stream, Request request, TtrpcMethod method)
    {
        // The deadline is not linked like the end: what a handler throws when it is cancelled would then come out of a timer, where nobody
        // catches it, and end the process.
        using var deadline = Deadline(request.TimeoutNano);
        using var both = deadline is null ? null : CancellationTokenSource.CreateLinkedTokenSource(_ended.Token);
        using var reached = deadline?.Token.UnsafeRegister(_ => _ = CancelAsync(both!), null);
        var token = both?.Token ?? _ended.Token;

        // Not called from here, so that the deadline is answered also when a handler never yields.
        var handling = Task.Run(() => method(request.Payload, new TtrpcContext(request), token), CancellationToken.None);
        var isReported = false;
        Response response;
        try
        {
            var result = await handling.WaitAsync(token).ConfigureAwait(false);
            response = Answer(request, result);
        }
        catch (OperationCanceledException) when (token.IsCancellationRequested)
        {
            response = deadline is { IsCancellationRequested: true }
                ? Failure(TtrpcCode.DeadlineExceeded, $"{request.Service}/{request.Method} did not end within {TimeSpan.FromTicks(request.TimeoutNano / 100).TotalSeconds} s")
                : Failure(TtrpcCode.Canceled, $"{request.Service}/{request.Method} was cancelled");
        }
        catch (Exception e)
        {
            isReported = true;
            Log.HandlerFailed(logger, request.Service, request.Method, e);
            response = Failure(TtrpcCode.Unknown, $"{request.Service}/{request.Method}: {e.Message}");
        }

        if (response.CalculateSize() is var size and > FrameHeader.MaxLength)
        {
            response = Failure(TtrpcCode.ResourceExhausted, $"{request.Service}/{request.Method}: the answer has {size} bytes; the limit is {FrameHeader.MaxLength}");
        }

        _ = await _frames.WriteAsync(stream, FrameType.Response, response).ConfigureAwait(false);
        Answered();

        // A handler that was cancelled may end much later, and then still fail.
        await ((Task)handling).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (!isReported && handling.Exception is { } late)
        {
            Log.HandlerFailed(logger, request.Service, request.Method, late.GetBaseException());
        }

        lock (_lock)
        {
            _running--;
        }
    }

    private void Answered()
    {
        lock (_lock)
        {
            if (--_unanswered > 0 || !_draining)
            {
                return;
            }
        }

        _frames.Dispose();
    }

    // Not awaited by anybody: what a handler does when it is cancelled is its own affair, however long it takes.
    private async Task CancelAsync(CancellationTokenSource handlers)
    {
        try
        {
            await handlers.CancelAsync().ConfigureAwait(false);
        }
        catch (AggregateException e)
        {
            Log.CancellationFailed(logger, e);
        }
    }

    private ValueTask<bool> RefuseAsync(FrameHeader header, TtrpcCode code, string message) =>
        _frames.WriteAsync(header.Stream, FrameType.Response, Failure(code, message));

    private static Response Answer(Request request, TtrpcResult<ByteString> result) => result switch
    {
        { Error: { Code: not TtrpcCode.Ok } error } => Failure(error.Code, error.Message),
        { Value: { } payload } => new Response { Status = new Status(), Payload = payload },
        _ => throw new InvalidOperationException($"the handler of {request.Service}/{request.Method} gave neither a message nor an error"),
    };

    private static Response Failure(TtrpcCode code, string message) => new()
    {
        Status = new Status { Code = (int)code, Message = message.Length <= MaxMessage ? message : $"{message.AsSpan(0, MaxMessage)}…" },
    };

    // Rounded up, as a call must not end before its time. What no timer can hold (49 days) needs none: no call waits so long.
    private CancellationTokenSource? Deadline(long nanoseconds)
    {
        var milliseconds = (nanoseconds / 1_000_000) + (nanoseconds % 1_000_000 > 0 ? 1 : 0);
        return milliseconds is > 0 and < uint.MaxValue ? new CancellationTokenSource(TimeSpan.FromMilliseconds(milliseconds), time) : null;
    }

    private static partial class Log
    {
        [LoggerMessage(2, LogLevel.Error, "A call failed unexpectedly: service={Service} method={Method}")]
        public static partial void HandlerFailed(ILogger logger, string service, string method, Exception error);

        [LoggerMessage(5, LogLevel.Error, "A handler threw when it was cancelled")]
        public static partial void CancellationFailed(ILogger logger, Exception error);
    }
}
