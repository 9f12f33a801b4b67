using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;

namespace Skiff.Testing;

/// <summary>A registry of images that containerd can pull from (OCI distribution specification, the pull part), on loopback of a network namespace.</summary>
public sealed class ImageRegistry : IDisposable
{
    private readonly ConcurrentDictionary<string, (string Type, byte[] Content)> _objects = []; // by digest, and manifests by NAME:TAG too
    private TcpListener _listener = null!;

    /// <summary>Starts one.</summary>
    /// <param name="network">The name of the network namespace (ip-netns(8)).</param>
    public static ImageRegistry StartIn(string network)
    {
        var registry = new ImageRegistry
        {
            _listener = NetworkNamespace.Inside(network, () =>
            {
                var listener = new TcpListener(IPAddress.Loopback, 0);
                listener.Start();
                return listener;
            }),
        };
        _ = registry.ServeAsync();
        return registry;
    }

    /// <summary>Adds an image.</summary>
    /// <param name="name">Its name, without host and tag.</param>
    /// <param name="configType">The media type of its configuration.</param>
    /// <param name="config">The configuration; <c>rootfs.diff_ids</c> and <c>layerDigests</c> are filled in where they are.</param>
    /// <param name="layers">Media type, title and content of each layer; one of type <c>tar</c> is an ordinary layer.</param>
    /// <param name="platform">Wraps it in an index with this platform only: OS/ARCHITECTURE.</param>
    /// <returns>What to pull.</returns>
    public string Add(string name, string configType, JsonObject config, IEnumerable<(string Type, string? Title, byte[] Content)> layers, string? platform = null)
    {
        const string tar = "application/vnd.oci.image.layer.v1.tar";
        const string manifestType = "application/vnd.oci.image.manifest.v1+json";
        JsonArray entries = [];
        foreach (var (type, title, content) in layers)
        {
            var entry = Put(type == "tar" ? tar : type, content);
            if (type == "tar")
            {
                ((JsonArray)config["rootfs"]!["diff_ids"]!).Add(entry["digest"]!.DeepClone());
            }

            if (title is not null)
            {
                entry["annotations"] = new JsonObject { ["org.opencontainers.image.title"] = title };
            }

            (config["layerDigests"] as JsonArray)?.Add(entry["digest"]!.DeepClone());
            entries.Add((JsonNode)entry);
        }

        var manifest = new JsonObject
        {
            ["schemaVersion"] = 2,
            ["mediaType"] = manifestType,
            ["config"] = Put(configType, Bytes(config)),
            ["layers"] = entries,
        };
        if (platform?.Split('/') is [var os, var architecture])
        {
            var entry = Put(manifestType, Bytes(manifest));
            entry["platform"] = new JsonObject { ["os"] = os, ["architecture"] = architecture };
            manifest = new JsonObject { ["schemaVersion"] = 2, ["mediaType"] = "application/vnd.oci.image.index.v1+json", ["manifests"] = new JsonArray(entry) };
        }

        _objects[name + ":1"] = _objects[Put((string)manifest["mediaType"]!, Bytes(manifest))["digest"]!.GetValue<string>()];
        return $"127.0.0.1:{((IPEndPoint)_listener.LocalEndpoint).Port}/{name}:1";
    }

    /// <inheritdoc/>
    public void Dispose() => _listener.Dispose();

    private static byte[] Bytes(JsonNode node) => Encoding.UTF8.GetBytes(node.ToJsonString());

    private JsonObject Put(string type, byte[] content)
    {
        var digest = "sha256:" + Convert.ToHexStringLower(SHA256.HashData(content));
        _objects[digest] = (type, content);
        return new JsonObject { ["mediaType"] = type, ["digest"] = digest, ["size"] = content.Length };
    }

    private async Task ServeAsync()
    {
        try
        {
            while (true)
            {
                _ = AnswerAsync(await _listener.AcceptTcpClientAsync());
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // Disposed.
        }
    }

    private async Task AnswerAsync(TcpClient client)
    {
        using (client)
        {
            try
            {
                using var stream = client.GetStream();
                var first = new byte[1];
                if (await stream.ReadAsync(first) == 0 || first[0] is not ((byte)'G' or (byte)'H'))
                {
                    // containerd tries TLS first; from such an answer it knows that there is none.
                    await stream.WriteAsync("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"u8.ToArray());
                    return;
                }

                using var reader = new StreamReader(stream, Encoding.ASCII);
                if ((await reader.ReadLineAsync())?.Split(' ') is not [_, var path, ..])
                {
                    return;
                }

                while (await reader.ReadLineAsync() is { Length: > 0 })
                {
                    // A header: none of them matters.
                }

                // /v2/NAME/manifests/TAG or DIGEST, /v2/NAME/blobs/DIGEST
                var parts = path.Split('/');
                var found = parts.Length == 5 && (_objects.TryGetValue(parts[4], out var it) || _objects.TryGetValue($"{parts[2]}:{parts[4]}", out it)) ? it : default;
                var head = path is "/v2/" ? "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                    : found.Content is null ? "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                    : $"HTTP/1.1 200 OK\r\nContent-Type: {found.Type}\r\nDocker-Content-Digest: sha256:{Convert.ToHexStringLower(SHA256.HashData(found.Content))}\r\n"
                        + $"Content-Length: {found.Content.Length}\r\nConnection: close\r\n\r\n";
                await stream.WriteAsync(Encoding.ASCII.GetBytes(head));
                if (first[0] == (byte)'G' && found.Content is not null)
                {
                    await stream.WriteAsync(found.Content);
                }
            }
            catch (IOException)
            {
                // The client has gone.
            }
        }
    }
}
