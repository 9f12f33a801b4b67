using System.Net.Sockets;
using Google.Protobuf;
using Skiff.Ttrpc.Wire;

namespace Skiff.Ttrpc;

/// <summary>Calls a ttrpc server over a unix socket; many calls may be in flight at once.</summary>
public sealed class TtrpcClient : IDisposable
{
    private readonly Lock _lock = new();
    private readonly Dictionary<uint, TaskCompletionSource<Response>> _pending = [];
    private readonly FrameConnection _connection;
    private readonly SemaphoreSlim _ordering = new(1, 1);
    private uint _next = 1;
    private bool _over;

    private TtrpcClient(Socket socket)
    {
        _connection = new FrameConnection(socket);
        _ = ReceiveAsync();
    }

    /// <summary>Whether the connection has ended; calls then fail at once.</summary>
    public bool IsClosed => Volatile.Read(ref _over);

    /// <summary>Connects.</summary>
    /// <exception cref="SocketException">Nobody listens there.</exception>
    public static async Task<TtrpcClient> ConnectAsync(string path, CancellationToken cancellation = default)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(path), cancellation).ConfigureAwait(false);
            return new TtrpcClient(socket);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    /// <summary>Calls a method.</summary>
    /// <returns>The answer, or the server's error; <see cref="TtrpcCode.Unavailable"/> when the connection ended first.</returns>
    /// <exception cref="OperationCanceledException">Cancelled; an answer that still comes is dropped.</exception>
    public async Task<TtrpcResult<TResponse>> CallAsync<TResponse>(
        string service, string method, IMessage request, MessageParser<TResponse> parser, TimeSpan? timeout = null, CancellationToken cancellation = default)
        where TResponse : class, IMessage<TResponse>
    {
        ArgumentNullException.ThrowIfNull(parser);
        var envelope = new Request
        {
            Service = service,
            Method = method,
            Payload = request.ToByteString(),
            TimeoutNano = timeout is { } limit ? limit.Ticks * 100 : 0,
        };
        if (envelope.CalculateSize() is var size and > FrameHeader.MaxLength)
        {
            return new TtrpcError(TtrpcCode.ResourceExhausted, $"{service}/{method}: the request has {size} bytes; the limit is {FrameHeader.MaxLength}");
        }

        var answer = new TaskCompletionSource<Response>(TaskCreationOptions.RunContinuationsAsynchronously);
        uint stream = 0;
        try
        {
            // The server wants growing stream numbers, so numbering and writing are one step.
            await _ordering.WaitAsync(cancellation).ConfigureAwait(false);
            try
            {
                lock (_lock)
                {
                    if (_over)
                    {
                        return Gone(service, method);
                    }

                    stream = _next;
                    _next += 2;
                    _pending.Add(stream, answer);
                }

                await _connection.WriteAsync(stream, FrameType.Request, envelope, CancellationToken.None).ConfigureAwait(false);
            }
            finally
            {
                _ = _ordering.Release();
            }

            var response = await answer.Task.WaitAsync(cancellation).ConfigureAwait(false);
            return response.Status is { Code: not 0 } status
                ? new TtrpcError((TtrpcCode)status.Code, status.Message)
                : parser.ParseFrom(response.Payload);
        }
        catch (IOException)
        {
            return Gone(service, method);
        }
        finally
        {
            lock (_lock)
            {
                _ = _pending.Remove(stream);
            }
        }
    }

    /// <summary>Closes the connection; calls in flight fail.</summary>
    public void Dispose() => _connection.Dispose();

    private static TtrpcError Gone(string service, string method) => new(TtrpcCode.Unavailable, $"{service}/{method}: the connection has ended");

    private async Task ReceiveAsync()
    {
        while (await _connection.ReadHeaderAsync(CancellationToken.None).ConfigureAwait(false) is { Length: <= FrameHeader.MaxLength } header
            && await _connection.ReadDataAsync(header, CancellationToken.None).ConfigureAwait(false) is { } data)
        {
            TaskCompletionSource<Response>? answer;
            lock (_lock)
            {
                _ = _pending.Remove(header.Stream, out answer);
            }

            if (header.Type != FrameType.Response || answer is null)
            {
                continue;
            }

            try
            {
                _ = answer.TrySetResult(Response.Parser.ParseFrom(data));
            }
            catch (InvalidProtocolBufferException e)
            {
                _ = answer.TrySetException(new IOException("the answer cannot be decoded", e));
            }
        }

        TaskCompletionSource<Response>[] left;
        lock (_lock)
        {
            _over = true;
            left = [.. _pending.Values];
        }

        _connection.Dispose();
        foreach (var answer in left)
        {
            _ = answer.TrySetException(new IOException("the connection has ended"));
        }
    }
}
