using System.Formats.Tar;
using System.Security.Cryptography;
using System.Text;

namespace Skiff.Testing;

/// <summary>An image of one layer, FROM scratch, as a docker-archive that <c>ctr images import</c> takes.</summary>
public sealed class ImageArchive(string name)
{
    private readonly SortedDictionary<string, (byte[] Content, int Mode)?> _entries = new(StringComparer.Ordinal);

    /// <summary>The image's name.</summary>
    public string Name => name;

    /// <summary>What it runs unless somebody says otherwise.</summary>
    public string Command { get; init; } = "/hello.wasm";

    /// <summary>What comes before the command, or a container's arguments in its place; empty: nothing.</summary>
    public string Entrypoint { get; init; } = "";

    /// <summary>Adds a folder.</summary>
    public ImageArchive Folder(string path)
    {
        _entries[path] = null;
        return this;
    }

    /// <summary>Adds a file.</summary>
    public ImageArchive File(string path, byte[] content, int mode = 0x1ED)
    {
        _entries[path] = (content, mode);
        return this;
    }

    /// <summary>Writes it.</summary>
    public void Save(string path)
    {
        using var layer = new MemoryStream();
        using (var tar = new TarWriter(layer, TarEntryFormat.Ustar, leaveOpen: true))
        {
            foreach (var (entry, file) in _entries)
            {
                tar.WriteEntry(Entry(entry, file?.Content, file?.Mode ?? 0x1ED));
            }
        }

        var digest = Convert.ToHexStringLower(SHA256.HashData(layer.ToArray()));
        var config = Encoding.UTF8.GetBytes(
            $"{{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{{{(Entrypoint.Length > 0 ? $"\"Entrypoint\":[\"{Entrypoint}\"]" : $"\"Cmd\":[\"{Command}\"]")},\"WorkingDir\":\"/\"}},"
            + $"\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"sha256:{digest}\"]}}}}");
        var configName = Convert.ToHexStringLower(SHA256.HashData(config)) + ".json";
        using var archive = System.IO.File.Create(path);
        using var outer = new TarWriter(archive, TarEntryFormat.Ustar);
        outer.WriteEntry(Entry(configName, config, 0x1A4));
        outer.WriteEntry(Entry(digest + "/layer.tar", layer.ToArray(), 0x1A4));
        outer.WriteEntry(Entry(
            "manifest.json", Encoding.UTF8.GetBytes($"[{{\"Config\":\"{configName}\",\"RepoTags\":[\"{name}\"],\"Layers\":[\"{digest}/layer.tar\"]}}]"), 0x1A4));
    }

    private static UstarTarEntry Entry(string name, byte[]? content, int mode)
    {
        var entry = new UstarTarEntry(content is null ? TarEntryType.Directory : TarEntryType.RegularFile, name)
        {
            Mode = (UnixFileMode)mode,
            ModificationTime = DateTimeOffset.UnixEpoch,
        };
        if (content is not null)
        {
            entry.DataStream = new MemoryStream(content);
        }

        return entry;
    }
}
