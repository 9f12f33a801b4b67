using System.Net.Sockets;
using System.Runtime.InteropServices;
using Google.Protobuf;
using Microsoft.Extensions.Logging;
using Skiff.Ttrpc.Wire;

namespace Skiff.Ttrpc;

/// <summary>
/// Serves ttrpc on a listening unix socket (containerd/ttrpc PROTOCOL.md): unary calls, many at once on each connection.
/// </summary>
/// <remarks>
/// Whatever a peer sends, the server stays up: a frame over 4 MiB is skipped and refused (ResourceExhausted), a call of an unknown service
/// or method and every streaming call gets Unimplemented, frames of other types are skipped, and a connection that ends in the middle
/// of a frame is closed. Memory for a frame grows with the bytes that arrived.
/// </remarks>
public sealed partial class TtrpcServer : IAsyncDisposable
{
    // More at once than any containerd sends; it bounds what one peer can pile up.
    private const int MaxInFlight = 1024;

    private readonly Dictionary<string, TtrpcService> _services = [];
    private readonly HashSet<Task> _connections = [];
    private readonly CancellationTokenSource _stopping = new();
    private readonly Socket _listener;
    private readonly uint _peerUser;
    private readonly ILogger _logger;
    private readonly TimeProvider _time;
    private Task? _accepting;
    private int _answering;
    private TaskCompletionSource? _quiet;

    /// <summary>Prepares a server.</summary>
    /// <param name="listener">A bound, listening socket; the server closes it.</param>
    /// <param name="peerUser">The only user whose processes are served (SO_PEERCRED).</param>
    /// <param name="logger">Where handlers that threw are reported.</param>
    /// <param name="time">The clock of deadlines.</param>
    public TtrpcServer(Socket listener, uint peerUser, ILogger logger, TimeProvider? time = null)
    {
        _listener = listener;
        _peerUser = peerUser;
        _logger = logger;
        _time = time ?? TimeProvider.System;
    }

    /// <summary>Offers a service under a name; one service may have several names.</summary>
    public void Register(string name, TtrpcService service) => _services.Add(name, service);

    /// <summary>Starts to accept connections.</summary>
    public void Start() => _accepting ??= AcceptAsync();

    /// <summary>Accepts no more, lets the calls in flight be answered, then closes all connections.</summary>
    /// <param name="cancellation">Ends the wait for the answers.</param>
    public async Task StopAsync(CancellationToken cancellation)
    {
        _listener.Dispose();
        var quiet = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        lock (_connections)
        {
            _quiet = quiet;
            if (_answering == 0)
            {
                quiet.SetResult();
            }
        }

        await quiet.Task.WaitAsync(cancellation).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await _stopping.CancelAsync().ConfigureAwait(false);
        Task[] connections;
        lock (_connections)
        {
            connections = [.. _connections];
        }

        await Task.WhenAll(connections).WaitAsync(cancellation).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (_accepting is not null)
        {
            await _accepting.ConfigureAwait(false);
        }
    }

    /// <summary>Stops without waiting for answers.</summary>
    public async ValueTask DisposeAsync()
    {
        await StopAsync(new CancellationToken(canceled: true)).ConfigureAwait(false);
        _stopping.Dispose();
    }

    private async Task AcceptAsync()
    {
        while (true)
        {
            Socket peer;
            try
            {
                peer = await _listener.AcceptAsync(_stopping.Token).ConfigureAwait(false);
            }
            catch (Exception e) when (e is ObjectDisposedException or OperationCanceledException or SocketException { SocketErrorCode: SocketError.OperationAborted })
            {
                return;
            }
            catch (SocketException e)
            {
                Log.AcceptFailed(_logger, e.Message);
                continue;
            }

            if (PeerUser(peer) is var user && user != _peerUser)
            {
                Log.PeerRefused(_logger, user, _peerUser);
                peer.Dispose();
                continue;
            }

            var served = ServeAsync(peer);
            lock (_connections)
            {
                _ = _connections.Add(served);
            }

            _ = served.ContinueWith(
                t =>
                {
                    lock (_connections)
                    {
                        _ = _connections.Remove(t);
                    }
                },
                CancellationToken.None,
                TaskContinuationOptions.None,
                TaskScheduler.Default);
        }
    }

    private static uint PeerUser(Socket peer)
    {
        const int solSocket = 1;
        const int peerCredentials = 17;
        Span<byte> credentials = stackalloc byte[12]; // struct ucred: pid, uid, gid
        var length = peer.GetRawSocketOption(solSocket, peerCredentials, credentials);
        return length == 12 ? MemoryMarshal.Read<uint>(credentials[4..]) : uint.MaxValue;
    }

    private async Task ServeAsync(Socket peer)
    {
        await Task.Yield();
        using var connection = new FrameConnection(peer);
        using var ended = CancellationTokenSource.CreateLinkedTokenSource(_stopping.Token);
        var inFlight = new InFlight();
        uint last = 0;
        try
        {
            while (await connection.ReadHeaderAsync(ended.Token).ConfigureAwait(false) is { } header)
            {
                if (header.Length > FrameHeader.MaxLength)
                {
                    if (!await connection.SkipDataAsync(header, ended.Token).ConfigureAwait(false))
                    {
                        return;
                    }

                    await RefuseAsync(connection, header.Stream, TtrpcCode.ResourceExhausted,
                        $"a frame of {header.Length} bytes exceeds the limit of {FrameHeader.MaxLength}").ConfigureAwait(false);
                    continue;
                }

                if (header.Type != FrameType.Request)
                {
                    // Data of a stream that was refused, or a type of a later protocol: nobody waits for an answer.
                    if (!await connection.SkipDataAsync(header, ended.Token).ConfigureAwait(false))
                    {
                        return;
                    }

                    continue;
                }

                if (await connection.ReadDataAsync(header, ended.Token).ConfigureAwait(false) is not { } data)
                {
                    return;
                }

                if (header.Stream % 2 == 0 || header.Stream <= last)
                {
                    await RefuseAsync(connection, header.Stream, TtrpcCode.InvalidArgument,
                        $"stream {header.Stream} is not an odd number greater than {last}").ConfigureAwait(false);
                    continue;
                }

                last = header.Stream;
                if (inFlight.Count >= MaxInFlight)
                {
                    await RefuseAsync(connection, header.Stream, TtrpcCode.ResourceExhausted,
                        $"{MaxInFlight} calls are in flight on this connection").ConfigureAwait(false);
                    continue;
                }

                inFlight.Add(1);
                Entered();
                _ = AnswerAsync(connection, header, data, inFlight, ended.Token);
            }
        }
        catch (Exception e) when (e is OperationCanceledException or IOException)
        {
            // The server stops, or the peer is gone.
        }
        finally
        {
            await ended.CancelAsync().ConfigureAwait(false);
        }
    }

