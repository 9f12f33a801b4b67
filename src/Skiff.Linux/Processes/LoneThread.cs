using System.Runtime.ExceptionServices;

namespace Skiff.Linux.Processes;

/// <summary>
/// Work on a thread that has a root and a working directory of its own. Only such a thread may change them or its mount namespace while the
/// process has others, and as it cannot come back for sure, it ends with the work.
/// </summary>
internal static class LoneThread
{
    /// <summary>Runs <paramref name="work"/> to its end; what it throws is thrown here.</summary>
    /// <exception cref="LinuxException">The kernel refused the thread a root of its own.</exception>
    internal static T Run<T>(Func<T> work)
    {
        T? result = default;
        ExceptionDispatchInfo? failure = null;
        var thread = new Thread(
            () =>
            {
                try
                {
                    if (Libc.unshare(Libc.UnshareFileSystem) < 0)
                    {
                        throw LinuxException.Last("give a thread its own working directory");
                    }

                    result = work();
                }
                catch (Exception e)
                {
                    failure = ExceptionDispatchInfo.Capture(e);
                }
            },
            maxStackSize: 128 * 1024);
        thread.Start();
        thread.Join();
        failure?.Throw();
        return result!;
    }
}
