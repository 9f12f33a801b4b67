using System.Net.Sockets;
using Grpc.Net.Client;
using Skiff.Linux;
using Skiff.Linux.Files;

namespace Skiff.Containerd;

/// <summary>gRPC over containerd's unix socket.</summary>
internal static class ContainerdChannel
{
    private const int ResponseLimit = 16 << 20;

    /// <summary>A channel that connects when the first call is made, and again after containerd was restarted.</summary>
    /// <param name="hostRoot">The node's root directory as we see it; symbolic links stay below it.</param>
    /// <param name="socket">The socket as the node sees it; it may be of any length.</param>
    public static GrpcChannel Open(string hostRoot, string socket) => GrpcChannel.ForAddress("http://localhost", new GrpcChannelOptions
    {
        HttpHandler = new SocketsHttpHandler { ConnectCallback = (_, cancellation) => ConnectAsync(hostRoot, socket, cancellation), UseProxy = false },
        DisposeHttpClient = true,
        MaxReceiveMessageSize = ResponseLimit,
    });

    /// <summary>
    /// Connects through a handle on the socket: a path in a socket's address has at most 107 bytes, and a symbolic link on the way must
    /// lead to the node's file, not to ours of the same name.
    /// </summary>
    private static async ValueTask<Stream> ConnectAsync(string hostRoot, string path, CancellationToken cancellation)
    {
        using var file = RootedPath.Find(hostRoot, path) ?? throw new LinuxException($"connect to {path}", Errno.NoEntry);
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            await socket.ConnectAsync(new UnixDomainSocketEndPoint($"/proc/self/fd/{file.DangerousGetHandle()}"), cancellation).ConfigureAwait(false);
            return new NetworkStream(socket, ownsSocket: true);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }
}