    private static Task RefuseAsync(FrameConnection connection, uint stream, TtrpcCode code, string message) =>
        connection.WriteAsync(stream, FrameType.Response, new Response { Status = new Status { Code = (int)code, Message = message } }, CancellationToken.None);

    private async Task AnswerAsync(FrameConnection connection, FrameHeader header, byte[] data, InFlight inFlight, CancellationToken ended)
    {
        await Task.Yield();
        try
        {
            var response = await HandleAsync(header, data, ended).ConfigureAwait(false);
            if (response.CalculateSize() is var size and > FrameHeader.MaxLength)
            {
                response = Failure(TtrpcCode.ResourceExhausted, $"the answer has {size} bytes; the limit is {FrameHeader.MaxLength}");
            }

            await connection.WriteAsync(header.Stream, FrameType.Response, response, CancellationToken.None).ConfigureAwait(false);
        }
        catch (IOException)
        {
            // Nobody is there to read the answer.
        }
        finally
        {
            inFlight.Add(-1);
            Left();
        }
    }

    private async Task<Response> HandleAsync(FrameHeader header, byte[] data, CancellationToken ended)
    {
        Request request;
        try
        {
            request = Request.Parser.ParseFrom(data);
        }
        catch (InvalidProtocolBufferException e)
        {
            return Failure(TtrpcCode.InvalidArgument, $"the request envelope cannot be decoded: {e.Message}");
        }

        if (!_services.TryGetValue(request.Service, out var service))
        {
            return Failure(TtrpcCode.Unimplemented, $"service {request.Service} is not served here");
        }

        if (service.Find(request.Method) is not { } method)
        {
            return Failure(TtrpcCode.Unimplemented, $"service {request.Service} has no method {request.Method}");
        }

        if ((header.Flags & (FrameHeader.RemoteClosed | FrameHeader.RemoteOpen)) != 0)
        {
            return Failure(TtrpcCode.Unimplemented, $"{request.Service}/{request.Method} is a unary call and cannot be streamed");
        }

        using var deadline = request.TimeoutNano > 0 ? new CancellationTokenSource(Timeout(request.TimeoutNano), _time) : null;
        using var both = deadline is null ? null : CancellationTokenSource.CreateLinkedTokenSource(ended, deadline.Token);
        var token = both?.Token ?? ended;
        try
        {
            // The caller is gone after its deadline whether or not the handler notices, so the answer does not wait for it.
            var handling = method(request.Payload, new TtrpcContext(request), token);
            var result = await handling.WaitAsync(token).ConfigureAwait(false);
            return result.Error is { } error
                ? Failure(error.Code, error.Message)
                : new Response { Status = new Status(), Payload = result.Value!.ToByteString() };
        }
        catch (OperationCanceledException) when (deadline is { IsCancellationRequested: true })
        {
            return Failure(TtrpcCode.DeadlineExceeded, $"{request.Service}/{request.Method} did not end within {request.TimeoutNano / 1_000_000} ms");
        }
        catch (OperationCanceledException)
        {
            return Failure(TtrpcCode.Canceled, $"{request.Service}/{request.Method} was cancelled");
        }
        catch (Exception e)
        {
            Log.HandlerFailed(_logger, request.Service, request.Method, e);
            return Failure(TtrpcCode.Unknown, $"{request.Service}/{request.Method}: {e.Message}");
        }
    }

    private static TimeSpan Timeout(long nanoseconds) => TimeSpan.FromMilliseconds(Math.Clamp(nanoseconds / 1_000_000, 1, int.MaxValue - 1));

    private static Response Failure(TtrpcCode code, string message) => new() { Status = new Status { Code = (int)code, Message = message } };

    private void Entered()
    {
        lock (_connections)
        {
            _answering++;
        }
    }

    private void Left()
    {
        lock (_connections)
        {
            if (--_answering == 0)
            {
                _ = _quiet?.TrySetResult();
            }
        }
    }

    private sealed class InFlight
    {
        private int _count;

        public int Count => Volatile.Read(ref _count);

        public void Add(int change) => Interlocked.Add(ref _count, change);
    }

    private static partial class Log
    {
        [LoggerMessage(1, LogLevel.Warning, "Refused a connection of another user: user={User} expected={Expected}")]
        public static partial void PeerRefused(ILogger logger, uint user, uint expected);

        [LoggerMessage(2, LogLevel.Error, "A call failed unexpectedly: service={Service} method={Method}")]
        public static partial void HandlerFailed(ILogger logger, string service, string method, Exception error);

        [LoggerMessage(3, LogLevel.Warning, "Could not accept a connection: error={Error}")]
        public static partial void AcceptFailed(ILogger logger, string error);
    }
}
