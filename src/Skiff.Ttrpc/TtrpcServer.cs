using System.Net.Sockets;
using System.Runtime.InteropServices;
using Microsoft.Extensions.Logging;

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
    private static readonly TimeSpan _firstPause = TimeSpan.FromMilliseconds(5);
    private static readonly TimeSpan _longestPause = TimeSpan.FromSeconds(1);

    private readonly Dictionary<string, TtrpcService> _services = [];
    private readonly Dictionary<ServerConnection, Task> _connections = [];
    private readonly Lock _lock = new();
    private readonly CancellationTokenSource _stopping = new();
    private readonly Socket _listener;
    private readonly uint _peerUser;
    private readonly ILogger _logger;
    private readonly TimeProvider _time;
    private Task? _accepting;
    private bool _disposed;

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
    /// <exception cref="InvalidOperationException">The server has started.</exception>
    /// <exception cref="ArgumentException">The name is taken.</exception>
    public void Register(string name, TtrpcService service)
    {
        if (_accepting is not null)
        {
            throw new InvalidOperationException($"service {name} comes too late: the server has started");
        }

        _services.Add(name, service);
    }

    /// <summary>Starts to accept connections.</summary>
    public void Start() => _accepting ??= AcceptAllAsync();

    /// <summary>
    /// Accepts no more connections and calls (Unavailable), lets the calls in flight be answered, and closes each connection after its
    /// last answer. When it returns, all connections are closed and the tokens of handlers that still run are cancelled.
    /// </summary>
    /// <param name="cancellation">Ends the wait for the answers.</param>
    public async Task StopAsync(CancellationToken cancellation)
    {
        await _stopping.CancelAsync().ConfigureAwait(false);
        _listener.Dispose();
        if (_accepting is not null)
        {
            await _accepting.ConfigureAwait(false); // from here on no connection comes to those below
        }

        KeyValuePair<ServerConnection, Task>[] connections;
        lock (_lock)
        {
            connections = [.. _connections];
        }

        foreach (var (connection, _) in connections)
        {
            connection.Drain();
        }

        var all = Task.WhenAll(connections.Select(c => c.Value));
        await all.WaitAsync(cancellation).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        foreach (var (connection, _) in connections)
        {
            connection.Dispose();
        }

        await all.ConfigureAwait(false); // soon, as reads and writes fail now; handlers are not waited for
    }

    /// <summary>Stops without waiting for answers.</summary>
    public async ValueTask DisposeAsync()
    {
        if (_disposed)
        {
            return;
        }

        _disposed = true;
        await StopAsync(new CancellationToken(canceled: true)).ConfigureAwait(false);
        _stopping.Dispose();
    }

    private async Task AcceptAllAsync()
    {
        var pause = _firstPause;
        while (!_stopping.IsCancellationRequested)
        {
            Socket? peer = null;
            try
            {
                peer = await _listener.AcceptAsync(_stopping.Token).ConfigureAwait(false);
                if (PeerUser(peer) is var user && user != _peerUser)
                {
                    Log.PeerRefused(_logger, user, _peerUser);
                    peer.Dispose();
                    continue;
                }

                pause = _firstPause;
            }
            catch (Exception e) when (e is OperationCanceledException or ObjectDisposedException)
            {
                return;
            }
            catch (SocketException e)
            {
                peer?.Dispose();
                if (_stopping.IsCancellationRequested)
                {
                    return;
                }

                // Out of file descriptors, mostly: the connection stays in the queue, so trying at once would only burn the processor.
                Log.AcceptFailed(_logger, e.Message);
                await Task.Delay(pause, _time, _stopping.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                pause = pause * 2 < _longestPause ? pause * 2 : _longestPause;
                continue;
            }

            var connection = new ServerConnection(peer, _services, _logger, _time);
            lock (_lock)
            {
                _connections.Add(connection, ServeAsync(connection));
            }
        }
    }

    private async Task ServeAsync(ServerConnection connection)
    {
        await Task.Yield(); // the caller adds the connection, and only then may it be removed
        try
        {
            await connection.ServeAsync().ConfigureAwait(false);
        }
        catch (Exception e)
        {
            // Nobody awaits a connection before the stop, so what is said here is all that is ever said.
            Log.ConnectionFailed(_logger, e);
        }
        finally
        {
            connection.Dispose();
            lock (_lock)
            {
                _ = _connections.Remove(connection);
            }
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

    private static partial class Log
    {
        [LoggerMessage(1, LogLevel.Warning, "Refused a connection of another user: user={User} expected={Expected}")]
        public static partial void PeerRefused(ILogger logger, uint user, uint expected);

        [LoggerMessage(3, LogLevel.Warning, "Could not accept a connection: error={Error}")]
        public static partial void AcceptFailed(ILogger logger, string error);

        [LoggerMessage(4, LogLevel.Error, "A connection ended unexpectedly")]
        public static partial void ConnectionFailed(ILogger logger, Exception error);
    }
}
