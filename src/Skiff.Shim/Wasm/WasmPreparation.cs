using Microsoft.Extensions.Logging;
using Microsoft.Win32.SafeHandles;
using Skiff.Linux;
using Skiff.Linux.Files;
using Skiff.Linux.Mounts;
using Skiff.Shim.OciRuntime;

namespace Skiff.Shim.Wasm;

/// <summary>What a container runs.</summary>
/// <param name="Kind">Wasm or native.</param>
/// <param name="Artifact">The compiled module that is mounted into it; null where there is none.</param>
/// <param name="LayerOf">The first argument, where the module is not a file but a layer of the image; null elsewhere.</param>
/// <param name="LayerDigest">That layer's digest; null elsewhere.</param>
/// <param name="Root">The root file system, where modules in it need not be hashed each time.</param>
/// <param name="Guest">What is set for its modules; null for a native one.</param>
/// <param name="Problem">Why it cannot be run, or null.</param>
/// <param name="Doubt">What could not be found out about it and may explain why the OCI runtime does not run it; null: nothing.</param>
internal readonly record struct PreparedProgram(
    ProgramKind Kind, string? Artifact = null, string? LayerOf = null, string? LayerDigest = null, ImageRoot? Root = null, GuestSettings? Guest = null,
    string? Problem = null, string? Doubt = null);

/// <summary>
/// Makes a Wasm process an ordinary one: the runner's folder is mounted read-only at /.skiff and becomes the program, with the module's
/// path and the user's arguments behind it. The module is compiled before the container is built, once per node, and the artifact is
/// mounted too, so that all containers of one module share its pages. Native processes stay as they are.
/// </summary>
internal sealed partial class WasmPreparation(string runFolder, string cacheFolder, ImageModules images, ILogger logger, TimeProvider time)
{
    /// <summary>Where the runner's folder is in a container.</summary>
    public const string MountPoint = "/.skiff";

    /// <summary>The runner in a container.</summary>
    public const string Runner = MountPoint + "/skiff-run";

    // An empty file of the runner's folder, there to be mounted over.
    private const string ArtifactPlace = MountPoint + "/artifact";
    private const string ModulePlace = MountPoint + "/module"; // the same, for a module that is a layer of its image

    private const string Fix = "build it for wasm32-wasip1 (a command with _start), or as a component that exports wasi:cli/run or wasi:http/incoming-handler";

    private readonly ModuleDigests _digests = new(Path.Combine(cacheFolder, "digests"), time);
    private readonly Lazy<string?> _library = new(() => EngineOf(runFolder, "ENGINE"));
    private readonly Lazy<string?> _command = new(() => EngineOf(runFolder, "WASMTIME"));

    /// <summary>The runner's folder beside the shim that runs now: PREFIX/bin/containerd-shim-skiff-v1 and PREFIX/run.</summary>
    /// <param name="socket">containerd's socket.</param>
    /// <param name="ns">The containers' namespace.</param>
    /// <param name="logger">The shim's log.</param>
    /// <param name="time">The clock.</param>
    public static WasmPreparation BesideThisProgram(string socket, string ns, ILogger logger, TimeProvider time)
    {
        var program = Path.GetFullPath(Environment.ProcessPath ?? "/proc/self/exe");
        var resolved = File.ResolveLinkTarget(program, returnFinalTarget: true)?.FullName ?? program;
        var bin = Path.GetDirectoryName(resolved)!;
        var images = new ImageModules(Path.Combine(bin, "skiff-image"), socket, ns);
        return new WasmPreparation(Path.Combine(Path.GetDirectoryName(bin)!, "run"), ArtifactCache.DefaultFolder, images, logger, time);
    }

