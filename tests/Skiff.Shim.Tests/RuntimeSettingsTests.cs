using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Skiff.Containerd.Options;
using Skiff.Shim.OciRuntime;

namespace Skiff.Shim.Tests;

public sealed class RuntimeSettingsTests
{
    [Fact]
    public void no_options_are_runc() => Assert.Equal((new RuntimeSettings(), null), RuntimeSettings.Parse(null));

    [Fact]
    public void options_of_runc_are_read() => Assert.Equal(
        new RuntimeSettings("crun", "/r", SystemdCgroup: true, NoPivotRoot: true),
        RuntimeSettings.Parse(Packed("containerd.runc.v1.Options", new RuncOptions { BinaryName = "crun", Root = "/r", SystemdCgroup = true, NoPivotRoot = true })).Settings);

    [Fact]
    public void the_options_table_is_read_as_toml() => Assert.Equal(
        new RuntimeSettings("/usr/bin/crun", SystemdCgroup: false),
        RuntimeSettings.Parse(Packed("runtimeoptions.v1.Options", new RuntimeOptions
        {
            ConfigBody = ByteString.CopyFromUtf8("# chosen\nBinaryName = '/usr/bin/crun' # here\r\n\"SystemdCgroup\" = false\nLater = { a = 1 }\n"),
        })).Settings);

    [Fact]
    public void all_options_are_known_in_both_forms()
    {
        var expected = new RuntimeSettings("crun", "/r", true, true, true, "/shims", 1000, 1001, "/opt/criu", "/image", "/work");
        Assert.Equal(expected, RuntimeSettings.Parse(Packed(RuntimeSettings.RuncType, new RuncOptions
        {
            BinaryName = "crun",
            Root = "/r",
            SystemdCgroup = true,
            NoPivotRoot = true,
            NoNewKeyring = true,
            ShimCgroup = "/shims",
            IoUid = 1000,
            IoGid = 1001,
            CriuPath = "/opt/criu",
            CriuImagePath = "/image",
            CriuWorkPath = "/work",
            TaskApiAddress = "ttrpc+unix:///x",
            TaskApiVersion = 3,
        })).Settings);
        Assert.Equal(expected, RuntimeSettings.ParseToml(
            """
            BinaryName = "crun"
            Root = "/r"
            SystemdCgroup = true
            NoPivotRoot = true
            NoNewKeyring = true
            ShimCgroup = "/shims"
            IoUid = 1000
            IoGid = 1001
            CriuPath = "/opt/criu"
            CriuImagePath = "/image"
            CriuWorkPath = "/work"
            TaskApiAddress = "ttrpc+unix:///x"
            TaskApiVersion = 3
            """,
            "test").Settings);
    }

    [Theory]
    [InlineData("IoUid = -1", "IoUid is not a number from 0")]
    [InlineData("ShimCgroup = 3", "ShimCgroup is not a string")]
    [InlineData("BinaryName = 7", "BinaryName is not a string")]
    [InlineData("SystemdCgroup = \"yes\"", "SystemdCgroup is not true or false")]
    [InlineData("BinaryName = ", "is not valid TOML")]
    public void what_is_wrong_in_the_table_is_named(string toml, string says) => Assert.Contains(
        says, RuntimeSettings.Parse(Packed("runtimeoptions.v1.Options", new RuntimeOptions { ConfigBody = ByteString.CopyFromUtf8(toml) })).Problem, StringComparison.Ordinal);

    [Fact]
    public void a_config_path_that_is_not_there_is_named() => Assert.Contains(
        "/no/such.toml", RuntimeSettings.Parse(Packed("runtimeoptions.v1.Options", new RuntimeOptions { ConfigPath = "/no/such.toml" })).Problem, StringComparison.Ordinal);

    [Fact]
    public void options_of_an_unknown_type_are_refused_by_name() => Assert.Contains(
        "type.googleapis.com/x.Y are unknown", RuntimeSettings.Parse(Packed("type.googleapis.com/x.Y", new Empty())).Problem, StringComparison.Ordinal);

    [Theory]
    [InlineData(null, "kubepods-pod1.slice:cri-containerd:abc", true)]
    [InlineData(null, "/kubepods/pod1/abc", false)]
    [InlineData(false, "kubepods-pod1.slice:cri-containerd:abc", false)]
    [InlineData(true, "/kubepods/pod1/abc", true)]
    public void the_cgroup_driver_follows_the_path_where_the_options_are_silent(bool? said, string path, bool systemd) =>
        Assert.Equal(systemd, new RuntimeSettings(SystemdCgroup: said).UsesSystemdCgroup(path, systemdRuns: true));

    [Fact]
    public void without_systemd_a_path_for_it_is_just_a_name() =>
        Assert.False(new RuntimeSettings().UsesSystemdCgroup("pod.slice:cri-containerd:abc", systemdRuns: false));

    private static Any Packed(string type, IMessage message) => new() { TypeUrl = type, Value = message.ToByteString() };
}
