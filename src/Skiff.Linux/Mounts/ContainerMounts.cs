using System.Runtime.InteropServices;
using Skiff.Linux.Files;
using Skiff.Linux.Processes;

namespace Skiff.Linux.Mounts;

/// <summary>Mounts that appear in a container that runs already (Linux 5.12).</summary>
public static class ContainerMounts
{
    /// <summary>Shows a folder of this machine, read-only, at a place in the root of a process's mount namespace.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="source">The folder. Its own mount is copied as it is, without those below it.</param>
    /// <param name="target">Where; made if it is not there. A symbolic link there is not followed.</param>
    /// <exception cref="LinuxException">The kernel refused or is too old, the process has ended, or the container's root is read-only.</exception>
    public static void BindReadOnly(int pid, string source, string target)
    {
        using var mount = DetachedMount.Of(
            source, DetachedMount.Attributes.ReadOnly | DetachedMount.Attributes.NoSetUserId | DetachedMount.Attributes.NoDevices);
        using var place = OpenFile.Open($"/proc/{pid}/ns/mnt", Libc.OpenReadOnly | Libc.OpenCloseOnExec, 0);
        _ = LoneThread.Run(() =>
        {
            if (Libc.setns((int)place.DangerousGetHandle(), Libc.NamespaceMount) < 0)
            {
                throw LinuxException.Last("enter the container's mount namespace");
            }

            if (Libc.mkdir(target, 0x1ED) < 0 && Marshal.GetLastPInvokeError() != Errno.Exists)
            {
                throw LinuxException.Last($"make the folder {target} in the container");
            }

            mount.AttachTo(target);
            return true;
        });
    }
}
