using System.Text.Json;
using Grpc.Core;
using Skiff.Containerd.Images.Api;

namespace Skiff.Containerd.Images;

/// <summary>A layer of an image that is a WebAssembly module or component.</summary>
/// <param name="Path">Its content on this node.</param>
/// <param name="Title">The name that its builder gave it (org.opencontainers.image.title), or empty.</param>
public sealed record WasmLayer(string Path, string Title);

/// <summary>
/// Finds the Wasm layers of a container's image. containerd leaves layers of media types that it does not know where it put them, in its
/// content store; nobody unpacks them (containerd pull request 9142; 1.6.25, 1.7.7 and later).
/// </summary>
public static class WasmLayers
{
    // CNCF's artifact layout; runwasi's images; Spin's.
    private static readonly string[] _types =
        ["application/wasm", "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm", "application/vnd.wasm.content.layer.v1+wasm"];

    private const string Title = "org.opencontainers.image.title";
    private const int ManifestLimit = 4 << 20;
    private const int ManifestsLimit = 100;

    private static readonly TimeSpan _timeout = TimeSpan.FromSeconds(10);

    /// <summary>The layers, in the manifest's order; none when the container has no image, or an image without any.</summary>
    /// <param name="socket">containerd's socket.</param>
    /// <param name="ns">The container's namespace.</param>
    /// <param name="container">Its id.</param>
    /// <param name="cancellation">Ends it.</param>
    /// <returns>The layers, or why they cannot be found.</returns>
    public static async Task<(IReadOnlyList<WasmLayer>? Layers, string? Problem)> OfContainerAsync(
        string socket, string ns, string container, CancellationToken cancellation)
    {
        using var channel = ContainerdChannel.Open("/", socket);
        var options = new CallOptions(new Metadata { { "containerd-namespace", ns } }, DateTime.UtcNow + _timeout, cancellation);
        try
        {
            var found = await new Api.Containers.ContainersClient(channel).GetAsync(new GetContainerRequest { Id = container }, options).ConfigureAwait(false);
            if (found.Container?.Image is not { Length: > 0 } name)
            {
                return ([], null);
            }

            var image = await new Api.Images.ImagesClient(channel).GetAsync(new GetImageRequest { Name = name }, options).ConfigureAwait(false);
            var plugins = await new Introspection.IntrospectionClient(channel).PluginsAsync(
                new PluginsRequest { Filters = { "type==io.containerd.content.v1" } }, options).ConfigureAwait(false);
            return plugins.Plugins.Select(p => p.Exports.GetValueOrDefault("root")).FirstOrDefault(r => r is not null) is not { } root
                ? (null, $"containerd at {socket} does not say where its content store is, so the layers of {name} cannot be read")
                : (OfImage(root, image.Image?.Target?.Digest ?? ""), null);
        }
        catch (RpcException e)
        {
            return (null, $"containerd at {socket}, asked for the image of container {container}: {e.Status.Detail}");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or JsonException or InvalidOperationException or KeyNotFoundException)
        {
            return (null, $"the image of container {container}: {e.Message}");
        }
    }

    /// <summary>The layers of the image with this manifest or index.</summary>
    /// <param name="root">The content store's folder.</param>
    /// <param name="digest">Of the manifest or index.</param>
    /// <exception cref="IOException">It cannot be read, or is too large.</exception>
    /// <exception cref="JsonException">It is not JSON, or not as it should be.</exception>
    public static IReadOnlyList<WasmLayer> OfImage(string root, string digest)
    {
        using var document = JsonDocument.Parse(Read(root, digest));
        if (!document.RootElement.TryGetProperty("manifests", out var manifests))
        {
            return OfManifest(root, document.RootElement);
        }

        // Of an index, the first that is here and has any: what is not for this node was not pulled.
        foreach (var entry in manifests.EnumerateArray().Take(ManifestsLimit))
        {
            var child = entry.GetProperty("digest").GetString() ?? "";
            if (File.Exists(PathOf(root, child)))
            {
                using var manifest = JsonDocument.Parse(Read(root, child));
                if (OfManifest(root, manifest.RootElement) is { Count: > 0 } layers)
                {
                    return layers;
                }
            }
        }

        return [];
    }

    private static List<WasmLayer> OfManifest(string root, JsonElement manifest)
    {
        List<WasmLayer> layers = [];
        if (manifest.TryGetProperty("layers", out var all))
        {
            foreach (var layer in all.EnumerateArray())
            {
                if (layer.TryGetProperty("mediaType", out var type) && _types.Contains(type.GetString()))
                {
                    var title = layer.TryGetProperty("annotations", out var annotations) && annotations.TryGetProperty(Title, out var text) ? text.GetString() : null;
                    layers.Add(new WasmLayer(PathOf(root, layer.GetProperty("digest").GetString() ?? ""), title ?? ""));
                }
            }
        }

        return layers;
    }

    private static byte[] Read(string root, string digest)
    {
        var path = PathOf(root, digest);
        var length = new FileInfo(path).Length;
        return length <= ManifestLimit ? File.ReadAllBytes(path) : throw new IOException($"{path} has {length} bytes; a manifest has at most {ManifestLimit >> 20} MiB");
    }

    /// <summary>Where a blob is; a digest comes from a manifest that anybody may have written, so it must not lead elsewhere.</summary>
    private static string PathOf(string root, string digest) => digest.Split(':') is [var algorithm and ("sha256" or "sha512"), var hex] && hex.All(char.IsAsciiHexDigit)
        ? Path.Combine(root, "blobs", algorithm, hex) : throw new IOException($"\"{digest}\" is no digest");
}
