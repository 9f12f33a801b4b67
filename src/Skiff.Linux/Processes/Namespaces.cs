using Microsoft.Win32.SafeHandles;
using Skiff.Linux.Files;

namespace Skiff.Linux.Processes;

/// <summary>Starts programs in the namespaces of another process: of the node, from a container on it.</summary>
internal static class Namespaces
{
    /// <summary>
    /// Runs <paramref name="action"/> on a thread that has entered the mount and PID namespaces of a process. A program that is spawned
    /// there starts in them; the other threads stay where they are. The action must not do more than spawn: files that the runtime looks
    /// for meanwhile would be looked for over there.
    /// </summary>
    /// <exception cref="LinuxException">There is no such process, or it may not be entered (CAP_SYS_ADMIN, CAP_SYS_CHROOT).</exception>
    internal static int RunIn(int pid, Func<int> action)
    {
        using var mount = Open(pid, "mnt");
        using var process = Open(pid, "pid");
        return LoneThread.Run(() =>
            Libc.setns((int)process.DangerousGetHandle(), Libc.NamespacePid) < 0 || Libc.setns((int)mount.DangerousGetHandle(), Libc.NamespaceMount) < 0
                ? throw LinuxException.Last($"enter the namespaces of process {pid}")
                : action());
    }

    private static SafeFileHandle Open(int pid, string name) =>
        OpenFile.Open($"/proc/{pid}/ns/{name}", Libc.OpenReadOnly | Libc.OpenCloseOnExec, 0);
}
