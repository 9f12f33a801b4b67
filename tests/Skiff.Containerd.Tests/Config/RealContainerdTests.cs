using Skiff.Containerd.Config;
using Skiff.Linux.Processes;
using Skiff.Testing;

namespace Skiff.Containerd.Tests.Config;

/// <summary>What containerd itself makes of the edited files. Only it knows how its parser and its imports really work.</summary>
public sealed class RealContainerdTests
{
    /// <summary>Each case with each real containerd that can take it, and each containerd's own default configuration.</summary>
    public static TheoryData<string, string> Pairs
    {
        get
        {
            TheoryData<string, string> data = [];
            foreach (string name in Case.Accepted.Select(r => r.Data))
            {
                foreach (var version in Case.Named(name).Real.Where(r => ContainerdVersion.Tested.Any(t => t.Name == r)))
                {
                    data.Add(name, version);
                }
            }

            return data;
        }
    }

    public static TheoryData<string> Versions => [.. ContainerdVersion.Tested.Select(v => v.Name)];

    [Theory]
    [MemberData(nameof(Pairs))]
    public async ValueTask the_real_containerd_finds_the_runtime_and_sees_no_other_change(string name, string version)
    {
        var containerd = await Real.LocateAsync(version);
        using var folder = Case.Named(name).Open();
        await ProveAsync(folder, containerd);
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public async ValueTask its_own_default_configuration_takes_the_runtime(string version)
    {
        var containerd = await Real.LocateAsync(version);
        using var folder = new ConfigFolder();
        await ProveAsync(folder.Put("config.toml", await containerd.RunAsync("config", "default")), containerd);
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public async ValueTask two_runtimes_are_both_there_and_leave_one_by_one(string version)
    {
        var containerd = await Real.LocateAsync(version);
        using var folder = new ConfigFolder();
        _ = folder.Put("config.toml", []);
        var before = await containerd.DumpAsync(folder);
        foreach (var handler in (string[])["skiff", "skiff-canary"])
        {
            var table = Case.Table with { Handler = handler };
            folder.Apply(RuntimeRegistration.Add(Files(folder, containerd), table, containerd.Release, await containerd.DumpAsync(folder)), "");
        }

        var both = await containerd.DumpAsync(folder);
        Assert.NotNull(both.Find("skiff"));
        Assert.NotNull(both.Find("skiff-canary"));
        folder.Apply(RuntimeRegistration.Remove(Files(folder, containerd), "skiff", Case.Shim), "");
        var one = await containerd.DumpAsync(folder);
        Assert.Null(one.Find("skiff"));
        Assert.False(one.Without("skiff-canary").Differs(before));
        folder.Apply(RuntimeRegistration.Remove(Files(folder, containerd), "skiff-canary", Case.Shim), "");
        Assert.Equal(new SortedDictionary<string, string> { ["config.toml"] = "" }, folder.Content);
    }

    private static async ValueTask ProveAsync(ConfigFolder folder, Real containerd)
    {
        var original = folder.Content;
        var before = await containerd.DumpAsync(folder);
        var wanted = before.DefaultOptions().Where(o => !o.Value.IsZero || o.Key == "SystemdCgroup").ToDictionary();

        // For the cgroup driver alone there is no table under 2.x, which could not add to it.
        if (containerd.Release.Major >= 2 && wanted.Keys.All(k => k == "SystemdCgroup"))
        {
            wanted.Clear();
        }

        // 1. It has the runtime with its annotations and the default runtime's options, and everything else as it was.
        folder.Apply(RuntimeRegistration.Add(Files(folder, containerd), Case.Table, containerd.Release, before), "");
        var after = await containerd.DumpAsync(folder);
        var found = after.Find(Case.Handler);
        Assert.NotNull(found);
        Assert.Equal(Case.Shim, found.RuntimeType);
        Assert.Equal(Case.Table.PodAnnotations, found.PodAnnotations);
        Assert.Equal(wanted, containerd.Release.Minor == 6 && found.Options.TryGetValue("ConfigPath", out var path)
            ? Options(path.AsString!) : found.Options);
        Assert.True(after.Differs(before));
        Assert.False(after.Without(Case.Handler).Differs(before), "containerd sees another change than the runtime");

        // 2. With its own word for what is there now, nothing is left to do.
        Assert.Empty(RuntimeRegistration.Add(Files(folder, containerd), Case.Table, containerd.Release, after).Changes!);

        // 3. And back.
        folder.Apply(RuntimeRegistration.Remove(Files(folder, containerd), Case.Handler, Case.Shim), "");
        Assert.Equal(original, folder.Content);
    }

    private static IReadOnlyDictionary<string, OptionValue> Options(string path)
    {
        var table = new TomlTable();
        table.Set("options", TomlDocument.Parse(path, File.ReadAllBytes(path)).Document!.Root);
        return EffectiveConfig.Read("", table).Options;
    }

    private static ConfigFiles Files(ConfigFolder folder, Real containerd)
    {
        var (files, problem) = ConfigFiles.Read("/", folder.MainPath, containerd.Release);
        Assert.Null(problem);
        return files!;
    }

    private sealed record Real(string Program, Version Release)
    {
        public static async Task<Real> LocateAsync(string name)
        {
            var (folder, missing) = await ContainerdVersion.Named(name).LocateAsync();
            if (folder is null)
            {
                Assert.Skip(missing!);
            }

            var program = Path.Combine(folder, "containerd");
            var real = new Real(program, new Version());
            return real with { Release = ContainerdRelease.Parse(System.Text.Encoding.UTF8.GetString(await real.RunAsync("--version")))! };
        }

        public async Task<EffectiveConfig> DumpAsync(ConfigFolder folder)
        {
            // 1.x cannot dump what is not there; it runs on its defaults then.
            var dump = await (File.Exists(folder.MainPath) ? RunAsync("--config", folder.MainPath, "config", "dump") : RunAsync("config", "default"));
            var (config, problem) = EffectiveConfig.Parse(System.Text.Encoding.UTF8.GetString(dump));
            Assert.Null(problem);
            return config!;
        }

        public async Task<byte[]> RunAsync(params string[] words)
        {
            var result = await Command.RunAsync(new SpawnRequest { Path = Program, Arguments = ["containerd", .. words] }, TimeSpan.FromSeconds(60));
            Assert.True(result.Exit.Success, result.Error);
            return result.Output;
        }
    }
}
