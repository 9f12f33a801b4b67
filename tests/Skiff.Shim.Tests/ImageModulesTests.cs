using Skiff.Shim.Wasm;

namespace Skiff.Shim.Tests;

public sealed class ImageModulesTests
{
    [Fact]
    public void an_image_without_such_layers_has_no_module() => Assert.Equal(default, ImageModules.Choose([], "/app.wasm"));

    [Fact]
    public void one_layer_is_the_module_whatever_its_title() => Assert.Equal(new ImageModule("/blobs/a"), ImageModules.Choose([("/blobs/a", "x")], "/app.wasm"));

    [Theory]
    [InlineData("app.wasm")]
    [InlineData("/bin/app.wasm")]
    public void of_several_the_title_chooses(string program) =>
        Assert.Equal(new ImageModule("/blobs/b"), ImageModules.Choose([("/blobs/a", "other.wasm"), ("/blobs/b", "app.wasm")], program));

    [Fact]
    public void what_cannot_be_chosen_is_named_with_the_titles()
    {
        Assert.Contains("none has the title /app (titles: none, b)", ImageModules.Choose([("/blobs/a", ""), ("/blobs/b", "b")], "/app").Problem, StringComparison.Ordinal);
        Assert.Contains("more than one has the title b", ImageModules.Choose([("/blobs/a", "b"), ("/blobs/b", "b")], "b").Problem, StringComparison.Ordinal);
    }

    [Fact]
    public async Task without_the_reader_there_is_a_doubt_and_no_problem()
    {
        var found = await new ImageModules("/nowhere/skiff-image", "/nowhere.sock", "ns").FindAsync("c", "/app.wasm", TestContext.Current.CancellationToken);
        Assert.Equal((null, null), (found.Path, found.Problem));
        Assert.Contains("/nowhere/skiff-image", found.Doubt, StringComparison.Ordinal);
    }
}
