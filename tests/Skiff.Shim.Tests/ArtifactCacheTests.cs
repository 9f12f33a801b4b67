using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Win32.SafeHandles;
using Skiff.Shim.Wasm;

namespace Skiff.Shim.Tests;

public sealed class ArtifactCacheTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("skiff-cache-").FullName;
    private int _compiled;

    private string Cache => Path.Combine(_folder, "cache");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task a_module_is_compiled_once_and_found_again()
    {
        var cache = New("e1");
        var first = await GetAsync(cache, "module");
        Assert.Equal("compiled module", await TextAsync(first.Path!));
        Assert.Equal(first, await GetAsync(cache, "module"));
        Assert.Equal(first, await GetAsync(New("e1"), "module"));
        Assert.Equal(1, _compiled);
        Assert.Equal([first.Path!], Directory.GetFiles(Cache, "*", SearchOption.AllDirectories));
    }

    [Fact]
    public async Task another_module_and_another_engine_are_compiled_for_themselves()
    {
        var paths = new HashSet<string?>
        {
            (await GetAsync(New("e1"), "module")).Path, (await GetAsync(New("e2"), "module")).Path, (await GetAsync(New("e1"), "other")).Path,
        };
        Assert.Equal((3, 3), (paths.Count, _compiled));
    }

    [Fact]
    public async Task many_who_want_it_at_once_get_one_compilation()
    {
        var gate = new TaskCompletionSource();
        var caches = Enumerable.Range(0, 8).Select(_ => New("e1", before: () => gate.Task)).ToList();
        var all = caches.Select(c => Task.Run(() => GetAsync(c, "module"))).ToList();
        gate.SetResult();
        var paths = await Task.WhenAll(all);
        Assert.Single(paths.Distinct());
        Assert.Equal(1, _compiled);
    }

    [Fact]
    public async Task nobody_but_root_gets_into_the_folder_and_nobody_can_write_an_artifact()
    {
        var path = (await GetAsync(New("e1"), "module")).Path!;
        const UnixFileMode others = UnixFileMode.GroupRead | UnixFileMode.GroupWrite | UnixFileMode.GroupExecute
            | UnixFileMode.OtherRead | UnixFileMode.OtherWrite | UnixFileMode.OtherExecute;
        Assert.Equal(UnixFileMode.None, File.GetUnixFileMode(Cache) & others);
        Assert.Equal(UnixFileMode.None, File.GetUnixFileMode(Path.GetDirectoryName(path)!) & others);
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.GroupRead | UnixFileMode.OtherRead, File.GetUnixFileMode(path));
    }

    [Fact]
    public async Task a_module_at_fault_is_refused_and_leaves_nothing()
    {
        var result = await GetAsync(New("e1", outcome: new ArtifactResult(null, Refusal: "bad magic")), "module");
        Assert.Equal("bad magic", result.Refusal);
        Assert.Empty(Directory.GetFileSystemEntries(Cache));
    }

    [Fact]
    public async Task what_a_killed_shim_left_does_not_stand_in_the_way()
    {
        var path = (await GetAsync(New("e1"), "module")).Path!;
        File.Move(path, Path.Combine(Path.GetDirectoryName(path)!, "artifact.new"));
        _ = Directory.CreateDirectory(Path.Combine(Path.GetDirectoryName(path)!, "work", "rootfs"));
        Assert.Equal(path, (await GetAsync(New("e1"), "module")).Path);
        Assert.Equal("compiled module", await TextAsync(path));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(63)]
    [InlineData(127)]
    public async Task one_that_is_cut_off_or_is_something_else_is_compiled_again(int left)
    {
        var path = (await GetAsync(New("e1"), "module")).Path!;
        File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite);
        await using (var file = File.OpenWrite(path))
        {
            file.SetLength(left);
        }

        Assert.Equal(path, (await GetAsync(New("e1"), "module")).Path);
        Assert.Equal("compiled module", await TextAsync(path));
        File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite);
        await File.WriteAllTextAsync(path, new string('x', 1000));
        Assert.Equal(path, (await GetAsync(New("e1"), "module")).Path);
        Assert.Equal("compiled module", await TextAsync(path));
        Assert.Equal(3, _compiled);
    }

    [Fact]
    public async Task a_folder_that_cannot_be_used_is_a_problem_and_no_refusal()
    {
        await File.WriteAllTextAsync(Cache, "");
        var result = await GetAsync(New("e1"), "module");
        Assert.Null(result.Path);
        Assert.Null(result.Refusal);
        Assert.Contains(Cache, result.Problem, StringComparison.Ordinal);
    }

    [Fact]
    public async Task the_least_recently_used_goes_when_the_limit_is_reached_and_never_a_young_one()
    {
        var cache = New("e1", limit: 2 * (CompiledModuleTests.Whole.Length + 20));
        var old = (await GetAsync(cache, "module 1")).Path!;
        var used = (await GetAsync(cache, "module 2")).Path!;
        File.SetLastWriteTimeUtc(old, DateTime.UtcNow.AddHours(-3));
        File.SetLastWriteTimeUtc(used, DateTime.UtcNow.AddHours(-4));
        Assert.Equal(used, (await GetAsync(cache, "module 2")).Path);
        var last = (await GetAsync(cache, "module 3")).Path!;
        Assert.Equal((false, true, true), (File.Exists(old), File.Exists(used), File.Exists(last)));
        Assert.False(Directory.Exists(Path.GetDirectoryName(old)));

        var another = (await GetAsync(cache, "module 4")).Path!;
        Assert.True(File.Exists(used) && File.Exists(last) && File.Exists(another));
    }

    [Fact]
    public async Task one_who_gives_up_waiting_is_let_go()
    {
        var gate = new TaskCompletionSource();
        var begun = new TaskCompletionSource();
        var holder = GetAsync(New("e1", before: () => { begun.SetResult(); return gate.Task; }), "module");
        await begun.Task;
        using var patience = new CancellationTokenSource();
        var waiter = GetAsync(New("e1"), "module", patience.Token);
        await patience.CancelAsync();
        _ = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => waiter);
        gate.SetResult();
        Assert.NotNull((await holder).Path);
    }

    private ArtifactCache New(string engine, long limit = long.MaxValue, Func<Task>? before = null, ArtifactResult outcome = default) => new(
        Cache,
        engine,
        limit,
        async (module, artifact, work, cancellation) =>
        {
            await (before?.Invoke() ?? Task.CompletedTask);
            Assert.Equal(["module"], Directory.GetFileSystemEntries(work).Select(Path.GetFileName));
            _ = Interlocked.Increment(ref _compiled);
            var text = new byte[100];
            text = [.. CompiledModuleTests.Whole, .. "compiled "u8, .. text[..RandomAccess.Read(module, text, 0)]];
            RandomAccess.Write(artifact, text, 0);
            return outcome;
        },
        TimeProvider.System,
        NullLogger.Instance);

    private static async Task<string> TextAsync(string artifact) => (await File.ReadAllTextAsync(artifact))[CompiledModuleTests.Whole.Length..];

    private async Task<ArtifactResult> GetAsync(ArtifactCache cache, string module, CancellationToken cancellation = default)
    {
        var path = Path.Combine(_folder, Guid.NewGuid().ToString("n"));
        await File.WriteAllTextAsync(path, module, CancellationToken.None);
        using SafeFileHandle file = File.OpenHandle(path);
        return await cache.GetAsync(file, m => ModuleDigests.Read(m, copy: null), cancellation);
    }
}
