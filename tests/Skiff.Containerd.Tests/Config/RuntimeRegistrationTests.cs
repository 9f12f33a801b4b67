using System.Text;
using Skiff.Containerd.Config;

namespace Skiff.Containerd.Tests.Config;

/// <summary>What happens between the coming and the going of a runtime.</summary>
public sealed class RuntimeRegistrationTests : IDisposable
{
    private static readonly Version _v16 = new(1, 6, 20);
    private static readonly Version _v17 = new(1, 7, 24);
    private static readonly Version _v21 = new(2, 1, 9);

    private readonly ConfigFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void a_runc_that_somebody_has_set_up_in_our_block_stays_as_it_is()
    {
        _ = _folder.Put("config.toml", []);
        Add(_v17);
        Edit("SystemdCgroup = false\n# skiff-operator: end file", "SystemdCgroup = true\n# skiff-operator: end file");
        Remove(_v17);
        Assert.Equal(
            """
            version = 2
            # containerd 1.x forgets its own runtime runc when a file has another; as it was:
            [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
              runtime_type = "io.containerd.runc.v2"
              [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
                SystemdCgroup = true

            """,
            _folder.Content["config.toml"]);
    }

    [Fact]
    public void a_runtime_that_somebody_has_added_keeps_the_runc_that_it_needs()
    {
        _ = _folder.Put("config.toml", []);
        Add(_v17);
        const string kata = "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.kata]\n  runtime_type = \"io.containerd.kata.v2\"\n";
        Edit("# skiff-operator: end runtime skiff\n", "# skiff-operator: end runtime skiff\n" + kata);
        Remove(_v17);
        Assert.Contains("runtimes.runc]", _folder.Content["config.toml"], StringComparison.Ordinal);
        Assert.EndsWith(kata, _folder.Content["config.toml"], StringComparison.Ordinal);
        Assert.DoesNotContain("skiff]", _folder.Content["config.toml"], StringComparison.Ordinal);
    }

    [Fact]
    public void a_file_that_we_made_and_somebody_has_written_to_keeps_its_version()
    {
        Add(_v21);
        Edit("# skiff-operator: end runtime skiff\n", "# skiff-operator: end runtime skiff\n[grpc]\n  uid = 7\n");
        Remove(_v21);
        Assert.Equal("version = 3\n[grpc]\n  uid = 7\n", _folder.Content["config.toml"]);
    }

    [Fact]
    public void a_last_line_without_an_end_gets_its_end_back_only_if_nothing_has_followed()
    {
        _ = _folder.Put("config.toml", "version = 3"u8);
        Add(_v21);
        Edit("# skiff-operator: end runtime skiff\n", "# skiff-operator: end runtime skiff\n[grpc]\n");
        Remove(_v21);
        Assert.Equal("version = 3\n[grpc]\n", _folder.Content["config.toml"]);
    }

    [Fact]
    public void what_somebody_has_put_into_our_block_stays()
    {
        _ = _folder.Put("config.toml", "version = 3\n"u8);
        Add(_v21);
        Edit("# skiff-operator: end runtime skiff\n", "[grpc]\n  uid = 7 # mine\n# skiff-operator: end runtime skiff\n");
        Remove(_v21);
        Assert.Equal("version = 3\n[grpc]\n  uid = 7 # mine\n", _folder.Content["config.toml"]);
    }

    [Theory]
    [InlineData("begin")]
    [InlineData("end")]
    public void one_marker_that_is_left_is_enough(string edge)
    {
        _ = _folder.Put("config.toml", "version = 3\n"u8);
        Add(_v21);
        Edit($"# skiff-operator: {edge} runtime skiff\n", "");
        Edit(Case.Shim, "/changed/as/well");
        Remove(_v21);
        Assert.Equal("version = 3\n", _folder.Content["config.toml"]);
    }

    [Fact]
    public void a_table_without_markers_that_names_another_shim_is_left_alone()
    {
        const string theirs = "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.skiff]\n  runtime_type = \"/other\"\n";
        _ = _folder.Put("config.toml", Encoding.UTF8.GetBytes(theirs));
        Remove(_v21);
        Assert.Equal(theirs, _folder.Content["config.toml"]);
    }

    [Fact]
    public void a_drop_in_that_is_no_longer_imported_goes_and_the_main_file_takes_the_runtime()
    {
        _ = _folder.Put("config.toml", "version = 3\nimports = [\"conf.d/*.toml\"]\n"u8).Put("conf.d/x.toml", "version = 3\n"u8);
        Add(_v21);
        Assert.Contains("conf.d/skiff-skiff.toml", _folder.Content.Keys);
        Edit("imports = [\"conf.d/*.toml\"]\n", "");
        Add(_v21);
        Assert.DoesNotContain("conf.d/skiff-skiff.toml", _folder.Content.Keys);
        Assert.Contains("runtimes.skiff]", _folder.Content["config.toml"], StringComparison.Ordinal);
    }

    [Fact]
    public void a_drop_in_that_is_no_longer_imported_is_removed_too()
    {
        _ = _folder.Put("config.toml", "version = 3\nimports = [\"conf.d/*.toml\"]\n"u8).Put("conf.d/x.toml", "version = 3\n"u8);
        Add(_v21);
        Edit("imports = [\"conf.d/*.toml\"]\n", "");
        Remove(_v21);
        Assert.Equal(["conf.d/x.toml", "config.toml"], _folder.Content.Keys);
    }

