using Google.Protobuf;
using Skiff.Ttrpc.Wire;

namespace Skiff.Ttrpc;

/// <summary>A unary method on encoded messages.</summary>
/// <param name="payload">The request, encoded.</param>
/// <param name="context">What came with it.</param>
/// <param name="cancellation">Cancelled when the caller's time is over, the connection ends or the server has stopped.</param>
public delegate Task<TtrpcResult<ByteString>> TtrpcMethod(ByteString payload, TtrpcContext context, CancellationToken cancellation);

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

    /// <summary>All values of a key in the order sent; none when it did not come. Keys have no case (containerd/ttrpc metadata.go).</summary>
    public IReadOnlyList<string> MetadataValues(string key) =>
        [.. Metadata.Where(m => string.Equals(m.Key, key, StringComparison.OrdinalIgnoreCase)).Select(m => m.Value)];
}

/// <summary>A service: methods by name. Build it before the server starts.</summary>
public sealed class TtrpcService
{
    private readonly Dictionary<string, TtrpcMethod> _methods = [];

    /// <summary>
    /// Adds a unary method. The handler runs on its own, many at once; its token is cancelled when the caller's time is over, the
    /// connection ends or the server has stopped. An exception becomes <see cref="TtrpcCode.Unknown"/> and does not end the connection.
    /// </summary>
    /// <exception cref="ArgumentException">There is a method of that name.</exception>
    public TtrpcService Add(string method, TtrpcMethod handler)
    {
        _methods.Add(method, handler);
        return this;
    }

    /// <summary>As <see cref="Add(string, TtrpcMethod)"/>; a request that cannot be decoded is refused (InvalidArgument).</summary>
    /// <exception cref="ArgumentException">There is a method of that name.</exception>
    public TtrpcService Add<TRequest, TResponse>(
        string method, MessageParser<TRequest> parser, Func<TRequest, TtrpcContext, CancellationToken, Task<TtrpcResult<TResponse>>> handler)
        where TRequest : class, IMessage<TRequest>
        where TResponse : class, IMessage<TResponse> =>
        Add(method, async (payload, context, cancellation) =>
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
            if (result.Error is { } error)
            {
                return error;
            }

            return result.Value is { } value ? value.ToByteString() : default(TtrpcResult<ByteString>);
        });

    internal TtrpcMethod? Find(string method) => _methods.GetValueOrDefault(method);
}
