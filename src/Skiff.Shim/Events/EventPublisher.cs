using System.Net.Sockets;
using System.Threading.Channels;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Microsoft.Extensions.Logging;
using Skiff.Containerd.Events;
using Skiff.Containerd.Types;
using Skiff.Ttrpc;

namespace Skiff.Shim.Events;

/// <summary>
/// Hands events to containerd (containerd.services.events.ttrpc.v1.Events/Forward at TTRPC_ADDRESS), one after another, in the order in
/// which they were published. While containerd is away they wait here.
/// </summary>
internal sealed partial class EventPublisher : IAsyncDisposable
{
    private const string Service = "containerd.services.events.ttrpc.v1.Events";

    private static readonly TimeSpan _callTimeout = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan _longestPause = TimeSpan.FromSeconds(5);

    private readonly Channel<Envelope> _queue = Channel.CreateUnbounded<Envelope>(new UnboundedChannelOptions { SingleReader = true });
    private readonly CancellationTokenSource _stop = new();
    private readonly string _address;
    private readonly string _namespace;
    private readonly ILogger _logger;
    private readonly TimeProvider _time;
    private readonly Task _sending;

    public EventPublisher(string address, string ns, ILogger logger, TimeProvider time)
    {
        _address = address;
        _namespace = ns;
        _logger = logger;
        _time = time;
        _sending = SendAllAsync();
    }

    /// <summary>Queues an event.</summary>
    /// <param name="topic">For example <c>/tasks/exit</c>.</param>
    /// <param name="type">The message's full name as containerd registers it, for example <c>containerd.events.TaskExit</c>.</param>
    /// <param name="message">The event.</param>
    public void Publish(string topic, string type, IMessage message) => _queue.Writer.TryWrite(new Envelope
    {
        Timestamp = Timestamp.FromDateTimeOffset(_time.GetUtcNow()),
        Namespace = _namespace,
        Topic = topic,
        Event = new Any { TypeUrl = type, Value = message.ToByteString() },
    });

    /// <summary>Takes no more events and waits until those queued are delivered.</summary>
    /// <param name="patience">After this long the rest is given up.</param>
    public async Task CompleteAsync(TimeSpan patience)
    {
        _ = _queue.Writer.TryComplete();
        await _sending.WaitAsync(patience, _time).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await _stop.CancelAsync().ConfigureAwait(false);
        await _sending.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    public async ValueTask DisposeAsync()
    {
        await CompleteAsync(TimeSpan.Zero).ConfigureAwait(false);
        _stop.Dispose();
    }

    private async Task SendAllAsync()
    {
        TtrpcClient? client = null;
        try
        {
            await foreach (var envelope in _queue.Reader.ReadAllAsync(_stop.Token).ConfigureAwait(false))
            {
                var pause = TimeSpan.FromMilliseconds(20);
                while (await TrySendAsync(envelope).ConfigureAwait(false) is { } problem)
                {
                    Log.Retrying(_logger, envelope.Topic, problem);
                    await Task.Delay(pause, _time, _stop.Token).ConfigureAwait(false);
                    pause = pause * 2 < _longestPause ? pause * 2 : _longestPause;
                }
            }
        }
        catch (OperationCanceledException)
        {
            // Given up by CompleteAsync.
        }
        finally
        {
            client?.Dispose();
        }

        async Task<string?> TrySendAsync(Envelope envelope)
        {
            try
            {
                if (client is null or { IsClosed: true })
                {
                    client?.Dispose();
                    client = await TtrpcClient.ConnectAsync(_address, _time, _stop.Token).ConfigureAwait(false);
                }

                var result = await client.CallAsync(
                    Service, "Forward", new ForwardRequest { Envelope = envelope }, Empty.Parser, _callTimeout, _stop.Token).ConfigureAwait(false);
                if (result.Error is not { } error)
                {
                    return null;
                }

                if (error.Code is TtrpcCode.InvalidArgument or TtrpcCode.Unimplemented)
                {
                    Log.Refused(_logger, envelope.Topic, error.Message); // would be refused for ever, and hold up those behind it
                    return null;
                }

                if (error.Code == TtrpcCode.DeadlineExceeded)
                {
                    client.Dispose(); // whoever does not answer may never again: the next try connects anew
                    client = null;
                }

                return error.Message;
            }
            catch (SocketException e)
            {
                return e.Message;
            }
        }
    }

    private static partial class Log
    {
        [LoggerMessage(10, LogLevel.Debug, "containerd did not take an event yet: topic={Topic} error={Error}")]
        public static partial void Retrying(ILogger logger, string topic, string error);

        [LoggerMessage(11, LogLevel.Error, "containerd refused an event: topic={Topic} error={Error}")]
        public static partial void Refused(ILogger logger, string topic, string error);
    }
}
