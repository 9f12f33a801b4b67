using Skiff.Containerd.Config;

namespace Skiff.Containerd.Tests.Config;

public sealed class CaseTests
{
    [Theory]
    [MemberData(nameof(Case.Accepted), MemberType = typeof(Case))]
    public void the_runtime_is_added_where_it_belongs_and_nothing_else_changes(string name)
    {
        var example = Case.Named(name);
        using var folder = example.Open();
        folder.Apply(Add(folder, example));
        Assert.Equal(example.After, folder.Content);
    }

    [Theory]
    [MemberData(nameof(Case.Accepted), MemberType = typeof(Case))]
    public void adding_it_again_changes_nothing(string name)
    {
        var example = Case.Named(name);
        using var folder = example.Open();
        folder.Apply(Add(folder, example));
        Assert.Empty(Add(folder, example).Changes!);
    }

    [Theory]
    [MemberData(nameof(Case.Accepted), MemberType = typeof(Case))]
    public void removing_it_gives_back_every_byte(string name)
    {
        var example = Case.Named(name);
        using var folder = example.Open();
        folder.Apply(Add(folder, example));
        folder.Apply(Remove(folder, example));
        Assert.Equal(example.Before, folder.Content);
        Assert.Empty(Remove(folder, example).Changes!);
    }

    [Theory]
    [MemberData(nameof(Case.Accepted), MemberType = typeof(Case))]
    public void an_older_registration_is_brought_up_to_date_in_its_place(string name)
    {
        var example = Case.Named(name);
        using var folder = example.Open();
        var older = new RuntimeTable(Case.Handler, "/opt/skiff/0.0.1/shim") { Options = new Dictionary<string, OptionValue> { ["Root"] = "/old" } };
        folder.Apply(Add(folder, example, older));
        Assert.NotEqual(example.After, folder.Content);
        folder.Apply(Add(folder, example));
        Assert.Equal(example.After, folder.Content);
    }

    [Theory]
    [MemberData(nameof(Case.Accepted), MemberType = typeof(Case))]
    public void two_runtimes_leave_in_either_order_without_a_trace(string name)
    {
        var example = Case.Named(name);
        string[] handlers = [Case.Handler, "skiff-canary"];
        foreach (var order in (int[][])[[0, 1], [1, 0]])
        {
            using var folder = example.Open();
            foreach (var handler in handlers)
            {
                folder.Apply(Add(folder, example, Case.Table with { Handler = handler }));
            }

            foreach (var i in order)
            {
                folder.Apply(Remove(folder, example, handlers[i]));
            }

            Assert.Equal(example.Before, folder.Content);
        }
    }

    [Theory]
    [MemberData(nameof(Case.Accepted), MemberType = typeof(Case))]
    public void a_table_that_lost_its_markers_is_known_by_its_shim(string name)
    {
        var example = Case.Named(name);
        using var folder = example.Open();
        folder.Apply(Add(folder, example));
        foreach (var (file, content) in folder.Content)
        {
            var lines = content.Split('\n').Where(l => !l.StartsWith("# skiff-operator:", StringComparison.Ordinal));
            _ = folder.Put(file, Bytes(string.Join('\n', lines)));
        }

        folder.Apply(Remove(folder, example));
        foreach (var (file, content) in folder.Content.Where(f => f.Key.EndsWith(".toml", StringComparison.Ordinal)))
        {
            var (document, problem) = TomlDocument.Parse(file, Bytes(content));
            Assert.Null(problem);
            Assert.DoesNotContain(document!.Definitions, d => d.Path.Contains(Case.Handler));
            var before = TomlDocument.Parse(file, Bytes(example.Before.GetValueOrDefault(file, ""))).Document!;
            foreach (var definition in before.Definitions)
            {
                var value = before.Root.At(definition.Path);
                Assert.True(value is TomlTable || TomlTable.Same(value, document.Root.At(definition.Path)), string.Join('.', definition.Path));
            }
        }
    }

    [Theory]
    [MemberData(nameof(Case.Refused), MemberType = typeof(Case))]
    public void what_cannot_be_edited_safely_is_refused_with_the_place_and_the_way_out(string name)
    {
        var example = Case.Named(name);
        using var folder = example.Open();
        var (files, problem) = ConfigFiles.Read(folder.Root, ConfigFiles.DefaultMainPath, example.Containerd);
        Assert.Equal(example.Problem, problem ?? RuntimeRegistration.Add(files!, Case.Table, example.Containerd, example.Effective).Problem);
    }

    private static ConfigPlan Add(ConfigFolder folder, Case example, RuntimeTable? table = null)
    {
        var plan = RuntimeRegistration.Add(folder.Files(example.Containerd), table ?? Case.Table, example.Containerd, example.Effective);
        Assert.Null(plan.Problem);
        return plan;
    }

    private static ConfigPlan Remove(ConfigFolder folder, Case example, string handler = Case.Handler) =>
        RuntimeRegistration.Remove(folder.Files(example.Containerd), handler, Case.Shim);

    private static byte[] Bytes(string content) => [.. content.Select(c => (byte)c)];
}
