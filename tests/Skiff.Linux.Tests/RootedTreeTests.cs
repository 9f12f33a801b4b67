using System.Globalization;
using System.Security.Cryptography;
using Microsoft.Win32.SafeHandles;
using Skiff.Linux.Files;
using Skiff.Linux.Processes;

namespace Skiff.Linux.Tests;

public sealed class RootedTreeTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("skiff-tree-").FullName;
    private readonly RootedTree _tree;

    public RootedTreeTests()
    {
        _ = Directory.CreateDirectory(Path.Combine(_folder, "root", "etc"));
        _tree = new RootedTree(Path.Combine(_folder, "root"));
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string At(string path) => _tree.Root + path;

    [Fact]
    public void a_write_follows_links_inside_the_root_only_and_keeps_the_mode()
    {
        _ = Directory.CreateDirectory(At("/srv"));
        File.WriteAllText(At("/srv/real"), "old");
        File.SetUnixFileMode(At("/srv/real"), UnixFileMode.UserRead | UnixFileMode.GroupRead);
        _ = File.CreateSymbolicLink(At("/etc/relative"), "../srv/real");
        _ = File.CreateSymbolicLink(At("/etc/absolute"), "/etc/relative");
        _ = File.CreateSymbolicLink(At("/etc/out"), "../../../outside");
        _tree.Write("/etc/absolute", "new"u8, 0x1A4);
        Assert.Equal("new", File.ReadAllText(At("/srv/real")));
        Assert.Equal(0x120u, _tree.Target("/etc/absolute")!.Value.Permissions);
        Assert.Equal("/etc/relative", _tree.LinkTarget("/etc/absolute"));
        _tree.Write("/etc/out", "kept in"u8, 0x1A4);
        Assert.Equal("kept in", File.ReadAllText(At("/outside")));
        Assert.False(File.Exists(Path.Combine(_folder, "outside")));
        _tree.Delete("/etc/absolute");
        Assert.False(File.Exists(At("/srv/real")));
        Assert.NotNull(_tree.LinkTarget("/etc/absolute"));
    }

    [Fact]
    public void links_in_a_circle_end()
    {
        _ = File.CreateSymbolicLink(At("/etc/a"), "b");
        _ = File.CreateSymbolicLink(At("/etc/b"), "a");
        Assert.Equal(Errno.Loop, Assert.Throws<LinuxException>(() => _tree.Write("/etc/a", "x"u8, 0x1A4)).ErrorNumber);
    }

    [Fact]
    public void a_link_switches_and_a_folder_is_made_with_those_it_is_in()
    {
        Assert.Equal(["/opt", "/opt/x", "/opt/x/y"], _tree.MakeFolder("/opt/x/y", 0x1C0));
        Assert.Empty(_tree.MakeFolder("/opt/x/y", 0x1C0));
        Assert.Equal(0x1C0u, _tree.Status("/opt/x/y")!.Value.Permissions);
        _tree.SwitchLink("/opt/current", "x");
        _tree.SwitchLink("/opt/current", "x/y");
        Assert.Equal("x/y", _tree.LinkTarget("/opt/current"));
        Assert.Equal(["current", "x"], _tree.Names("/opt"));
        Assert.False(_tree.RemoveIfEmpty("/opt"));
        _tree.DeleteTree("/opt/current");
        Assert.True(_tree.RemoveIfEmpty("/opt/x/y"));
        Assert.True(_tree.RemoveIfEmpty("/opt/x/y"));
        _tree.DeleteTree("/opt");
        Assert.Null(_tree.Status("/opt"));
    }

    [Fact]
    public void deleting_a_tree_does_not_follow_links()
    {
        _ = _tree.MakeFolder("/a/b", 0x1ED);
        File.WriteAllText(At("/etc/kept"), "");
        _ = File.CreateSymbolicLink(At("/a/b/link"), At("/etc"));
        _tree.DeleteTree("/a");
        Assert.True(File.Exists(At("/etc/kept")));
    }

    [Fact]
    public void a_copy_is_there_whole_or_not_at_all()
    {
        var source = Path.Combine(_folder, "source");
        File.WriteAllText(source, "content");
        _tree.CopyIn(source, "/etc/copy", 0x1ED, SHA256.HashData("content"u8));
        Assert.Equal(0x1EDu, _tree.Status("/etc/copy")!.Value.Permissions);
        Assert.Equal(SHA256.HashData("content"u8), _tree.Hash("/etc/copy"));
        Assert.ThrowsAny<IOException>(() => _tree.CopyIn(source, "/etc/other", 0x1ED, SHA256.HashData("other"u8)));
        Assert.Equal(["copy"], _tree.Names("/etc"));
    }

    [Fact]
    public void only_leftovers_of_writes_are_deleted()
    {
        foreach (var name in (string[])["config.toml.12.3.tmp", "config.toml.12.tmp", "config.toml.a.3.tmp", "other.toml.12.3.tmp", "config.toml.tmp"])
        {
            File.WriteAllText(At("/etc/" + name), "");
        }

        _tree.DeleteLeftovers("/etc/config.toml");
        Assert.Equal(["config.toml.12.tmp", "config.toml.a.3.tmp", "config.toml.tmp", "other.toml.12.3.tmp"], _tree.Names("/etc"));
    }

    [Fact]
    public void a_lock_is_held_by_one()
    {
        using (var first = _tree.TryLock("/etc"))
        {
            Assert.NotNull(first);
            Assert.Null(_tree.TryLock("/etc"));
        }

        using var second = _tree.TryLock("/etc");
        Assert.NotNull(second);
    }

    [Fact]
    public void a_lock_is_given_back_though_there_is_a_copy_of_its_descriptor()
    {
        SafeFileHandle copy;
        using (_tree.TryLock("/etc"))
        {
            // What a process that another thread is just starting has until its exec.
            var descriptor = Directory.GetFileSystemEntries("/proc/self/fd").Single(f => new FileInfo(f).LinkTarget == At("/etc"));
            using var borrowed = new SafeFileHandle(nint.Parse(Path.GetFileName(descriptor), CultureInfo.InvariantCulture), ownsHandle: false);
            copy = OpenDescriptor.Duplicate(borrowed);
        }

        using (copy)
        using (var second = _tree.TryLock("/etc"))
        {
            Assert.NotNull(second);
        }
    }

    [Fact]
    public void a_file_has_a_limit()
    {
        File.WriteAllText(At("/etc/file"), "12345");
        Assert.Equal(5, _tree.Read("/etc/file", 5)!.Length);
        Assert.Contains("/etc/file", Assert.Throws<IOException>(() => _tree.Read("/etc/file", 4)).Message, StringComparison.Ordinal);
        Assert.Null(_tree.Read("/etc/none", 4));
    }

    [Fact]
    public void free_space_is_that_of_the_nearest_folder()
    {
        // Compared with what others cannot change meanwhile: /proc never has any, a disk always has some.
        var machine = new RootedTree("/");
        Assert.Equal(0, machine.FreeSpace("/proc/not/there/yet"));
        Assert.True(_tree.FreeSpace("/") > 0);
        Assert.True(_tree.FreeSpace("/not/there/yet") > 0);
    }

    [Fact]
    public async Task a_program_starts_in_the_namespaces_of_another_process()
    {
        if (ThisProcess.UserId != 0)
        {
            Assert.Skip("entering namespaces needs root");
        }

        // A process with a mount of its own, which this one does not see.
        var mark = At("/etc/mark");
        using var report = File.OpenHandle(Path.Combine(_folder, "ready"), FileMode.Create, FileAccess.Write, FileShare.ReadWrite);
        var other = Reaper.Shared.Spawn(new SpawnRequest
        {
            Path = "/usr/bin/unshare",
            Arguments = ["unshare", "-m", "--propagation", "private", "sh", "-c", $"mount -t tmpfs tmpfs {At("/etc")} && touch {mark} && echo ready && exec sleep 1000"],
            Files = new Dictionary<int, SafeFileHandle> { [1] = report },
        });
        try
        {
            for (var i = 0; i < 9000 && new FileInfo(Path.Combine(_folder, "ready")).Length == 0; i++)
            {
                await Task.Delay(10);
            }

            var request = new SpawnRequest { Path = "/bin/ls", Arguments = ["ls", At("/etc")] };
            Assert.Equal("mark\n", (await Command.RunAsync(request with { NamespacesOf = other.Pid }, TimeSpan.FromSeconds(90))).OutputText);
            Assert.Equal("", (await Command.RunAsync(request, TimeSpan.FromSeconds(90))).OutputText);
            Assert.True(new RootedTree($"/proc/{other.Pid}/root").Status(mark) is { IsFile: true });
        }
        finally
        {
            _ = other.Signal(Signals.Kill);
            _ = await other.Exit;
        }

        var gone = new SpawnRequest { Path = "/bin/true", Arguments = ["true"], NamespacesOf = other.Pid };
        Assert.Contains($"/proc/{other.Pid}/ns", Assert.Throws<LinuxException>(() => Reaper.Shared.Spawn(gone)).Message, StringComparison.Ordinal);
    }
}
