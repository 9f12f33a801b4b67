using Microsoft.Extensions.Time.Testing;
using Skiff.Linux.Files;
using Skiff.Shim.Wasm;

namespace Skiff.Shim.Tests;

public sealed class ModuleDigestsTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("skiff-digests-").FullName;
    private readonly FakeTimeProvider _time = new(DateTimeOffset.UtcNow.AddMinutes(1));

    private string Module => Path.Combine(_folder, "app.wasm");

    private string Known => Path.Combine(_folder, "digests");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void a_large_module_is_hashed_once()
    {
        var digest = Write('a');
        Assert.Equal(digest, Of());
        Assert.Equal(digest, Of());

        // What was noted down is what is answered.
        var noted = Assert.Single(Directory.GetFiles(Known));
        Assert.Equal(digest, File.ReadAllText(noted));
        File.WriteAllText(noted, new string('0', 64));
        Assert.Equal(new string('0', 64), Of());
    }

    [Fact]
    public void one_that_changed_is_hashed_again_although_size_and_time_of_content_are_set_back()
    {
        _ = Write('a');
        var first = Of();
        var modified = File.GetLastWriteTimeUtc(Module);
        var changed = Identity().Changed;
        string other;
        do
        {
            other = Write('b'); // until the kernel's clock has ticked, which is why what changed just now is not remembered
            File.SetLastWriteTimeUtc(Module, modified);
        }
        while (Identity().Changed == changed);

        Assert.Equal((true, other), (first != other, Of()));
        Assert.Equal(2, Directory.GetFiles(Known).Length);
    }

    [Fact]
    public void one_that_changed_just_now_is_not_remembered()
    {
        var digest = Write('a');
        Assert.Equal(digest, Of(new FakeTimeProvider(DateTimeOffset.UnixEpoch.AddMicroseconds(Identity().Changed / 1000).AddSeconds(1))));
        Assert.False(Directory.Exists(Known));
        Assert.Equal(digest, Of());
        Assert.Single(Directory.GetFiles(Known));
    }

    [Fact]
    public void what_is_small_or_in_a_volume_or_in_a_root_of_another_kind_is_always_hashed()
    {
        var digest = Write('a');
        using var file = File.OpenHandle(Module);
        var device = Identity().Device;
        var digests = new ModuleDigests(Known, _time);
        Assert.Equal(digest, digests.Of(file, root: null));
        Assert.Equal(digest, digests.Of(file, new ImageRoot(device + 1, device)));
        File.WriteAllText(Module, new string('c', (int)ModuleDigests.Worth - 1));
        Assert.Equal(ModuleDigests.Read(file, copy: null), digests.Of(file, new ImageRoot(device, device)));
        Assert.False(Directory.Exists(Known));
    }

    [Theory]
    [InlineData("")]
    [InlineData("0123")]
    [InlineData("zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz")]
    public void a_damaged_note_is_made_anew(string content)
    {
        var digest = Write('a');
        _ = Of();
        var noted = Assert.Single(Directory.GetFiles(Known));
        File.WriteAllText(noted, content);
        Assert.Equal(digest, Of());
        Assert.Equal(digest, File.ReadAllText(noted));
    }

    [Fact]
    public void a_folder_that_cannot_be_made_costs_no_start()
    {
        var digest = Write('a');
        File.WriteAllText(Known, "");
        Assert.Equal(digest, Of());
    }

    [Fact]
    public void there_are_never_more_than_a_few_thousand_notes_and_the_oldest_go_first()
    {
        _ = Directory.CreateDirectory(Known);
        for (var i = 0; i < 4_096; i++)
        {
            File.WriteAllText(Path.Combine(Known, $"{i}"), "");
        }

        File.SetLastWriteTimeUtc(Path.Combine(Known, "4095"), DateTime.UtcNow.AddDays(-1));
        File.SetLastWriteTimeUtc(Path.Combine(Known, "0"), DateTime.UtcNow.AddDays(1));
        _ = Write('a');
        _ = Of();
        Assert.Equal(2_049, Directory.GetFiles(Known).Length);
        Assert.Equal((true, false), (File.Exists(Path.Combine(Known, "0")), File.Exists(Path.Combine(Known, "4095"))));
    }

    private string Write(char content)
    {
        File.WriteAllText(Module, new string(content, (int)ModuleDigests.Worth));
        using var file = File.OpenHandle(Module);
        return ModuleDigests.Read(file, copy: null);
    }

    private FileIdentity Identity() => FileIdentity.Of(Module);

    private string Of(TimeProvider? time = null)
    {
        using var file = File.OpenHandle(Module);
        var device = Identity().Device;
        return new ModuleDigests(Known, time ?? _time).Of(file, new ImageRoot(device, device));
    }
}
