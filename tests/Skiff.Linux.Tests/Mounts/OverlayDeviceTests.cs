using Skiff.Linux.Files;
using Skiff.Linux.Mounts;

namespace Skiff.Linux.Tests.Mounts;

public sealed class OverlayDeviceTests : IDisposable
{
    private const string Memory = "/dev/shm";

    // A place of a local file system, if this machine has one: the folder for temporary files may be in memory, and a container's root an overlay.
    private static readonly string? _local = new[] { Path.GetTempPath(), AppContext.BaseDirectory, "/var/tmp", "/etc/hosts" }
        .FirstOrDefault(p => MountTable.Read().Where(m => IsIn(p, m.Target)).MaxBy(m => m.Target.Length) is { Type: "ext4" or "xfs" or "btrfs" or "f2fs" });

    private readonly string _shm = Directory.CreateDirectory(Path.Combine(Memory, $"skiff-{Guid.NewGuid():n}")).FullName;

    public void Dispose() => Directory.Delete(_shm, recursive: true);

    [Fact]
    public void layers_on_one_local_file_system_have_its_device()
    {
        Assert.SkipWhen(_local is null, "no place here is on a local file system");
        Assert.Equal(FileIdentity.Of(_local).Device, OverlayDevice.Of("overlay", [$"upperdir={_local}", $"lowerdir={_local}:{_local}", "index=off"]));
    }

    [Fact]
    public void layers_on_several_or_in_memory_and_other_mounts_have_none()
    {
        var local = _local ?? _shm;
        Assert.Null(OverlayDevice.Of("overlay", [$"upperdir={local}", $"lowerdir={local}:{_shm}"]));
        Assert.Null(OverlayDevice.Of("overlay", [$"lowerdir={_shm}"]));
        Assert.Null(OverlayDevice.Of("overlay", [$"lowerdir={local}", $"upperdir={local}/missing"]));
        Assert.Null(OverlayDevice.Of("overlay", ["lowerdir=layers/1:layers/2"]));
        Assert.Null(OverlayDevice.Of("overlay", []));
        Assert.Null(OverlayDevice.Of("bind", [$"lowerdir={local}"]));
    }

    private static bool IsIn(string path, string folder) => folder == "/" || path == folder || path.StartsWith(folder + "/", StringComparison.Ordinal);
}
