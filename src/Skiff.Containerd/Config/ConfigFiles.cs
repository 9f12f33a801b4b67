using Microsoft.Win32.SafeHandles;
using Skiff.Linux;
using Skiff.Linux.Files;

namespace Skiff.Containerd.Config;

/// <summary>A file of the configuration.</summary>
/// <param name="Path">Where, as the node sees it.</param>
/// <param name="Content">Its bytes; null: no such file.</param>
public sealed record ConfigFile(string Path, byte[]? Content);

/// <summary>containerd's configuration as it is on disk: the main file and everything it imports.</summary>
public sealed class ConfigFiles
{
    /// <summary>Where containerd looks unless it is told otherwise.</summary>
    public const string DefaultMainPath = "/etc/containerd/config.toml";

    /// <summary>The largest file that is read, in bytes.</summary>
    public const int FileLimit = 1 << 20;

    /// <summary>The most files that are read.</summary>
    public const int CountLimit = 100;

    private const string DropInFolder = "conf.d";

    /// <summary>A main file that imports nothing.</summary>
    internal ConfigFiles(ConfigFile main)
        : this(main, [], [], [])
    {
    }

    private ConfigFiles(
        ConfigFile main, IReadOnlyList<ConfigFile> imports, IReadOnlyList<ConfigFile> loose, IReadOnlyList<string> patterns)
    {
        Main = main;
        Imports = imports;
        Loose = loose;
        DropInPatterns = patterns;
    }

    /// <summary>The main file.</summary>
    public ConfigFile Main { get; }

    /// <summary>What it imports, and what that imports, in the order in which containerd reads it.</summary>
    public IReadOnlyList<ConfigFile> Imports { get; }

    /// <summary>Files of ours, by their names, that nobody imports: options handed over in a file, and drop-ins that lost their import.</summary>
    internal IReadOnlyList<ConfigFile> Loose { get; }

    /// <summary>The main file's imports that are a pattern in a folder that is there.</summary>
    internal IReadOnlyList<string> DropInPatterns { get; }

    /// <summary>The main file, then its imports.</summary>
    internal IEnumerable<ConfigFile> All => [Main, .. Imports];

    /// <summary>The name of a drop-in.</summary>
    internal static string DropInName(string handler) => $"skiff-{handler}.toml";

    /// <summary>The name of a file with options, beside the main file; no import's pattern is for such a name.</summary>
    internal static string OptionsName(string handler) => $"skiff-{handler}.options";

    /// <summary>Reads the main file and all it imports.</summary>
    /// <param name="hostRoot">The node's root directory as we see it; paths and symbolic links stay below it.</param>
    /// <param name="mainPath">The main file as the node sees it. It may be missing: containerd runs on its defaults then.</param>
    /// <param name="containerdVersion">Whose rules for imports hold.</param>
    /// <returns>The files, or what cannot be read and why.</returns>
    public static (ConfigFiles? Files, string? Problem) Read(string hostRoot, string mainPath, Version containerdVersion)
    {
        ArgumentNullException.ThrowIfNull(containerdVersion);
        try
        {
            return new Reader(hostRoot, containerdVersion >= new Version(1, 7)).Read(mainPath);
        }
        catch (LinuxException e)
        {
            return (null, $"containerd's configuration cannot be read: {e.Message}");
        }
        catch (IOException e)
        {
            return (null, $"containerd's configuration cannot be read: {e.Message}");
        }
        catch (UnauthorizedAccessException e)
        {
            return (null, $"containerd's configuration cannot be read: {e.Message}");
        }
    }

    private sealed class Reader(string hostRoot, bool patternsAreBesideTheFile)
    {
        private readonly List<string> _patterns = [];
        private int _count;
        private string? _problem;

