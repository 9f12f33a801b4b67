using System.Diagnostics;
using System.Net.Sockets;

namespace Skiff.EndToEnd;

/// <summary>Connects to a containerd again and again, and measures for how long nobody answered.</summary>
internal sealed class SocketWatch : IAsyncDisposable
{
    private static readonly TimeSpan _pause = TimeSpan.FromMilliseconds(2);

    private readonly CancellationTokenSource _end = new();
    private readonly string _socket;
    private readonly Task _watching;

    public SocketWatch(ClusterNode node)
    {
        _socket = node.Socket;
        _watching = Task.Run(WatchAsync);
    }

    /// <summary>The times during which it did not answer, in milliseconds.</summary>
    public List<long> Gaps { get; } = [];

    public async ValueTask DisposeAsync()
    {
        await _end.CancelAsync();
        await _watching;
        _end.Dispose();
    }

    private async Task WatchAsync()
    {
        Stopwatch? gap = null;
        while (!_end.IsCancellationRequested)
        {
            if (Answers())
            {
                if (gap is not null)
                {
                    Gaps.Add(gap.ElapsedMilliseconds);
                    gap = null;
                }
            }
            else
            {
                gap ??= Stopwatch.StartNew();
            }

            await Task.Delay(_pause);
        }
    }

    private bool Answers()
    {
        using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            socket.Connect(new UnixDomainSocketEndPoint(_socket));
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }
}
