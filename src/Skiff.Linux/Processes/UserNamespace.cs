using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;
using Skiff.Linux.Files;

namespace Skiff.Linux.Processes;

/// <summary>User namespaces that exist for the sake of their maps.</summary>
internal static unsafe class UserNamespace
{
    private const int NewUserNamespace = 0x10000000;
    private const int StorePidFd = 0x1000;
    private const int WaitForAnyKind = 0x40000000;
    private const int SignalInfoSize = 128;
    private const int StackSize = 64 * 1024;

    // user_namespaces(7): lines of a map.
    private const int MaxRanges = 340;

    /// <summary>Makes a user namespace without a process in it.</summary>
    /// <param name="userMap">Ranges "id inside:id outside:count", separated by commas, as containerd writes its mount option <c>uidmap</c>.</param>
    /// <param name="groupMap">The same for groups.</param>
    /// <returns>A handle that keeps it.</returns>
    /// <exception cref="LinuxException">The kernel refused.</exception>
    /// <exception cref="NotSupportedException">A map is not one.</exception>
    internal static SafeFileHandle Create(string userMap, string groupMap)
    {
        var users = KernelMap("uidmap", userMap);
        var groups = KernelMap("gidmap", groupMap);
        var info = stackalloc byte[SignalInfoSize];
        using var process = Hold(out var pid);
        try
        {
            Write($"/proc/{pid}/uid_map", users);
            Write($"/proc/{pid}/gid_map", groups);
            return OpenFile.Open($"/proc/{pid}/ns/user", Libc.OpenReadOnly | Libc.OpenCloseOnExec, 0);
        }
        finally
        {
            _ = PidFds.Signal(process, Signals.Kill);
            _ = Libc.waitid(Libc.WaitPidFd, (uint)process.DangerousGetHandle(), info, Libc.WaitExited | WaitForAnyKind, null);
        }
    }

    /// <summary>The lines of /proc/PID/uid_map for an option's text.</summary>
    internal static string KernelMap(string option, string text)
    {
        var lines = new StringBuilder();
        var ranges = text.Split(',');
        foreach (var range in ranges)
        {
            var numbers = range.Split(':');
            if (ranges.Length > MaxRanges || numbers.Length != 3 || !numbers.All(n => uint.TryParse(n, NumberStyles.None, CultureInfo.InvariantCulture, out _)))
            {
                throw new NotSupportedException(
                    $"mount option {option}={(text.Length > 100 ? text[..100] + "…" : text)}: wanted are up to {MaxRanges} ranges id-inside:id-outside:count, separated by commas");
            }

            _ = lines.Append(string.Join(' ', numbers)).Append('\n');
        }

        return lines.ToString();
    }

    /// <summary>
    /// A user namespace needs a process to be born in, and a process with threads cannot enter one. The child is a copy of this process
    /// that runs nothing but the C library's sleep, never code of ours; should we die meanwhile, it ends by itself. It sends no signal when
    /// it ends, so that nobody who waits for other children finds it.
    /// </summary>
    private static SafeFileHandle Hold(out int pid)
    {
        const int seconds = 10;
        var library = NativeLibrary.Load("libc.so.6");
        var sleep = NativeLibrary.GetExport(library, "sleep");
        var stack = (byte*)NativeMemory.AlignedAlloc(StackSize, 16);
        try
        {
            var pidFd = -1;
            pid = Libc.clone(sleep, stack + StackSize, NewUserNamespace | StorePidFd, seconds, &pidFd);
            return pid > 0 ? new SafeFileHandle(pidFd, ownsHandle: true) : throw LinuxException.Last("make a user namespace");
        }
        finally
        {
            NativeMemory.AlignedFree(stack); // the child has a copy
            NativeLibrary.Free(library);
        }
    }

    private static void Write(string path, string text)
    {
        using var file = OpenFile.Open(path, Libc.OpenWriteOnly | Libc.OpenCloseOnExec, 0);
        var bytes = Encoding.ASCII.GetBytes(text);
        fixed (byte* start = bytes)
        {
            if (Libc.write((int)file.DangerousGetHandle(), start, (nuint)bytes.Length) != bytes.Length)
            {
                throw LinuxException.Last($"write \"{text.TrimEnd().Replace("\n", ", ", StringComparison.Ordinal)}\" to {path}");
            }
        }
    }
}
