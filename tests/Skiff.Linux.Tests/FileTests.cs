using Skiff.Linux.Files;

namespace Skiff.Linux.Tests;

public sealed class FileTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("skiff-linux-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void an_atomic_write_replaces_the_file_and_leaves_no_other()
    {
        var path = Path.Combine(_folder, "file");
        File.WriteAllText(path, "old and longer");
        AtomicFile.Write(path, "new"u8, 0x1A0); // 0640
        Assert.Equal("new", File.ReadAllText(path));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead, File.GetUnixFileMode(path));
        Assert.Equal([path], Directory.GetFiles(_folder));
    }

    [Fact]
    public void an_atomic_write_that_fails_keeps_the_old_file()
    {
        var path = Path.Combine(_folder, "folder");
        _ = Directory.CreateDirectory(Path.Combine(path, "full"));
        Assert.ThrowsAny<Exception>(() => AtomicFile.Write(path, "new"u8, 0x180));
        Assert.Equal([path], Directory.GetFileSystemEntries(_folder));
    }

    [Fact]
    public void a_rooted_path_never_leaves_its_root()
    {
        var root = Path.Combine(_folder, "root");
        _ = Directory.CreateDirectory(Path.Combine(root, "etc"));
        File.WriteAllText(Path.Combine(root, "etc", "passwd"), "inner");
        _ = File.CreateSymbolicLink(Path.Combine(root, "absolute"), "/etc/passwd");
        _ = File.CreateSymbolicLink(Path.Combine(root, "dots"), "../../../../../../etc/passwd");
        foreach (var path in (string[])["/absolute", "dots", "../../etc/passwd"])
        {
            using var file = RootedPath.OpenRead(root, path);
            var text = new byte[5];
            Assert.Equal(5, RandomAccess.Read(file!, text, 0));
            Assert.Equal("inner"u8.ToArray(), text);
        }

        Assert.Null(RootedPath.OpenRead(root, "etc/shadow"));
        Assert.Null(RootedPath.OpenRead(root, "etc/passwd/x"));
    }

    [Fact]
    public void a_fifo_opens_without_its_other_end()
    {
        var path = Path.Combine(_folder, "fifo");
        Fifo.Create(path, 0x180);
        Assert.Null(Fifo.OpenWriteNonBlocking(path));
        using var reader = Fifo.OpenReadNonBlocking(path);
        Assert.NotNull(reader);
        using var writer = Fifo.OpenWriteNonBlocking(path);
        Assert.True(Fifo.TryWrite(writer!, "x"u8));
        Assert.Null(Fifo.OpenReadNonBlocking(path + "-missing"));
    }

    [Fact]
    public async Task a_writer_that_closes_is_noticed()
    {
        var path = Path.Combine(_folder, "fifo");
        Fifo.Create(path, 0x180);
        var closed = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        using var watch = CloseWatch.Start(path, () => closed.TrySetResult());
        using var reader = Fifo.OpenReadNonBlocking(path);
        var writer = Fifo.OpenWriteNonBlocking(path);
        Assert.False(closed.Task.IsCompleted);
        writer!.Dispose();
        await closed.Task.WaitAsync(TimeSpan.FromSeconds(90));
    }
}
