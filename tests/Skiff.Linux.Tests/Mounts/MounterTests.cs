using Skiff.Linux.Files;
using Skiff.Linux.Mounts;

namespace Skiff.Linux.Tests.Mounts;

public sealed class MounterTests : IDisposable
{
    private const string UserMap = "uidmap=0:100000:65536";
    private const string GroupMap = "gidmap=0:200000:65536";

    private readonly string _folder = Directory.CreateTempSubdirectory("skiff-mounts-").FullName;

    public MounterTests()
    {
        Mounter.Mount("tmpfs", "tmpfs", _folder, ["size=16m"]);
        foreach (var folder in (string[])["layers/1/fs", "layers/2/fs", "layers/3/fs", "layers/3/work", "root"])
        {
            _ = Directory.CreateDirectory(At(folder));
        }

        File.WriteAllText(At("layers/1/fs/lower"), "");
        File.WriteAllText(At("layers/2/fs/middle"), "");
    }

    private string[] Overlay => [$"lowerdir={At("layers/2/fs")}:{At("layers/1/fs")}", $"upperdir={At("layers/3/fs")}", $"workdir={At("layers/3/work")}"];

    public void Dispose()
    {
        Mounter.UnmountTree(_folder);
        Directory.Delete(_folder);
    }

    [Fact]
    public void an_overlay_for_a_user_namespace_has_its_layers_files_owned_by_the_namespaces_root_and_leaves_one_mount()
    {
        MapsOrSkip();
        Mounter.Mount("overlay", "overlay", At("root"), [UserMap, GroupMap, .. Overlay]);
        Assert.Equal((100000u, 200000u), Owner("root/lower"));
        Assert.Equal((100000u, 200000u), Owner("root/middle"));
        Assert.Equal((0u, 0u), Owner("layers/1/fs/lower"));
        File.WriteAllText(At("root/new"), "");
        Assert.True(File.Exists(At("layers/3/fs/new")));
        Assert.Equal("overlay", Assert.Single(MountTable.Read(), m => m.Target.StartsWith(_folder + "/", StringComparison.Ordinal)).Type);
    }

    [Fact]
    public void layers_whose_names_fill_more_than_a_page_are_mapped_too()
    {
        MapsOrSkip();
        List<string> layers = [];
        for (var i = 0; i < 60; i++)
        {
            layers.Add(Directory.CreateDirectory(At($"layers/{new string('x', 60)}-{i}/fs")).FullName);
            File.WriteAllText($"{layers[i]}/file-{i}", "");
        }

        Mounter.Mount("overlay", "overlay", At("root"), ["ro", UserMap, GroupMap, $"lowerdir={string.Join(':', layers)}"]);
        Assert.Equal(60, Directory.GetFiles(At("root")).Length);
        Assert.Equal((100000u, 200000u), Owner("root/file-59"));
    }

    [Fact]
    public void a_bind_mount_for_a_user_namespace_has_other_owners_and_keeps_its_flags()
    {
        MapsOrSkip();
        Mounter.Mount("bind", At("layers/1/fs"), At("root"), [UserMap, GroupMap, "ro", "rbind"]);
        Assert.Equal((100000u, 200000u), Owner("root/lower"));
        _ = Assert.Throws<IOException>(() => File.WriteAllText(At("root/new"), ""));
        _ = Assert.Single(MountTable.Read(), m => m.Target.StartsWith(_folder + "/", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("uidmap=0:100000", "gidmap=0:0:1", "uidmap=0:100000")]
    [InlineData("uidmap=0:0:1", "gidmap=0:-1:65536", "gidmap=0:-1:65536")]
    [InlineData("uidmap=0:0:1", "rw", "only one")]
    public void maps_that_are_none_are_named_and_nothing_is_mounted(string users, string groups, string named)
    {
        var error = Assert.Throws<NotSupportedException>(() => Mounter.Mount("overlay", "overlay", At("root"), [users, groups, .. Overlay]));
        Assert.Contains(named, error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain(MountTable.Read(), m => m.Target.StartsWith(_folder + "/", StringComparison.Ordinal));
    }

    [Fact]
    public void a_map_that_the_kernel_refuses_is_shown()
    {
        var error = Assert.Throws<LinuxException>(() => Mounter.Mount("overlay", "overlay", At("root"), ["uidmap=0:1000:10,5:2000:10", GroupMap, .. Overlay]));
        Assert.Contains("\"0 1000 10, 5 2000 10\"", error.Message, StringComparison.Ordinal);
    }

    /// <summary>tmpfs can map owners since Linux 6.3.</summary>
    private static void MapsOrSkip() => Assert.SkipWhen(Environment.OSVersion.Version < new Version(6, 3), $"Linux {Environment.OSVersion.Version} cannot map the owners of a tmpfs, 6.3 can");

    private string At(string path) => Path.Combine(_folder, path);

    private (uint User, uint Group) Owner(string path) => FileStatus.Of(At(path), followLink: false) is { } status ? (status.UserId, status.GroupId) : default;
}