    /// <summary>Finds out what the container runs and, for Wasm, compiles it, rewrites the spec and saves it.</summary>
    /// <param name="container">Its id.</param>
    /// <param name="spec">Its spec.</param>
    /// <param name="rootfs">Its mounted root.</param>
    /// <param name="root">The same, where its modules need not be hashed each time.</param>
    /// <param name="compiler">Compiles its module if no container of this node had it before.</param>
    /// <param name="cancellation">Ends the compilation.</param>
    public async Task<PreparedProgram> PrepareAsync(
        string container, OciSpec spec, string rootfs, ImageRoot? root, ModuleCompiler compiler, CancellationToken cancellation)
    {
        string? layer = null, layerDigest = null, doubt = null;
        SafeFileHandle? Open(string path) => layer is not null && path == ModulePlace ? File.OpenHandle(layer) : ProgramDetection.Open(spec, rootfs, path);
        var (kind, path, problem) = Detect(spec.Process, Open);
        if (kind == ProgramKind.Missing && problem is null)
        {
            // Only now, because it costs a process: what is in the image's files counts first.
            (layer, problem, doubt) = await images.FindAsync(container, path, cancellation).ConfigureAwait(false);
            if (layer is not null)
            {
                layerDigest = ImageModules.DigestOf(layer);
                using var module = File.OpenHandle(layer);
                (kind, problem) = ProgramDetection.DetectModule(module, layer);
                problem ??= MissingRunner();
                path = ModulePlace;
            }
            else
            {
                kind = ProgramKind.Native; // the OCI runtime says that there is no such file, unless it sees more than we do
            }
        }

        if (problem is not null || kind == ProgramKind.Native)
        {
            return new PreparedProgram(kind, Problem: problem, Doubt: doubt);
        }

        var (settings, badSetting) = GuestSettings.Read(spec.Annotations);
        if (settings is null)
        {
            return new PreparedProgram(kind, Problem: badSetting);
        }

        var (call, unfit) = ChooseCall(kind, layer ?? path, path, settings, Open);
        if (unfit is not null)
        {
            return new PreparedProgram(kind, Problem: unfit);
        }

        var artifact = await ArtifactAsync(
            path, call.Engine, settings, Open, module => layerDigest ?? _digests.Of(module, root), (module, made, work, token) => compiler.CompileAsync(runFolder, call.Engine, settings.MaxMemory is not null, module, made, work, token), cancellation).ConfigureAwait(false);
        if (artifact.Refusal is { } refusal)
        {
            return new PreparedProgram(kind, Problem: $"{layer ?? path} cannot be compiled: {refusal}; {Fix}");
        }

        if (artifact.Misfit is not null)
        {
            return new PreparedProgram(kind, Problem: artifact.Misfit);
        }

        if (artifact.Problem is { } trouble)
        {
            Log.NotCompiled(logger, path, trouble);
        }

        var layerOf = layer is null ? null : spec.Process.Arguments[0];
        call.ApplyTo(spec.Process, path, artifact.Path is null ? null : ArtifactPlace, settings, spec.MemoryLimit);
        if (!settings.Network)
        {
            spec.UseNoNetwork();
        }

        spec.AddBind(runFolder, MountPoint, "bind", "ro", "nosuid", "nodev", "rprivate");
        if (layer is not null)
        {
            spec.AddBind(layer, ModulePlace, "bind", "ro", "nosuid", "nodev", "rprivate");
        }

        if (artifact.Path is not null)
        {
            spec.AddBind(artifact.Path, ArtifactPlace, "bind", "ro", "nosuid", "nodev", "rprivate");
        }

        spec.Save();
        return new PreparedProgram(kind, artifact.Path, layerOf, layerDigest, root, settings);
    }

    /// <summary>Finds out what is to run in a living container and, for Wasm, rewrites it and sees to it that the runner is there.</summary>
    /// <param name="process">What is to run.</param>
    /// <param name="init">The container's init.</param>
    /// <param name="program">What init runs.</param>
    /// <param name="cancellation">Ends the reading of the module.</param>
    /// <returns>Whether it is Wasm; and why the program cannot be run, or null.</returns>
    public async Task<(bool IsGuest, string? Problem)> PrepareExecAsync(OciProcess process, int init, PreparedProgram program, CancellationToken cancellation)
    {
        var name = process.Arguments[0];

        // Through /proc the container's root is as its programs see it, with all that was mounted since.
        var root = $"/proc/{init}/root";
        SafeFileHandle? Open(string path) => RootedPath.OpenRead(root, path);
        var (kind, path, problem) = Detect(process, Open);
        if (kind == ProgramKind.Missing && name == program.LayerOf)
        {
            (kind, path) = (program.Kind, ModulePlace);
        }

        if (problem is not null || kind is ProgramKind.Native or ProgramKind.Missing)
        {
            return (false, problem);
        }

        try
        {
            // There already where init, or an exec before, was Wasm too.
            using var runner = RootedPath.OpenRead(root, Runner);
            if (runner is null)
            {
                ContainerMounts.BindReadOnly(init, runFolder, MountPoint);
            }
        }
        catch (LinuxException e)
        {
            return (true, $"the program {name} is WebAssembly, and the runner cannot be brought into this native container ({e.Message}); "
                + $"give the image an empty folder {MountPoint}, or run it as a container of its own");
        }

        // The usual exec runs the container's own module; its artifact is in place. Another one is compiled where it runs.
        var settings = program.Guest ?? new GuestSettings();
        var (call, unfit) = ChooseCall(kind, name, path, settings, Open);
        if (unfit is not null)
        {
            return (true, unfit);
        }

        var artifact = program.Artifact is null ? default : await ArtifactAsync(
            path, call.Engine, settings, Open, module => path == ModulePlace && program.LayerDigest is { } digest ? digest : _digests.Of(module, program.Root), NoneAsync, cancellation).ConfigureAwait(false);
        call.ApplyTo(process, path, artifact.Path is not null && artifact.Path == program.Artifact ? ArtifactPlace : null, settings);
        return (true, null);

        static Task<ArtifactResult> NoneAsync(SafeFileHandle module, SafeFileHandle made, string work, CancellationToken token) =>
            Task.FromResult(new ArtifactResult(null, Problem: "not the container's own module"));
    }

