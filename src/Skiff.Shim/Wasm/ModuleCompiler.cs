using System.Text.Json;
using Microsoft.Win32.SafeHandles;
using Skiff.Linux.Files;
using Skiff.Shim.OciRuntime;

namespace Skiff.Shim.Wasm;

/// <summary>
/// Compiles modules. A module is untrusted input to a large program, so each is compiled in a container of its own: no network, no
/// capabilities, nobody's user, an empty root, and nothing open but a copy of the module and the file for the artifact.
/// </summary>
/// <param name="settings">The OCI runtime, as for the container that the module is for.</param>
/// <param name="ns">Its namespace.</param>
/// <param name="cgroupsPath">Its cgroup, which shows the driver where the settings do not.</param>
internal sealed class ModuleCompiler(RuntimeSettings settings, string ns, string cgroupsPath)
{
    // What skiff-run says of a module that it cannot compile (RunOptions.CannotRun there).
    private const uint CannotRun = 126;

    // And when its engine's library is not the one that it was built with (RunOptions.Misfit there).
    private const uint Misfit = 124;

    // Not charged to the pod: what a module costs to compile says nothing about what it needs to run, and the artifact is the whole node's.
    private const long MemoryLimit = 4L << 30;
    private const int Processes = 128;
    private const int CpuShares = 256; // a quarter of a container that asks for nothing
    private const int Nobody = 65534;

    private static readonly TimeSpan _cleanupTime = TimeSpan.FromSeconds(10);

    /// <summary>See <see cref="Compile"/>.</summary>
    /// <param name="runFolder">The runner's folder on the node.</param>
    /// <param name="engine">What will run it.</param>
    /// <param name="limited">Whether it is for guests with a limit of memory of their own.</param>
    /// <param name="module">The module.</param>
    /// <param name="artifact">Where the artifact goes.</param>
    /// <param name="workFolder">Becomes the container's bundle.</param>
    /// <param name="cancellation">Ends it.</param>
    public async Task<ArtifactResult> CompileAsync(
        string runFolder, GuestEngine engine, bool limited, SafeFileHandle module, SafeFileHandle artifact, string workFolder, CancellationToken cancellation)
    {
        var id = $"skiff-compile-{Guid.NewGuid():n}";
        var cgroup = settings.UsesSystemdCgroup(cgroupsPath) ? $"system.slice:skiff:{id["skiff-".Length..]}" : $"/{id}";
        _ = Directory.CreateDirectory(Path.Combine(workFolder, "rootfs"));
        AtomicFile.Write(Path.Combine(workFolder, "config.json"), Spec(runFolder, engine, limited, cgroup), 0x180); // 0600
        var driver = new OciRuntimeDriver(settings, ns, workFolder, cgroup);
        try
        {
            Dictionary<int, SafeFileHandle> files = new() { [0] = module, [1] = artifact };
            var (status, problem) = await driver.RunToEndAsync(id, files, cancellation).ConfigureAwait(false);
            var said = problem?.Replace("skiff-run: ", "", StringComparison.Ordinal);
            return (said, status) switch
            {
                (null, _) => default,
                (_, CannotRun) => new ArtifactResult(null, Refusal: said),
                (_, Misfit) => new ArtifactResult(null, Misfit: said),
                _ => new ArtifactResult(null, Problem: problem),
            };
        }
        finally
        {
            // Gone already, unless it was cut short. The caller may be gone, so its token plays no part.
            using var limit = new CancellationTokenSource(_cleanupTime);
            _ = await driver.DeleteAsync(id, limit.Token).ConfigureAwait(false);
        }
    }

    private static byte[] Spec(string runFolder, GuestEngine engine, bool limited, string cgroup)
    {
        string[] option = engine != GuestEngine.Library ? ["--command"] : limited ? ["--limited"] : [];
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartObject();
            json.WriteString("ociVersion", "1.0.2");
            json.WriteStartObject("process");
            Strings(json, "args", [WasmPreparation.Runner, "compile", .. option]);
            json.WriteString("cwd", "/");
            json.WriteBoolean("noNewPrivileges", true);
            json.WriteNumber("oomScoreAdj", 1000);
            json.WriteStartObject("user");
            json.WriteNumber("uid", Nobody);
            json.WriteNumber("gid", Nobody);
            json.WriteEndObject();
            json.WriteEndObject();
            json.WriteStartObject("root");
            json.WriteString("path", "rootfs");
            json.WriteBoolean("readonly", true);
            json.WriteEndObject();
            json.WriteStartArray("mounts");
            Mount(json, "/proc", "proc", "proc", "nosuid", "noexec", "nodev");
            Mount(json, "/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=64k");
            Mount(json, WasmPreparation.MountPoint, "bind", runFolder, "bind", "ro", "nosuid", "nodev", "rprivate");
            json.WriteEndArray();
            json.WriteStartObject("linux");
            json.WriteString("cgroupsPath", cgroup);
            json.WriteStartObject("resources");
            Number(json, "memory", "limit", MemoryLimit);
            Number(json, "pids", "limit", Processes);
            Number(json, "cpu", "shares", CpuShares);
            json.WriteEndObject();
            json.WriteStartArray("namespaces");
            foreach (var kind in (string[])["pid", "network", "ipc", "uts", "mount"])
            {
                json.WriteStartObject();
                json.WriteString("type", kind);
                json.WriteEndObject();
            }

            json.WriteEndArray();
            json.WriteEndObject();
            json.WriteEndObject();
        }

        return buffer.ToArray();
    }

    private static void Mount(Utf8JsonWriter json, string destination, string type, string source, params ReadOnlySpan<string> options)
    {
        json.WriteStartObject();
        json.WriteString("destination", destination);
        json.WriteString("type", type);
        json.WriteString("source", source);
        Strings(json, "options", options);
        json.WriteEndObject();
    }

    private static void Strings(Utf8JsonWriter json, string name, params ReadOnlySpan<string> values)
    {
        json.WriteStartArray(name);
        foreach (var value in values)
        {
            json.WriteStringValue(value);
        }

        json.WriteEndArray();
    }

    private static void Number(Utf8JsonWriter json, string group, string name, long value)
    {
        json.WriteStartObject(group);
        json.WriteNumber(name, value);
        json.WriteEndObject();
    }
}
