using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;

namespace Skiff.Testing;

/// <summary>Named network namespaces (ip-netns(8)), as far as sockets of this process need them.</summary>
public static partial class NetworkNamespace
{
    private const int Kind = 0x40000000; // CLONE_NEWNET

    /// <summary>Does something on a thread that is in the namespace. A socket stays where it was made, whoever uses it then.</summary>
    /// <param name="name">The namespace, below <c>/run/netns</c>.</param>
    /// <param name="work">Must not await: the thread alone is there.</param>
    public static T Inside<T>(string name, Func<T> work)
    {
        ArgumentNullException.ThrowIfNull(work);
        using var handle = File.OpenHandle("/run/netns/" + name);
        T result = default!;
        Exception? failure = null;
        var thread = new Thread(() =>
        {
            try
            {
                result = setns((int)handle.DangerousGetHandle(), Kind) == 0
                    ? work()
                    : throw new InvalidOperationException($"the network namespace {name} cannot be entered: errno {Marshal.GetLastPInvokeError()}");
            }
            catch (Exception e) when (e is InvalidOperationException or SocketException)
            {
                failure = e;
            }
        });
        thread.Start();
        thread.Join();
        return failure is null ? result : throw failure;
    }

    /// <summary>Connects from within the namespace by TCP.</summary>
    /// <param name="name">The namespace, below <c>/run/netns</c>.</param>
    /// <param name="address">Where to.</param>
    /// <param name="cancellation">Ends the attempt.</param>
    public static async Task<Socket> ConnectAsync(string name, IPEndPoint address, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(address);
        var socket = Inside(name, () => new Socket(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp));
        try
        {
            await socket.ConnectAsync(address, cancellation);
            return socket;
        }
        catch
        {
            // Left open it would be connected later, and a server that talks to one after another would wait for what it says.
            socket.Dispose();
            throw;
        }
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int setns(int descriptor, int kind);
}
