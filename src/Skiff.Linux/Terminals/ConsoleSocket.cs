using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;
using Skiff.Linux.Files;

namespace Skiff.Linux.Terminals;

/// <summary>
/// Where an OCI runtime hands over the terminal it made in a container: it connects, and sends the master side as SCM_RIGHTS (unix(7);
/// runc docs/terminals.md, "detached" mode).
/// </summary>
public sealed unsafe class ConsoleSocket : IDisposable
{
    private const int Unix = 1;
    private const int Stream = 1;
    private const int NonBlocking = 0x800;
    private const int CloseOnExec = 0x80000;
    private const int SocketLevel = 1;
    private const int Rights = 1;
    private const int CloseReceivedOnExec = 0x40000000;

    // sun_family and sun_path.
    private const int AddressSize = 110;

    private readonly SafeFileHandle _folder;
    private readonly SafeFileHandle _listener;
    private readonly string _name;

    private ConsoleSocket(SafeFileHandle folder, SafeFileHandle listener, string name)
    {
        _folder = folder;
        _listener = listener;
        _name = name;
    }

    /// <summary>Listens on a socket called <paramref name="name"/> in a folder, whose path may be longer than a socket's may be.</summary>
    /// <exception cref="LinuxException">It cannot be made, or the name is taken.</exception>
    public static ConsoleSocket Listen(string folder, string name)
    {
        var directory = OpenFile.Open(folder, Libc.OpenPath | Libc.OpenCloseOnExec, 0);
        var fd = Libc.socket(Unix, Stream | NonBlocking | CloseOnExec, 0);
        if (fd < 0)
        {
            directory.Dispose();
            throw LinuxException.Last("make a socket");
        }

        var socket = new ConsoleSocket(directory, new SafeFileHandle(fd, ownsHandle: true), name);
        var address = stackalloc byte[AddressSize];
        var length = Address(address, $"/proc/self/fd/{directory.DangerousGetHandle()}/{name}");
        if (Libc.bind(fd, address, length) < 0 || Libc.listen(fd, 1) < 0)
        {
            var error = LinuxException.Last($"listen on {folder}/{name}");
            socket.Dispose();
            throw error;
        }

        return socket;
    }

    /// <summary>Takes what has been sent. A runtime sends before it exits, so once it has exited there is nothing to wait for.</summary>
    /// <returns>The terminal's master side; null when nobody has sent one.</returns>
    /// <exception cref="LinuxException">The kernel refused.</exception>
    public SafeFileHandle? TryReceive()
    {
        var fd = Libc.accept4((int)_listener.DangerousGetHandle(), null, null, NonBlocking | CloseOnExec);
        if (fd < 0)
        {
            return Marshal.GetLastPInvokeError() == Errno.Again ? null : throw LinuxException.Last("accept a connection");
        }

        using var connection = new SafeFileHandle(fd, ownsHandle: true);
        return Receive(connection);
    }

    /// <summary>Removes the socket.</summary>
    public void Dispose()
    {
        if (!_folder.IsClosed)
        {
            _ = Libc.unlinkat((int)_folder.DangerousGetHandle(), _name, 0);
            _listener.Dispose();
            _folder.Dispose();
        }
    }

    private static SafeFileHandle? Receive(SafeFileHandle connection)
    {
        // The descriptor travels beside at least one byte; runc sends the terminal's name.
        const int nameSize = 4096;
        const int controlSize = 64;
        var name = stackalloc byte[nameSize];
        var control = stackalloc byte[controlSize];
        var part = new IoVector { Start = name, Length = nameSize };
        var message = new MessageHeader { Parts = &part, PartCount = 1, Control = control, ControlLength = controlSize };
        var count = Libc.recvmsg((int)connection.DangerousGetHandle(), &message, CloseReceivedOnExec);
        if (count < 0)
        {
            return Marshal.GetLastPInvokeError() == Errno.Again ? null : throw LinuxException.Last("receive a terminal");
        }

        // struct cmsghdr: length, level, type; then the descriptors.
        const int headerSize = 16;
        return message.ControlLength >= headerSize + sizeof(int) && *(int*)(control + 8) == SocketLevel && *(int*)(control + 12) == Rights
            ? new SafeFileHandle(*(int*)(control + headerSize), ownsHandle: true)
            : null;
    }

    /// <summary>Writes a struct sockaddr_un and returns how much of it counts.</summary>
    private static uint Address(byte* address, string path)
    {
        const int familySize = 2;
        var bytes = Encoding.UTF8.GetBytes(path);
        if (bytes.Length >= AddressSize - familySize)
        {
            throw new ArgumentException($"the socket name {path} is longer than {AddressSize - familySize - 1} bytes", nameof(path));
        }

        *(ushort*)address = Unix;
        bytes.CopyTo(new Span<byte>(address + familySize, bytes.Length));
        address[familySize + bytes.Length] = 0;
        return (uint)(familySize + bytes.Length + 1);
    }

    /// <summary>struct iovec.</summary>
    private struct IoVector
    {
        public byte* Start;
        public nuint Length;
    }

    /// <summary>struct msghdr.</summary>
    private struct MessageHeader
    {
        public byte* Name;
        public uint NameLength;
        public IoVector* Parts;
        public nuint PartCount;
        public byte* Control;
        public nuint ControlLength;
        public int Flags;
    }
}
