using Skiff.Testing;

namespace Skiff.Kubernetes.Tests.Testing;

/// <summary>The folders that tests of many processes share.</summary>
public sealed class CacheTests : IDisposable
{
    private static readonly TimeSpan _patience = TimeSpan.FromSeconds(30);

    private readonly string _name = "test-" + Guid.NewGuid().ToString("n");

    public void Dispose()
    {
        foreach (var folder in Found())
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public async Task two_at_once_end_with_one_whole_folder()
    {
        TaskCompletionSource[] inside = [new(), new()];
        TaskCompletionSource[] go = [new(), new()];
        var both = Enumerable.Range(0, 2).Select(i => Cache.FolderAsync(_name, async draft =>
        {
            await File.WriteAllTextAsync(Path.Combine(draft, "first"), $"{i}");
            inside[i].SetResult();
            await go[i].Task.WaitAsync(_patience);
            await File.WriteAllTextAsync(Path.Combine(draft, "last"), $"{i}");
        })).ToArray();
        await Task.WhenAll(inside.Select(t => t.Task)).WaitAsync(_patience);
        Assert.False(Directory.Exists(Cache.PathOf(_name)), "it is not there before it is whole");

        go[1].SetResult();
        Assert.Equal(Cache.PathOf(_name), await both[1].WaitAsync(_patience));
        go[0].SetResult();
        Assert.Equal(Cache.PathOf(_name), await both[0].WaitAsync(_patience));
        Assert.Equal([Cache.PathOf(_name)], Found());
        Assert.Equal(["1", "1"], [Text("first"), Text("last")]);
    }

    [Fact]
    public async Task what_is_there_is_not_filled_again()
    {
        _ = await Cache.FolderAsync(_name, draft => File.WriteAllTextAsync(Path.Combine(draft, "first"), "1"));
        _ = await Cache.FolderAsync(_name, _ => throw new InvalidOperationException("it is there"));
        Assert.Equal("1", Text("first"));
    }

    [Fact]
    public async Task of_a_failure_nothing_stays()
    {
        _ = await Assert.ThrowsAsync<InvalidOperationException>(() => Cache.FolderAsync(_name, async draft =>
        {
            await File.WriteAllTextAsync(Path.Combine(draft, "first"), "1");
            throw new InvalidOperationException("no more room");
        }));
        Assert.Empty(Found());
    }

    private string[] Found() => Directory.GetDirectories(Path.GetDirectoryName(Cache.PathOf(_name))!, _name + "*");

    private string Text(string file) => File.ReadAllText(Path.Combine(Cache.PathOf(_name), file));
}
