using System.Text;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Skiff.Containerd.Options;
using Skiff.Linux.Files;
using Tomlyn.Parsing;
using Tomlyn.Syntax;

namespace Skiff.Shim.OciRuntime;

/// <summary>Which OCI runtime builds the container, and how: the options table of the runtime in containerd's config.toml.</summary>
/// <param name="BinaryName">The runtime's name or path.</param>
/// <param name="Root">Where the runtime keeps its state, one folder per namespace below it.</param>
/// <param name="SystemdCgroup">Whether systemd makes the cgroups; null when the options do not say.</param>
/// <param name="NoPivotRoot">For nodes that run from a ram disk.</param>
/// <param name="NoNewKeyring">Whether the container shares our session keyring.</param>
/// <param name="ShimCgroup">The cgroup of the shim itself; empty: where containerd is.</param>
/// <param name="IoUid">The user who owns the pipes of the standard streams.</param>
/// <param name="IoGid">The group that owns them.</param>
/// <param name="CriuPath">The program criu, for checkpoint and restore; empty: by PATH.</param>
/// <param name="CriuImagePath">A checkpoint that a new container is restored from, where the request names none.</param>
/// <param name="CriuWorkPath">Where criu puts its logs while it restores; empty: the bundle.</param>
internal sealed record RuntimeSettings(
    string BinaryName = "runc",
    string Root = RuntimeSettings.DefaultRoot,
    bool? SystemdCgroup = null,
    bool NoPivotRoot = false,
    bool NoNewKeyring = false,
    string ShimCgroup = "",
    uint IoUid = 0,
    uint IoGid = 0,
    string CriuPath = "",
    string CriuImagePath = "",
    string CriuWorkPath = "")
{
    /// <summary>Where containerd's own shim keeps runc's state, so that <c>runc --root … list</c> finds our containers too.</summary>
    public const string DefaultRoot = "/run/containerd/runc";

    private static readonly string[] _genericTypes = ["runtimeoptions.v1.Options", "cri.runtimeoptions.v1.Options"];

    private const string SavedName = "oci-runtime";
    private const int ConfigLimit = 1 << 20;

    /// <summary>The type under which containerd knows runc's options.</summary>
    public const string RuncType = "containerd.runc.v1.Options";

    /// <summary>Whether <see cref="Parse"/> knows this type of options.</summary>
    public static bool IsKnown(Any options) => TypeOf(options) == RuncType || _genericTypes.Contains(TypeOf(options));

    /// <summary>
    /// Reads the options of a create request. For a runtime that is not io.containerd.runc.*, containerd sends runtimeoptions.v1.Options: the
    /// table's TOML text as config_body (from 1.7 on), or the path of a TOML file as config_path (the only way under 1.6).
    /// </summary>
    public static (RuntimeSettings? Settings, string? Problem) Parse(Any? options)
    {
        if (options is null || options.TypeUrl.Length == 0)
        {
            return (new RuntimeSettings(), null);
        }

        try
        {
            switch (TypeOf(options))
            {
                case RuncType:
                    return (From(RuncOptions.Parser.ParseFrom(options.Value)), null);

                case var type when _genericTypes.Contains(type):
                    var generic = RuntimeOptions.Parser.ParseFrom(options.Value);
                    if (!generic.ConfigBody.IsEmpty)
                    {
                        return ParseToml(generic.ConfigBody.ToStringUtf8(), "the runtime's options table");
                    }

                    return generic.ConfigPath.Length > 0 ? ReadFile(generic.ConfigPath) : (new RuntimeSettings(), null);

                default:
                    return (null, $"runtime options of type {options.TypeUrl} are unknown here; containerd.runc.v1.Options and runtimeoptions.v1.Options are known");
            }
        }
        catch (InvalidProtocolBufferException e)
        {
            return (null, $"runtime options of type {options.TypeUrl} cannot be decoded: {e.Message}");
        }
    }

    /// <summary>
    /// Reads the keys of an options table. Those it does not know are passed over, as containerd's own shim does; TaskApiAddress and
    /// TaskApiVersion among them, which are for containerd itself.
    /// </summary>
    public static (RuntimeSettings? Settings, string? Problem) ParseToml(string text, string where)
    {
        var document = SyntaxParser.Parse(text, where);
        if (document.HasErrors)
        {
            return (null, $"{where} is not valid TOML: {document.Diagnostics[0]}");
        }

        var settings = new RuntimeSettings();
        foreach (var entry in document.KeyValues)
        {
            var key = entry.Key?.ToString().Trim().Trim('"', '\'') ?? "";
            var problem = key switch
            {
                "BinaryName" => Text(entry, v => settings = settings with { BinaryName = v.Length > 0 ? v : settings.BinaryName }),
                "Root" => Text(entry, v => settings = settings with { Root = v.Length > 0 ? v : settings.Root }),
                "ShimCgroup" => Text(entry, v => settings = settings with { ShimCgroup = v }),
                "CriuPath" => Text(entry, v => settings = settings with { CriuPath = v }),
                "CriuImagePath" => Text(entry, v => settings = settings with { CriuImagePath = v }),
                "CriuWorkPath" => Text(entry, v => settings = settings with { CriuWorkPath = v }),
                "SystemdCgroup" => Flag(entry, v => settings = settings with { SystemdCgroup = v }),
                "NoPivotRoot" => Flag(entry, v => settings = settings with { NoPivotRoot = v }),
                "NoNewKeyring" => Flag(entry, v => settings = settings with { NoNewKeyring = v }),
                "IoUid" => Number(entry, v => settings = settings with { IoUid = v }),
                "IoGid" => Number(entry, v => settings = settings with { IoGid = v }),
                _ => null,
            };
            if (problem is not null)
            {
                return (null, $"{where}: {key} {problem}");
            }
        }

        return (settings, null);
    }

    /// <summary>
    /// Whether systemd makes this container's cgroup. The options decide; where they are silent, the path does: only the systemd driver
    /// writes <c>slice:prefix:name</c>, and a driver that disagrees with the kubelet's leaves a pod without limits and statistics. On a machine
    /// that was not booted with systemd (sd_booted(3)) such a path is a name like any other, as it is to runc.
    /// </summary>
    public bool UsesSystemdCgroup(string cgroupsPath) => UsesSystemdCgroup(cgroupsPath, Directory.Exists("/run/systemd/system"));

    internal bool UsesSystemdCgroup(string cgroupsPath, bool systemdRuns)
    {
        if (SystemdCgroup is { } said)
        {
            return said;
        }

        var parts = cgroupsPath.Split(':');
        return systemdRuns && parts.Length == 3 && parts[0].EndsWith(".slice", StringComparison.Ordinal) && !cgroupsPath.Contains('/');
    }

    /// <summary>Leaves in the bundle what <c>delete</c> needs once the shim that knew the options is gone.</summary>
    public void Save(string bundle) =>
        AtomicFile.Write(Path.Combine(bundle, SavedName), Encoding.UTF8.GetBytes($"{BinaryName}\n{Root}\n{SystemdCgroup}\n"), 0x180); // 0600

    /// <summary>What <see cref="Save"/> left; the defaults where there is nothing.</summary>
    public static RuntimeSettings Restore(string bundle)
    {
        var path = Path.Combine(bundle, SavedName);
        return File.Exists(path) && File.ReadAllLines(path) is [var binary, var root, var systemd, ..]
            ? new RuntimeSettings(binary, root, bool.TryParse(systemd, out var said) ? said : null)
            : new RuntimeSettings();
    }

    private static string TypeOf(Any options) => options.TypeUrl[(options.TypeUrl.LastIndexOf('/') + 1)..];

    private static RuntimeSettings From(RuncOptions options) => new(
        options.BinaryName.Length > 0 ? options.BinaryName : "runc",
        options.Root.Length > 0 ? options.Root : DefaultRoot,
        options.SystemdCgroup ? true : null, // protobuf cannot tell false from absent
        options.NoPivotRoot,
        options.NoNewKeyring,
        options.ShimCgroup,
        options.IoUid,
        options.IoGid,
        options.CriuPath,
        options.CriuImagePath,
        options.CriuWorkPath);

    private static string? Text(KeyValueSyntax entry, Action<string> set)
    {
        if (entry.Value is not StringValueSyntax { Value: { } value })
        {
            return "is not a string";
        }

        set(value);
        return null;
    }

    private static string? Flag(KeyValueSyntax entry, Action<bool> set)
    {
        if (entry.Value is not BooleanValueSyntax value)
        {
            return "is not true or false";
        }

        set(value.Value);
        return null;
    }

    private static string? Number(KeyValueSyntax entry, Action<uint> set)
    {
        if (entry.Value is not IntegerValueSyntax value || value.Value is < 0 or > uint.MaxValue)
        {
            return $"is not a number from 0 to {uint.MaxValue}";
        }

        set((uint)value.Value);
        return null;
    }

    private static (RuntimeSettings? Settings, string? Problem) ReadFile(string path)
    {
        try
        {
            return new FileInfo(path).Length > ConfigLimit
                ? (null, $"{path} (the runtime's ConfigPath) is larger than {ConfigLimit >> 20} MiB")
                : ParseToml(File.ReadAllText(path), path);
        }
        catch (IOException e)
        {
            return (null, $"{path} (the runtime's ConfigPath) cannot be read: {e.Message}");
        }
        catch (UnauthorizedAccessException e)
        {
            return (null, $"{path} (the runtime's ConfigPath) cannot be read: {e.Message}");
        }
    }
}