        public (ConfigFiles? Files, string? Problem) Read(string mainPath)
        {
            // As containerd does it: in the order of naming, level by level, each file once.
            Queue<string> pending = new([mainPath]);
            HashSet<string> seen = [];
            List<ConfigFile> files = [];
            while (_problem is null && pending.TryDequeue(out var path))
            {
                if (!seen.Add(path))
                {
                    continue;
                }

                var file = Load(path);
                files.Add(file);
                if (file.Content is not null)
                {
                    foreach (var import in ImportsOf(file))
                    {
                        pending.Enqueue(import);
                    }
                }
                else if (_problem is null && files.Count > 1)
                {
                    _problem = $"{path} is named in imports and does not exist: containerd will not start; create it or take it out of imports";
                }
            }

            var folder = Path.GetDirectoryName(mainPath)!;
            List<ConfigFile> loose = [];
            foreach (var path in Expand(Path.Combine(folder, DropInFolder, DropInName("*"))).Concat(Expand(Path.Combine(folder, OptionsName("*")))))
            {
                if (_problem is null && seen.Add(path))
                {
                    loose.Add(Load(path));
                }
            }

            return _problem is null ? (new ConfigFiles(files[0], files[1..], loose, _patterns), null) : (null, _problem);
        }

        private List<string> ImportsOf(ConfigFile file)
        {
            var (document, problem) = TomlDocument.Parse(file.Path, file.Content);
            if (document is null)
            {
                _problem = problem;
                return [];
            }

            List<string> found = [];
            switch (document.Root["imports"])
            {
                case null:
                    return [];
                case List<object> list when list.All(i => i is string):
                    foreach (var import in list.Cast<string>())
                    {
                        // 1.6 takes a relative pattern as it is, from its working directory (the root, under systemd).
                        var isPattern = import.Contains('*');
                        var from = isPattern && !patternsAreBesideTheFile ? "/" : Path.GetDirectoryName(file.Path)!;
                        var path = Path.GetFullPath(Path.Combine(from, import));
                        if (!isPattern)
                        {
                            found.Add(path);
                            continue;
                        }

                        found.AddRange(Expand(path));
                        if (_count == 1 && FolderExists(Path.GetDirectoryName(path)!))
                        {
                            _patterns.Add(path);
                        }
                    }

                    return found;
                default:
                    _problem = $"{document.Place(document.FirstBelow(["imports"])!)}: imports is not a list of strings: correct it";
                    return [];
            }
        }

        private ConfigFile Load(string path)
        {
            if (++_count > CountLimit)
            {
                _problem = $"containerd's configuration has more than {CountLimit} files, {path} among them: import fewer";
                return new ConfigFile(path, null);
            }

            using var file = RootedPath.OpenRead(hostRoot, path);
            if (file is null)
            {
                return new ConfigFile(path, null);
            }

            using var stream = new FileStream(file, FileAccess.Read, bufferSize: 0);
            var buffer = new byte[FileLimit + 1];
            var length = stream.ReadAtLeast(buffer, buffer.Length, throwOnEndOfStream: false);
            if (length > FileLimit)
            {
                _problem = $"{path} is larger than {FileLimit >> 20} MiB: that is no configuration of containerd";
                return new ConfigFile(path, null);
            }

            return new ConfigFile(path, buffer[..length]);
        }

        /// <summary>The files and folders that a pattern stands for, sorted within each folder.</summary>
        private List<string> Expand(string pattern)
        {
            if (pattern == "/" || !Glob.IsPattern(pattern))
            {
                return [pattern];
            }

            List<string> found = [];
            var name = Path.GetFileName(pattern);
            foreach (var folder in Expand(Path.GetDirectoryName(pattern)!))
            {
                found.AddRange(Names(folder).Where(n => Glob.Matches(name, n)).Order(StringComparer.Ordinal).Select(n => Path.Combine(folder, n)));
            }

            return found;
        }

        private IEnumerable<string> Names(string folder)
        {
            using var directory = OpenFolder(folder);
            return directory is null ? []
                : [.. Directory.EnumerateFileSystemEntries($"/proc/self/fd/{directory.DangerousGetHandle()}").Select(p => Path.GetFileName(p)!)];
        }

        private bool FolderExists(string folder)
        {
            using var directory = OpenFolder(folder);
            return directory is not null;
        }

        private SafeFileHandle? OpenFolder(string folder)
        {
            var handle = RootedPath.OpenRead(hostRoot, folder);
            if (handle is not null && !Directory.Exists($"/proc/self/fd/{handle.DangerousGetHandle()}"))
            {
                handle.Dispose();
                return null;
            }

            return handle;
        }
    }
}
