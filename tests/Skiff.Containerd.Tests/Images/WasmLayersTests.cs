using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Skiff.Containerd.Images;

namespace Skiff.Containerd.Tests.Images;

/// <summary>Manifests in a content store's folder.</summary>
public sealed class WasmLayersTests : IDisposable
{
    private const string Absent = "sha256:00000000000000000000000000000000000000000000000000000000000000aa";

    private readonly string _root = Directory.CreateTempSubdirectory("skiff-content-").FullName;

    public WasmLayersTests() => Directory.CreateDirectory(_root + "/blobs/sha256");

    public void Dispose() => Directory.Delete(_root, recursive: true);

    [Theory]
    [InlineData("application/wasm", true)]
    [InlineData("application/vnd.bytecodealliance.wasm.component.layer.v0+wasm", true)]
    [InlineData("application/vnd.wasm.content.layer.v1+wasm", true)]
    [InlineData("application/vnd.oci.image.layer.v1.tar+gzip", false)]
    [InlineData("application/wasm+gzip", false)]
    public void a_layer_counts_by_its_type(string type, bool counts)
    {
        var manifest = Put($$$"""{"layers":[{"mediaType":"{{{type}}}","digest":"{{{Absent}}}","annotations":{"org.opencontainers.image.title":"a.wasm"}}]}""");
        WasmLayer[] expected = counts ? [new WasmLayer($"{_root}/blobs/sha256/{Absent[7..]}", "a.wasm")] : [];
        Assert.Equal(expected, WasmLayers.OfImage(_root, manifest));
    }

    [Fact]
    public void of_an_index_the_manifest_that_is_here_counts()
    {
        var native = Put("""{"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:bb"}]}""");
        var wasm = Put($$"""{"layers":[{"mediaType":"application/wasm","digest":"{{Absent}}"}]}""");
        var index = Put($$"""{"manifests":[{"digest":"{{Absent}}"},{"digest":"{{native}}"},{"digest":"{{wasm}}"}]}""");
        Assert.Equal([new WasmLayer($"{_root}/blobs/sha256/{Absent[7..]}", "")], WasmLayers.OfImage(_root, index));
    }

    [Theory]
    [InlineData("sha256:../../../etc/shadow")]
    [InlineData("/etc/shadow")]
    [InlineData("md5:aa")]
    [InlineData("")]
    public void a_digest_that_leads_elsewhere_is_refused(string digest)
    {
        var manifest = Put($$"""{"layers":[{"mediaType":"application/wasm","digest":"{{digest}}"}]}""");
        Assert.Contains("is no digest", Assert.Throws<IOException>(() => WasmLayers.OfImage(_root, manifest)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void a_manifest_that_is_missing_too_large_or_no_json_is_an_error()
    {
        _ = Assert.ThrowsAny<IOException>(() => WasmLayers.OfImage(_root, Absent));
        _ = Assert.ThrowsAny<JsonException>(() => WasmLayers.OfImage(_root, Put("{")));
        Assert.Contains("at most 4 MiB", Assert.ThrowsAny<IOException>(() => WasmLayers.OfImage(_root, Put(new string(' ', 5 << 20)))).Message, StringComparison.Ordinal);
    }

    private string Put(string text)
    {
        var digest = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text)));
        File.WriteAllText($"{_root}/blobs/sha256/{digest}", text);
        return "sha256:" + digest;
    }
}
