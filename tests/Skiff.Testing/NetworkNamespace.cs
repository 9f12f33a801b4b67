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
            catch (Exception e) when (e is InvalidOperationException or System.Net.Sockets.SocketException)
            {
                failure = e;
            }
        });
        thread.Start();
        thread.Join();
        return failure is null ? result : throw failure;
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int setns(int descriptor, int kind);
}
