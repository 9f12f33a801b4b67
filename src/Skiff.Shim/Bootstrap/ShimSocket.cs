using System.Net.Sockets;
using System.Text;

namespace Skiff.Shim.Bootstrap;

/// <summary>
/// The socket of a pod's shim. Its path follows from containerd's address, the namespace and the group, so that every <c>start</c> of
/// the same pod comes to the same place (containerd pkg/shim/util_unix.go has the same scheme).
/// </summary>
internal static class ShimSocket
{
    public const string DefaultFolder = "/run/containerd/s";

    private const int Backlog = 512;

    public static string PathOf(string folder, string containerdAddress, string ns, string group) =>
        Path.Combine(folder, Sha256.HexOf(Encoding.UTF8.GetBytes($"{containerdAddress}/{ns}/{group}")));

    /// <summary>Listens there, unless a living shim does already. A socket file that a dead shim left is replaced.</summary>
    /// <remarks>
    /// Between bind and listen a socket looks dead. Two racing starts would therefore both take it, each removing the other's; the lock
    /// on the folder makes bind-and-listen one step.
    /// </remarks>
    /// <returns>The listener, or null when a shim answers there.</returns>
    /// <exception cref="IOException">It cannot be made.</exception>
    public static async Task<Socket?> ListenAsync(string path, CancellationToken cancellation)
    {
        var folder = Path.GetDirectoryName(path)!;
        const UnixFileMode ownerOnly = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;
        _ = Directory.CreateDirectory(folder, ownerOnly);
        using var folderLock = Linux.Files.FolderLock.Acquire(folder);
        if (File.Exists(path))
        {
            if (await AnswersAsync(path, cancellation).ConfigureAwait(false))
            {
                return null;
            }

            File.Delete(path);
        }

        var listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            listener.Bind(new UnixDomainSocketEndPoint(path));
            File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite);
            listener.Listen(Backlog);
            return listener;
        }
        catch (SocketException e)
        {
            listener.Dispose();
            throw new IOException($"cannot listen on {path}: {e.Message}", e);
        }
    }

    /// <summary>Whether somebody listens there.</summary>
    public static async Task<bool> AnswersAsync(string path, CancellationToken cancellation)
    {
        using var probe = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            await probe.ConnectAsync(new UnixDomainSocketEndPoint(path), cancellation).ConfigureAwait(false);
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }
}
