using Skiff.Linux.Processes;
using Skiff.Testing;

namespace Skiff.Contract.Stations;

/// <summary>What the tests on whole machines have in common: scripts from the shared folder, and the guests' image.</summary>
internal sealed class Station : IDisposable
{
    public static string Check => ScriptNamed("check.sh");

    public string Folder { get; } = Directory.CreateTempSubdirectory("skiff-station-").FullName;

    public string Image => Path.Combine(Folder, "image.tar");

    public void Dispose() => Directory.Delete(Folder, recursive: true);

    public static string ScriptNamed(string name) => Path.Combine(Repository.Root, "tests", "Skiff.Contract", "Stations", name);

    public static async Task<CommandResult> RunAsync(TimeSpan limit, string[] environment, string script, params string[] arguments) => await Command.RunAsync(
        new SpawnRequest
        {
            Path = "/bin/bash",
            Arguments = ["bash", script, .. arguments],
            Environment = [.. environment, "HOME=" + Machines.Home],
        },
        limit);

    /// <summary>The folder of a station's scripts, or a skip that says what is missing.</summary>
    public async Task<string> NeedAsync(string script)
    {
        if (Repository.Missing is { } missing)
        {
            Assert.Skip(missing);
        }

        var path = Path.Combine(Repository.Shared, script);
        if (!File.Exists(path))
        {
            Assert.Skip($"no {path}: the station's scripts come from there");
        }

        await Machines.MakeAsync("machine/root.sh");
        PrivateContainerd.GuestImage().Save(Image);
        return Path.GetDirectoryName(path)!;
    }
}
