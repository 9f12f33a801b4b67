using Skiff.Linux.Processes;

namespace Skiff.Testing;

/// <summary>A containerd to test against: Debian's own, or one unpacked from the shared folder beside the repository.</summary>
public sealed record ContainerdVersion(string Name, string? Suite)
{
    /// <summary>All versions the shim is for.</summary>
    public static readonly IReadOnlyList<ContainerdVersion> All = [new("1.6", null), new("1.7", "trixie"), new("2.1", "sid"), new("2.4", "2.4")];

    /// <summary>
    /// Those that the tests run against: the oldest and the newest, between which no difference of the others is known, or those that
    /// <c>SKIFF_CONTAINERDS</c> names, with spaces between them.
    /// </summary>
    public static IReadOnlyList<ContainerdVersion> Tested { get; } =
        Environment.GetEnvironmentVariable("SKIFF_CONTAINERDS") is { Length: > 0 } names ? [.. names.Split(' ').Select(Named)] : [All[0], All[^1]];

    /// <summary>Whether its config.toml has schema 3.</summary>
    public bool IsVersion2 => Name.StartsWith('2');

    /// <summary>The version called so.</summary>
    public static ContainerdVersion Named(string name) => All.Single(v => v.Name == name);

    /// <summary>The folder with its containerd and ctr, unpacked once.</summary>
    /// <returns>The folder, or what this machine lacks.</returns>
    public async Task<(string? Folder, string? Missing)> LocateAsync()
    {
        if (Suite is null)
        {
            return File.Exists("/usr/bin/containerd") ? ("/usr/bin", null) : (null, "no /usr/bin/containerd: run hack/setup test");
        }

        var script = Path.Combine(Repository.Shared, "tools", "containerd.sh");
        if (!File.Exists(script))
        {
            return (null, $"no {script}: containerd {Name} comes from there");
        }

        var folder = await Cache.FolderAsync("containerd-" + Suite, async draft =>
        {
            var result = await Command.RunAsync(
                new SpawnRequest { Path = "/bin/bash", Arguments = ["bash", script, Suite, draft] }, TimeSpan.FromMinutes(5));
            if (!result.Exit.Success)
            {
                throw new InvalidOperationException($"{script} {Suite} failed: {result.Error}");
            }
        });
        return (folder, null);
    }
}
