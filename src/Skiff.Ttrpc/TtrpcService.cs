using Google.Protobuf;
using Skiff.Ttrpc.Wire;

namespace Skiff.Ttrpc;

/// <summary>What came with a request besides its message.</summary>
public sealed class TtrpcContext
{
    internal TtrpcContext(Request request)
    {
        Service = request.Service;
        Method = request.Method;
        Metadata = request.Metadata.Count == 0 ? [] : [.. request.Metadata.Select(m => new KeyValuePair<string, string>(m.Key, m.Value))];
    }

    /// <summary>The service asked for, for example <c>containerd.task.v2.Task</c>.</summary>
    public string Service { get; }

    /// <summary>The method asked for.</summary>
    public string Method { get; }

    /// <summary>Metadata as sent; a key may come more than once.</summary>
    public IReadOnlyList<KeyValuePair<string, string>> Metadata { get; }
}

/// <summary>A service: methods by name. Build it before the server starts.</summary>
public sealed class TtrpcService
{
    private readonly Dictionary<string, Func<ByteString, TtrpcContext, CancellationToken, Task<TtrpcResult<IMessage>>>> _methods = [];

    /// <summary>
    /// Adds a unary method. The handler runs on its own, many at once; its token is cancelled when the caller's time is over, the
    /// connection ends or the server stops. An exception becomes <see cref="TtrpcCode.Unknown"/> and does not end the connection.
    /// </summary>
    public TtrpcService Add<TRequest, TResponse>(
        string method, MessageParser<TRequest> parser, Func<TRequest, TtrpcContext, CancellationToken, Task<TtrpcResult<TResponse>>> handler)
        where TRequest : class, IMessage<TRequest>
        where TResponse : class, IMessage<TResponse>
    {
        _methods.Add(method, async (payload, context, cancellation) =>
        {
            TRequest request;
            try
            {
                request = parser.ParseFrom(payload);
            }
            catch (InvalidProtocolBufferException e)
            {
                return new TtrpcError(TtrpcCode.InvalidArgument, $"{context.Service}/{context.Method}: the request cannot be decoded: {e.Message}");
            }

            var result = await handler(request, context, cancellation).ConfigureAwait(false);
            return result.Error is { } error ? error : TtrpcResult<IMessage>.Ok(result.Value!);
        });
        return this;
    }

    internal Func<ByteString, TtrpcContext, CancellationToken, Task<TtrpcResult<IMessage>>>? Find(string method) => _methods.GetValueOrDefault(method);
}
