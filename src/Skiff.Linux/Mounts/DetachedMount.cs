using System.Text;
using Microsoft.Win32.SafeHandles;

namespace Skiff.Linux.Mounts;

/// <summary>
/// A copy of a mount that is attached nowhere yet (open_tree, mount_setattr, move_mount; Linux 5.12). It may cross from one mount namespace to
/// another, and is gone when nobody has attached it.
/// </summary>
internal sealed unsafe class DetachedMount : IDisposable
{
    private const int CurrentDirectory = -100;
    private const int EmptyPath = 0x1000;
    private const int CloneTree = 1;
    private const int MoveFromEmptyPath = 4;
    private const ulong MapOwners = 0x100000;

    private readonly SafeFileHandle _tree;
    private readonly string _source;

    private DetachedMount(SafeFileHandle tree, string source)
    {
        _tree = tree;
        _source = source;
    }

    /// <summary>What a mount forbids: MOUNT_ATTR_ of mount_setattr(2).</summary>
    [Flags]
    internal enum Attributes : ulong
    {
        None = 0,
        ReadOnly = 1,
        NoSetUserId = 2,
        NoDevices = 4,
    }

    /// <summary>Copies the mount that shows a path, from there on and without those below it.</summary>
    /// <param name="path">A folder.</param>
    /// <param name="attributes">What the copy has beyond the mount's own, before anybody can see it.</param>
    /// <param name="owners">A user namespace whose maps give the files in the copy other owners.</param>
    /// <exception cref="LinuxException">The kernel refused, or the file system has no such mounts.</exception>
    internal static DetachedMount Of(string path, Attributes attributes, SafeFileHandle? owners = null)
    {
        fixed (byte* name = Encoding.UTF8.GetBytes(path + "\0"))
        {
            var fd = Libc.syscall(Libc.SysOpenTree, CurrentDirectory, (nint)name, CloneTree | Libc.OpenCloseOnExec, 0);
            if (fd < 0)
            {
                throw LinuxException.Last($"open_tree {path}");
            }

            var mount = new DetachedMount(new SafeFileHandle((nint)fd, ownsHandle: true), path);

            // struct mount_attr: set, clear, propagation, user namespace.
            var wanted = stackalloc ulong[4] { (ulong)attributes | (owners is null ? 0 : MapOwners), 0, 0, (ulong)(owners?.DangerousGetHandle() ?? 0) };
            byte empty = 0;
            if (wanted[0] != 0 && Libc.syscall(Libc.SysMountSetAttr, (nint)fd, (nint)(&empty), EmptyPath, (nint)wanted, 4 * sizeof(ulong)) < 0)
            {
                var error = LinuxException.Last(owners is null ? $"mount_setattr {path}" : $"map the owners of the files in {path} (its file system or this kernel may be unable to)");
                mount.Dispose();
                throw error;
            }

            return mount;
        }
    }

    /// <summary>Attaches it, once, in the calling thread's mount namespace.</summary>
    /// <param name="target">A folder. A symbolic link there is not followed.</param>
    /// <exception cref="LinuxException">The kernel refused.</exception>
    internal void AttachTo(string target)
    {
        byte empty = 0;
        fixed (byte* path = Encoding.UTF8.GetBytes(target + "\0"))
        {
            if (Libc.syscall(Libc.SysMoveMount, _tree.DangerousGetHandle(), (nint)(&empty), CurrentDirectory, (nint)path, MoveFromEmptyPath) < 0)
            {
                throw LinuxException.Last($"attach the mount of {_source} to {target}");
            }
        }
    }

    public void Dispose() => _tree.Dispose();
}