    private (ProgramKind Kind, string Path, string? Problem) Detect(OciProcess process, Func<string, SafeFileHandle?> open)
    {
        var found = ProgramDetection.Detect(process, open);
        return found.Problem is null && found.Kind is not (ProgramKind.Native or ProgramKind.Missing) ? found with { Problem = MissingRunner() } : found;
    }

    private string? MissingRunner() => File.Exists(Path.Combine(runFolder, "skiff-run")) ? null
        : $"the Wasm runner is not at {runFolder}/skiff-run; the folder \"run\" belongs beside the shim's folder \"bin\"";

    /// <summary>Which engine runs a module and how it is called, or why none can.</summary>
    private (RunnerCall Call, string? Problem) ChooseCall(ProgramKind kind, string name, string path, GuestSettings settings, Func<string, SafeFileHandle?> open)
    {
        if (kind != ProgramKind.Component)
        {
            return (new RunnerCall(GuestEngine.Library), null);
        }

        ComponentWorld? world;
        try
        {
            using var component = open(path);
            world = component is null ? null : ComponentWorld.Read(component);
        }
        catch (IOException e)
        {
            return (default, $"the program {name} cannot be read: {e.Message}");
        }

        // What is not understood here the engine may well understand, and says more about it.
        var (call, problem) = world is null ? (new RunnerCall(GuestEngine.Library), null) : RunnerCall.For(world, settings);
        if (problem is not null)
        {
            return (call, $"the program {name} {problem}");
        }

        if (call.Engine == GuestEngine.Library || File.Exists(Path.Combine(runFolder, "wasmtime")))
        {
            return (call, null);
        }

        if (call.Engine == GuestEngine.Command && !world!.Imports.Concat(world.Exports).Any(GuestEngines.IsOf03))
        {
            // It may do without sockets, and gets the ordinary error for one.
            Log.NoSockets(logger, name, runFolder);
            return (call with { Engine = GuestEngine.Library }, null);
        }

        return (call, $"the program {name} {(call.Engine == GuestEngine.HttpServer ? "serves HTTP" : "is for WASI 0.3")}, which Wasmtime's command does, and that is not at {runFolder}/wasmtime; "
            + "whoever builds Skiff's image puts it there with hack/engine (docs/network.md)");
    }

    private async Task<ArtifactResult> ArtifactAsync(
        string path, GuestEngine kind, GuestSettings settings, Func<string, SafeFileHandle?> open, Func<SafeFileHandle, string> digestOf, Compile compile, CancellationToken cancellation)
    {
        var isLibrary = kind == GuestEngine.Library;
        if ((isLibrary ? _library : _command).Value is not { } engine)
        {
            return new ArtifactResult(null, Problem: $"{runFolder}/{(isLibrary ? "ENGINE" : "WASMTIME")} or {runFolder}/artifact is missing");
        }

        using var module = open(path);
        engine = isLibrary && settings.MaxMemory is not null ? engine + "-limited" : engine; // other settings of the engine, so another artifact
        var cache = new ArtifactCache(cacheFolder, engine, ArtifactCache.DefaultLimit, compile, time, logger);
        return module is null ? default : await cache.GetAsync(module, digestOf, cancellation).ConfigureAwait(false);
    }

    /// <summary>What an artifact is for: an engine in the runner's folder, and this processor's features.</summary>
    private static string? EngineOf(string runFolder, string name)
    {
        var file = Path.Combine(runFolder, name);
        if (!File.Exists(file) || !File.Exists(Path.Combine(runFolder, "artifact")))
        {
            return null;
        }

        // A node may be moved to another processor between two boots. Its features are one line for each core; the first says all.
        var processor = File.ReadLines("/proc/cpuinfo").TakeWhile(l => l.Length > 0)
            .FirstOrDefault(l => l.StartsWith("flags", StringComparison.Ordinal) || l.StartsWith("Features", StringComparison.Ordinal)) ?? "";
        return Sha256.HexOf(System.Text.Encoding.UTF8.GetBytes(File.ReadAllText(file) + processor))[..32];
    }

    private static partial class Log
    {
        [LoggerMessage(53, LogLevel.Warning, "The program can open sockets, for which Wasmtime's command is needed, and that is not there, so it will be refused them: module={Module} folder={Folder}")]
        public static partial void NoSockets(ILogger logger, string module, string folder);

        [LoggerMessage(52, LogLevel.Warning, "The module is compiled in its container, which costs memory and time at each start: module={Module} error={Error}")]
        public static partial void NotCompiled(ILogger logger, string module, string error);
    }
}
