using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;
using Skiff.Linux.Files;

namespace Skiff.Linux.Mounts;

/// <summary>Mounts that appear in a container that runs already (open_tree, mount_setattr, move_mount; Linux 5.12).</summary>
public static unsafe class ContainerMounts
{
    private const int CurrentDirectory = -100;
    private const int EmptyPath = 0x1000;
    private const int CloneTree = 1;
    private const int MoveFromEmptyPath = 4;
    private const ulong ReadOnly = 1;
    private const ulong NoSetUserId = 2;
    private const ulong NoDevices = 4;
    private const int NewMountNamespace = 0x20000;
    private const int UnshareFileSystem = 0x200;

    /// <summary>Shows a folder of this machine, read-only, at a place in the root of a process's mount namespace.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="source">The folder. Its own mount is copied as it is, without those below it.</param>
    /// <param name="target">Where; made if it is not there. A symbolic link there is not followed.</param>
    /// <exception cref="LinuxException">The kernel refused or is too old, the process has ended, or the container's root is read-only.</exception>
    public static void BindReadOnly(int pid, string source, string target)
    {
        // A mount that is attached nowhere yet crosses from our namespace to that one. It is made read-only before anybody can see it.
        using var tree = Clone(source);
        using var place = OpenFile.Open($"/proc/{pid}/ns/mnt", Libc.OpenReadOnly | Libc.OpenCloseOnExec, 0);

        // Only a thread with a root and working directory of its own may change its mount namespace, and it cannot come back for sure.
        LinuxException? failure = null;
        var thread = new Thread(() => failure = Attach(tree, place, target), maxStackSize: 128 * 1024);
        thread.Start();
        thread.Join();
        if (failure is not null)
        {
            throw failure;
        }
    }

    private static SafeFileHandle Clone(string source)
    {
        fixed (byte* path = Encoding.UTF8.GetBytes(source + "\0"))
        {
            var fd = Libc.syscall(Libc.SysOpenTree, CurrentDirectory, (nint)path, CloneTree | Libc.OpenCloseOnExec, 0);
            if (fd < 0)
            {
                throw LinuxException.Last($"open_tree {source}");
            }

            var tree = new SafeFileHandle((nint)fd, ownsHandle: true);

            // struct mount_attr: set, clear, propagation, user namespace.
            var attributes = stackalloc ulong[4] { ReadOnly | NoSetUserId | NoDevices, 0, 0, 0 };
            byte empty = 0;
            if (Libc.syscall(Libc.SysMountSetAttr, (nint)fd, (nint)(&empty), EmptyPath, (nint)attributes, 4 * sizeof(ulong)) < 0)
            {
                var error = LinuxException.Last($"mount_setattr {source}");
                tree.Dispose();
                throw error;
            }

            return tree;
        }
    }

    private static LinuxException? Attach(SafeFileHandle tree, SafeFileHandle place, string target)
    {
        if (Libc.unshare(UnshareFileSystem) < 0 || Libc.setns((int)place.DangerousGetHandle(), NewMountNamespace) < 0)
        {
            return LinuxException.Last("enter the container's mount namespace");
        }

        if (Libc.mkdir(target, 0x1ED) < 0 && Marshal.GetLastPInvokeError() != Errno.Exists)
        {
            return LinuxException.Last($"make the folder {target} in the container");
        }

        byte empty = 0;
        fixed (byte* path = Encoding.UTF8.GetBytes(target + "\0"))
        {
            return Libc.syscall(Libc.SysMoveMount, tree.DangerousGetHandle(), (nint)(&empty), CurrentDirectory, (nint)path, MoveFromEmptyPath) < 0
                ? LinuxException.Last($"mount on {target} in the container")
                : null;
        }
    }
}