    [Fact]
    public void a_runtime_in_the_main_file_stays_there_when_a_folder_is_imported_later()
    {
        _ = _folder.Put("config.toml", "version = 3\n"u8).Put("conf.d/x.toml", "version = 3\n"u8);
        Add(_v21);
        Edit("version = 3\n", "version = 3\nimports = [\"conf.d/*.toml\"]\n");
        Assert.Empty(Plan(_v21).Changes!);
    }

    [Fact]
    public void the_options_file_of_1_6_goes_when_containerd_is_upgraded()
    {
        _ = _folder.Put("config.toml", "version = 2\n"u8);
        Add(_v16);
        Assert.Contains("ConfigPath", _folder.Content["config.toml"], StringComparison.Ordinal);
        Assert.Equal("# skiff-operator: options of the runtime skiff\nSystemdCgroup = false\n", _folder.Content["skiff-skiff.options"]);
        Add(_v17);
        Assert.DoesNotContain("ConfigPath", _folder.Content["config.toml"], StringComparison.Ordinal);
        Assert.Equal(["config.toml"], _folder.Content.Keys);
    }

    [Fact]
    public void the_file_that_a_table_names_comes_before_it_and_goes_after_it()
    {
        _ = _folder.Put("config.toml", "version = 2\n"u8);
        var plan = Plan(_v16);
        Assert.Equal(["/etc/containerd/skiff-skiff.options", "/etc/containerd/config.toml"], plan.Changes!.Select(c => c.Path));
        _folder.Apply(plan);
        plan = RuntimeRegistration.Remove(_folder.Files(_v16), Case.Handler, Case.Shim);
        Assert.Equal(["/etc/containerd/config.toml", "/etc/containerd/skiff-skiff.options"], plan.Changes!.Select(c => c.Path));
    }

    [Fact]
    public void an_options_file_of_somebody_else_is_not_overwritten()
    {
        _ = _folder.Put("config.toml", "version = 2\n"u8).Put("skiff-skiff.options", "mine"u8);
        Assert.Equal(
            "/etc/containerd/skiff-skiff.options was not written by skiff-operator, and the options of the runtime have to go there: move it away",
            Plan(_v16).Problem);
        Remove(_v16);
        Assert.Equal("mine", _folder.Content["skiff-skiff.options"]);
    }

    [Fact]
    public void what_the_user_sets_comes_before_what_the_default_runtime_has()
    {
        _ = _folder.Put("config.toml", "version = 3\n"u8);
        var options = new Dictionary<string, OptionValue> { ["SystemdCgroup"] = true, ["Root"] = "/r", ["IoUid"] = 7 };
        Add(_v21, Case.Table with { Options = options });
        Assert.Contains(
            "options]\n    IoUid = 7\n    Root = \"/r\"\n    SystemdCgroup = true\n", _folder.Content["config.toml"], StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(6)]
    [InlineData(7)]
    public void a_config_path_of_the_user_stands_alone(int minor)
    {
        _ = _folder.Put("config.toml", "version = 2\n"u8);
        Add(new Version(1, minor, 0), Case.Table with { Options = new Dictionary<string, OptionValue> { ["ConfigPath"] = "/etc/mine.toml" } });
        Assert.Contains("options]\n    ConfigPath = \"/etc/mine.toml\"\n# skiff", _folder.Content["config.toml"], StringComparison.Ordinal);
        Assert.Equal(["config.toml"], _folder.Content.Keys);
    }

    [Theory]
    [InlineData("# skiff-operator: begin file sum=e3b0c44298fc1c14 added-newline\n# skiff-operator: end file\n", "")]
    [InlineData("# skiff-operator: end file\nversion = 3\n# skiff-operator: begin file created-file\n", "version = 3\n")]
    [InlineData("# skiff-operator: end runtime skiff\n# skiff-operator: begin runtime skiff inline\n", "")]
    public void markers_without_what_they_speak_of_just_go(string text, string rest)
    {
        _ = _folder.Put("config.toml", Encoding.UTF8.GetBytes(text));
        Remove(_v21);
        Assert.Equal(rest, _folder.Content["config.toml"]);
    }

    [Fact]
    public void a_handler_that_containerd_has_of_its_own_is_refused() =>
        Assert.Equal(
            "containerd has a runtime runc (io.containerd.runc.v2) of its own: install under another handler name",
            RuntimeRegistration.Add(_folder.Files(_v21), Case.Table with { Handler = "runc" }, _v21, Effective(_v21)).Problem);

    [Fact]
    public void a_containerd_that_is_too_old_is_refused() =>
        Assert.Equal("containerd 1.5.9 is too old: install containerd 1.6 or later", Plan(new Version(1, 5, 9)).Problem);

    private static EffectiveConfig Effective(Version version) => EffectiveConfig.Parse($"""
        [plugins.'{(version.Major < 2 ? CriPlugin.Schema2 : CriPlugin.Schema3)}'.containerd]
        default_runtime_name = 'runc'
        runtimes.runc = {"{"} runtime_type = 'io.containerd.runc.v2', options = {"{"} SystemdCgroup = false {"}"} {"}"}
        """).Config!;

    private ConfigPlan Plan(Version version, RuntimeTable? table = null) =>
        RuntimeRegistration.Add(_folder.Files(version), table ?? Case.Table, version, Effective(version));

    private void Add(Version version, RuntimeTable? table = null) => _folder.Apply(Plan(version, table));

    private void Remove(Version version) => _folder.Apply(RuntimeRegistration.Remove(_folder.Files(version), Case.Handler, Case.Shim));

    private void Edit(string from, string to)
    {
        var text = File.ReadAllText(_folder.MainPath);
        Assert.Contains(from, text, StringComparison.Ordinal);
        File.WriteAllText(_folder.MainPath, text.Replace(from, to, StringComparison.Ordinal));
    }
}
