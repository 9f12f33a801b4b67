using System.Buffers.Text;
using System.Globalization;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Skiff.Linux.Files;

namespace Skiff.Linux.Cgroups;

/// <summary>
/// Counts the processes of a cgroup that the kernel killed for want of memory, whosever limit it was: the cgroup's own, one above it, or
/// the machine's.
/// </summary>
/// <remarks>
/// The kernel counts a kill for the cgroup of the process that it kills, and before it sends the signal (mm/oom_kill.c): who has seen that
/// the process ended finds it counted. v2 counts it in <c>memory.events</c>, for the cgroups above too, and tells who polls that file; an
/// inotify watch would be told as well, but costs one of the 128 inotify instances that root has on a usual node, one for each pod. v1
/// counts it in <c>memory.oom_control</c>, for this cgroup only, and tells an eventfd when memory runs out for it or for one above it: that
/// is before the kill, and the process to go may be another cgroup's. For a kill by the machine's own want v1 tells nobody. The count goes
/// with the cgroup, which systemd removes as soon as it is empty.
/// </remarks>
public sealed class OomKillCounter : IDisposable
{
    private const int FileSize = 1024;
    private const int NonBlocking = 0x800;
    private const string V2File = "memory.events";

    private static ReadOnlySpan<byte> Key => "oom_kill "u8;

    private static ReadOnlySpan<byte> UnderOom => "under_oom 1\n"u8;

    // On v1 the notice comes before the kill; a few tens of milliseconds after that the cgroup may be gone.
    private static readonly TimeSpan[] _looks =
        [.. new[] { 1, 2, 2, 3, 3, 4, 5, 5, 5, 5, 5, 5, 5, 10, 10, 10, 20, 50, 100, 200 }.Select(m => TimeSpan.FromMilliseconds(m))];

    private readonly SafeFileHandle _file;
    private readonly SafeFileHandle? _above;
    private readonly SafeFileHandle? _notice;

    private OomKillCounter(SafeFileHandle file, SafeFileHandle? above, SafeFileHandle? notice, bool tells)
    {
        _file = file;
        _above = above;
        _notice = notice;
        Tells = tells;
    }

    /// <summary>Whether <see cref="FollowAsync"/> can be used; otherwise one has to read now and then.</summary>
    public bool Tells { get; }

    /// <summary>Opens the counter of a cgroup.</summary>
    /// <returns>It, or why there is none: the machine does not account memory, or the cgroup is gone.</returns>
    public static (OomKillCounter? Counter, string? Problem) Open(ContainerCgroup cgroup)
    {
        ArgumentNullException.ThrowIfNull(cgroup);
        return cgroup.Folder("memory") is { } folder
            ? Open(folder, cgroup.IsUnified, withAbove: true, mustTell: true) : (null, "it is in no memory cgroup");
    }

    /// <summary>Opens the counter of the cgroup whose files are in a folder.</summary>
    /// <param name="folder">Of v2, or of v1's memory controller.</param>
    /// <param name="unified">Whether it is v2.</param>
    /// <param name="withAbove">Whether <see cref="ReadAbove"/> is wanted.</param>
    /// <param name="mustTell">Whether one that does not tell of changes is a problem: v1 wants a file written for that, which a read-only mount forbids.</param>
    /// <returns>It, or why there is none: the machine does not account memory, or the cgroup is gone.</returns>
    public static (OomKillCounter? Counter, string? Problem) Open(string folder, bool unified, bool withAbove, bool mustTell)
    {
        ArgumentNullException.ThrowIfNull(folder);
        SafeFileHandle? file = null, above = null, notice = null;
        try
        {
            if (unified)
            {
                file = Open(Path.Combine(folder, V2File));
                var upper = Path.Combine(Path.GetDirectoryName(folder)!, V2File);
                above = withAbove && File.Exists(upper) ? Open(upper) : null; // the root has none
                return (new OomKillCounter(file, above, null, tells: true), null);
            }

            file = Open(Path.Combine(folder, "memory.oom_control"));
            try
            {
                var descriptor = Libc.eventfd(0, Libc.OpenCloseOnExec | NonBlocking);
                if (descriptor < 0)
                {
                    throw LinuxException.Last("eventfd");
                }

                notice = new SafeFileHandle(descriptor, ownsHandle: true);
                File.WriteAllText(
                    Path.Combine(folder, "cgroup.event_control"), string.Create(CultureInfo.InvariantCulture, $"{descriptor} {file.DangerousGetHandle()}"));
            }
            catch (Exception e) when (!mustTell && Directory.Exists(folder) && e is IOException or UnauthorizedAccessException)
            {
                notice?.Dispose();
                return (new OomKillCounter(file, null, null, tells: false), null);
            }

            return (new OomKillCounter(file, null, notice, tells: true), null);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            file?.Dispose();
            above?.Dispose();
            notice?.Dispose();
            return (null, e.Message);
        }

        static SafeFileHandle Open(string path) => File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
    }

