using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Skiff.Linux.Mounts;
using Skiff.Testing;

namespace Skiff.Contract;

/// <summary>Modules are compiled once per node, outside their containers.</summary>
public sealed class CompilationTests(Containerds containerds)
{
    public static TheoryData<string> Versions => Containerds.Versions;

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task a_module_is_compiled_once_and_all_its_containers_map_the_artifact(string version)
    {
        var containerd = await containerds.GetAsync(version);
        List<string> ids = [ProgramTests.Id(), ProgramTests.Id()];
        foreach (var id in ids)
        {
            (await containerd.CtrAsync("run", "--detach", "--null-io", "--runtime", Repository.Shim, PrivateContainerd.Image, id, "/sleep.wasm")).Demand();
        }

        try
        {
            List<string> mapped = [];
            foreach (var id in ids)
            {
                var pid = Pid((await containerd.CtrAsync("task", "ls")).Output, id);
                string? inode = null;
                Assert.True(await Until.HoldsAsync(
                    () => Task.FromResult((inode = MappedArtifact(pid)) is not null), RunningContainer.Patience), await File.ReadAllTextAsync($"/proc/{pid}/maps"));
                mapped.Add(inode!);
            }

            Assert.Single(mapped.Distinct());
        }
        finally
        {
            foreach (var id in ids)
            {
                _ = await containerd.CtrAsync("task", "delete", "--force", id);
                _ = await containerd.CtrAsync("container", "rm", id);
            }
        }

        // Compiled is what was run, with nothing half done beside it.
        foreach (var folder in Directory.GetDirectories(containerd.Cache, "*-*"))
        {
            Assert.Equal(["artifact"], Directory.GetFileSystemEntries(folder).Select(Path.GetFileName));
        }
    }

    [Fact]
    [Trait(Containerds.Runs, Containerds.Once)]
    public async Task a_container_with_less_memory_than_the_compiler_needs_runs_its_module()
    {
        var containerd = await containerds.GetAsync("1.6");
        var limit = (12 << 20).ToString(CultureInfo.InvariantCulture);
        var result = await containerd.RunAsync(default, ["--memory-limit", limit], ProgramTests.Id(), "/hello.component.wasm");
        Assert.Equal((0u, ""), (result.Status, result.Error));
    }

    [Fact]
    [Trait(Containerds.Runs, Containerds.Once)]
    public async Task where_nothing_can_be_kept_a_module_is_compiled_in_its_container_and_the_log_says_why()
    {
        var containerd = await containerds.GetAsync("1.6");
        var aside = containerd.Cache + ".aside";
        _ = await containerd.RunAsync(ProgramTests.Id(), "/hello.wasm");
        Directory.Move(containerd.Cache, aside);
        await File.WriteAllTextAsync(containerd.Cache, "");
        try
        {
            var result = await containerd.RunAsync(ProgramTests.Id(), "/hello.wasm");
            Assert.Equal((0u, ""), (result.Status, result.Error));
            Assert.True(await Until.HoldsAsync(
                () => Task.FromResult(containerd.Log.Contains("The module is compiled in its container", StringComparison.Ordinal)), RunningContainer.Patience));
        }
        finally
        {
            File.Delete(containerd.Cache);
            Directory.Move(aside, containerd.Cache);
        }
    }

