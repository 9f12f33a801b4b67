using System.Runtime.CompilerServices;
using Skiff.Containerd.Config;

namespace Skiff.Containerd.Tests.Config;

/// <summary>
/// A folder in cases/: <c>before.toml</c> (none: no main file) and <c>after.toml</c>, or folders <c>before</c> and <c>after</c> where it takes more
/// than one file, or <c>problem.txt</c> where the edit is refused. <c>case.toml</c> says for which containerd, and which real ones can take it.
/// </summary>
internal sealed class Case
{
    public const string Handler = "skiff";
    public const string Shim = "/opt/skiff/bin/containerd-shim-skiff-v1";

    private readonly string _folder;

    private Case(string name)
    {
        _folder = Path.Combine(Root(), name);
        var (document, problem) = TomlDocument.Parse("case.toml", File.ReadAllBytes(Path.Combine(_folder, "case.toml")));
        Assert.Null(problem);
        Containerd = Version.Parse((string)document!.Root["containerd"]!);
        Real = [.. ((IReadOnlyList<object>)document.Root["real"]!).Cast<string>()];
        var own = Path.Combine(_folder, "effective.toml");
        (var effective, problem) = EffectiveConfig.Parse(
            File.ReadAllText(File.Exists(own) ? own : Path.Combine(Root(), $"effective-{Containerd.Major}.toml")));
        Assert.Null(problem);
        Effective = effective!;
    }

    /// <summary>What every case installs.</summary>
    public static RuntimeTable Table { get; } = new(Handler, Shim) { PodAnnotations = ["skiff.dev/*", "*.skiff.dev/*"] };

    public static TheoryData<string> All => [.. Names()];

    public static TheoryData<string> Accepted => [.. Names().Where(n => !Named(n).IsRefused)];

    public static TheoryData<string> Refused => [.. Names().Where(n => Named(n).IsRefused)];

    /// <summary>The version it is for.</summary>
    public Version Containerd { get; }

    /// <summary>The real ones that can take its files.</summary>
    public IReadOnlyList<string> Real { get; }

    /// <summary>What that version makes of the files before.</summary>
    public EffectiveConfig Effective { get; }

    public bool IsRefused => File.Exists(Path.Combine(_folder, "problem.txt"));

    public string Problem => File.ReadAllText(Path.Combine(_folder, "problem.txt")).TrimEnd('\n');

    public SortedDictionary<string, string> Before => Content("before");

    public SortedDictionary<string, string> After => Content("after");

    public static Case Named(string name) => new(name);

    /// <summary>Puts the files before into a folder.</summary>
    public ConfigFolder Open()
    {
        var folder = new ConfigFolder();
        foreach (var (name, content) in Before)
        {
            _ = folder.Put(name, [.. content.Select(c => (byte)c)]);
        }

        return folder;
    }

    private static IEnumerable<string> Names() => Directory.GetDirectories(Root()).Select(f => Path.GetFileName(f)!).Order(StringComparer.Ordinal);

    private static string Root([CallerFilePath] string here = "") => Path.Combine(Path.GetDirectoryName(here)!, "cases");

    private SortedDictionary<string, string> Content(string name)
    {
        var file = Path.Combine(_folder, name + ".toml");
        return Directory.Exists(Path.Combine(_folder, name)) ? ConfigFolder.Read(Path.Combine(_folder, name))
            : !File.Exists(file) ? []
            : new SortedDictionary<string, string> { ["config.toml"] = string.Concat(File.ReadAllBytes(file).Select(b => (char)b)) };
    }
}