    /// <summary>How many it is now.</summary>
    /// <param name="waits">Whether a process of it waits for memory now, and may be killed for that (v1 only).</param>
    /// <returns>Null when the cgroup is gone.</returns>
    public ulong? Read(out bool waits) => Count(_file, out waits);

    /// <summary>How many it is now for the cgroup above, which has this one's in it; that one outlives this one.</summary>
    /// <returns>Null where it does not count those (v1).</returns>
    public ulong? ReadAbove() => _above is null ? null : Count(_above, out _);

    /// <summary>Looks at once, and whenever <see cref="Read"/> or <see cref="ReadAbove"/> may give more than they last did; until the cgroup is gone.</summary>
    /// <param name="look">Reads; the answer is whether the cgroup is there, and what <see cref="Read"/> said of a process that waits.</param>
    /// <param name="time">The clock.</param>
    /// <param name="cancellation">Ends it.</param>
    /// <exception cref="LinuxException">The kernel cannot watch it.</exception>
    public async Task FollowAsync(Func<(bool There, bool Waits)> look, TimeProvider time, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(look);
        Task? own = null, above = null;
        while (look().There)
        {
            own ??= ChangedAsync(cancellation);
            above ??= ChangedAboveAsync(cancellation);
            var changed = await Task.WhenAny(own, above).ConfigureAwait(false);
            await changed.ConfigureAwait(false);
            (own, above) = (changed == own ? null : own, changed == above ? null : above);

            // On v1 the notice comes before the kill, which takes as long as it takes.
            for (var next = 0; _notice is not null && next < _looks.Length;)
            {
                await Task.Delay(_looks[next], time, cancellation).ConfigureAwait(false);
                var (there, waits) = look();
                if (!there)
                {
                    return;
                }

                next += waits && next == _looks.Length - 1 ? 0 : 1;
            }
        }
    }

    /// <summary>Ends it; no wait may be under way.</summary>
    public void Dispose()
    {
        _file.Dispose();
        _above?.Dispose();
        _notice?.Dispose();
    }

    private async Task ChangedAsync(CancellationToken cancellation)
    {
        if (_notice is null)
        {
            await Readiness.ChangedAsync(_file, cancellation).ConfigureAwait(false);
            return;
        }

        await Readiness.ReadableAsync(_notice, cancellation).ConfigureAwait(false);
        Take();
    }

    private Task ChangedAboveAsync(CancellationToken cancellation) =>
        _above is null ? Task.Delay(Timeout.Infinite, cancellation) : Readiness.ChangedAsync(_above, cancellation);

    private static ulong? Count(SafeFileHandle file, out bool waits)
    {
        waits = false;
        Span<byte> buffer = stackalloc byte[FileSize];
        scoped ReadOnlySpan<byte> text;
        try
        {
            text = buffer[..RandomAccess.Read(file, buffer, 0)];
        }
        catch (IOException)
        {
            return null;
        }

        waits = text.IndexOf(UnderOom) >= 0;
        while (text.Length > 0)
        {
            if (text.StartsWith(Key) && Utf8Parser.TryParse(text[Key.Length..], out ulong count, out _))
            {
                return count;
            }

            var end = text.IndexOf((byte)'\n');
            text = end < 0 ? [] : text[(end + 1)..];
        }

        return 0; // a kernel before 4.13
    }

    private unsafe void Take()
    {
        var added = false;
        _notice!.DangerousAddRef(ref added); // its number must not become another file's, if this is ended meanwhile
        try
        {
            ulong times;
            if (Libc.read((int)_notice.DangerousGetHandle(), (byte*)&times, sizeof(ulong)) < 0 && Marshal.GetLastPInvokeError() != Errno.Again)
            {
                throw LinuxException.Last("read an eventfd");
            }
        }
        finally
        {
            _notice.DangerousRelease();
        }
    }
}