    [Fact]
    [Trait(Containerds.Runs, Containerds.Once)]
    public async Task what_is_kept_and_damaged_is_compiled_again_and_what_is_another_engines_hinders_no_container()
    {
        var containerd = await containerds.GetAsync("1.6");

        // A module that no other test has: a section of the user's own ends it (core specification 5.5.3).
        var module = Path.Combine(containerd.Folder, ProgramTests.Id() + ".wasm");
        byte[] content = [.. await File.ReadAllBytesAsync(Path.Combine(Repository.Guests, "hello.wasm")), 0, 33, 32, .. Encoding.ASCII.GetBytes(Guid.NewGuid().ToString("n"))];
        await File.WriteAllBytesAsync(module, content);
        Task<CtrResult> RunAsync() => containerd.RunAsync(default, ["--mount", $"type=bind,src={module},dst=/own.wasm,options=bind:ro"], ProgramTests.Id(), "/own.wasm");
        Assert.Equal(0u, (await RunAsync()).Status);
        var artifact = Directory.GetDirectories(containerd.Cache, Convert.ToHexStringLower(SHA256.HashData(content)) + "-*").Single() + "/artifact";
        var compiled = await File.ReadAllBytesAsync(artifact);

        await File.WriteAllBytesAsync(artifact, compiled[..^1]);
        var result = await RunAsync();
        Assert.Equal((0u, ""), (result.Status, result.Error));
        Assert.Equal(compiled.Length, new FileInfo(artifact).Length);

        // The release of the engine that made it, behind the header of 64 bytes (Wasmtime, crates/wasmtime/src/engine/serialization.rs).
        compiled[66]++;
        await File.WriteAllBytesAsync(artifact, compiled);
        result = await RunAsync();
        Assert.Equal(0u, result.Status);
        Assert.Contains("what this node has compiled of /own.wasm does not load", result.Error, StringComparison.Ordinal);
        Assert.Contains("hello from wasm", result.Output, StringComparison.Ordinal);
    }

    [Fact]
    [Trait(Containerds.Runs, Containerds.Once)]
    public async Task a_large_module_of_an_image_is_hashed_once_and_one_that_its_container_changed_is_never_taken_for_it()
    {
        var containerd = await containerds.GetAsync("1.6");
        Assert.SkipWhen(OverlayDevice.Of("overlay", [$"lowerdir={containerd.Folder}"]) is null, $"{containerd.Folder} is on no local file system, where nothing is remembered");
        var digest = Convert.ToHexStringLower(SHA256.HashData(PrivateContainerd.Large("sleep")));
        string? noted = null;
        Assert.True(await Until.HoldsAsync(
            async () =>
            {
                // As soon as the image is two seconds old.
                await using var container = await RunningContainer.StartAsync(containerd, [], "/large.wasm");
                return (noted = Directory.CreateDirectory(containerd.Cache + "/digests").GetFiles().Select(f => f.FullName).FirstOrDefault(f => File.ReadAllText(f) == digest)) is not null;
            },
            RunningContainer.Patience));
        File.SetLastWriteTimeUtc(noted!, DateTime.UnixEpoch);
        await using var first = await RunningContainer.StartAsync(containerd, [], "/large.wasm");
        Assert.NotEqual(DateTime.UnixEpoch, File.GetLastWriteTimeUtc(noted!)); // it was used

        // As large, with the same time of its content, where only that container sees it.
        var file = containerd.Bundle(first.Id) + "/rootfs/large.wasm";
        var modified = File.GetLastWriteTimeUtc(file);
        await File.WriteAllBytesAsync(file, PrivateContainerd.Large("hello"));
        File.SetLastWriteTimeUtc(file, modified);
        Assert.Contains("hello from wasm", (await first.ExecAsync("/large.wasm")).Demand().Output, StringComparison.Ordinal);
        _ = await containerd.CtrAsync("task", "kill", "--signal", "SIGKILL", first.Id);
        Assert.True(await first.BecomesAsync("STOPPED"));
        _ = await containerd.CtrAsync("task", "rm", first.Id);
        Assert.Contains("hello from wasm", (await containerd.CtrAsync("task", "start", first.Id)).Demand().Output, StringComparison.Ordinal);
        await using var second = await RunningContainer.StartAsync(containerd, [], "/large.wasm");
        Assert.True(await second.BecomesAsync("RUNNING"));
    }

    private static int Pid(string tasks, string id) => int.Parse(
        tasks.Split('\n').Single(l => l.StartsWith(id + " ", StringComparison.Ordinal)).Split(' ', StringSplitOptions.RemoveEmptyEntries)[1],
        CultureInfo.InvariantCulture);

    /// <returns>The device and inode of what is mapped from the place of the artifact; null as long as nothing is.</returns>
    private static string? MappedArtifact(int pid) => File.ReadLines($"/proc/{pid}/maps")
        .Where(l => l.EndsWith("/.skiff/artifact", StringComparison.Ordinal)).Select(l => string.Join(' ', l.Split(' ')[3..5])).FirstOrDefault();
}
