using Skiff.Shim.OciRuntime;

namespace Skiff.Shim.Wasm;

/// <summary>
/// Makes a Wasm container an ordinary one: the runner's folder is mounted read-only at /.skiff and becomes the program, with the module's
/// path and the user's arguments behind it. Native containers stay as they are.
/// </summary>
internal sealed class WasmPreparation(string runFolder)
{
    private const string MountPoint = "/.skiff";

    /// <summary>The runner's folder beside the shim that runs now: PREFIX/bin/containerd-shim-skiff-v1 and PREFIX/run.</summary>
    public static WasmPreparation BesideThisProgram()
    {
        var program = Path.GetFullPath(Environment.ProcessPath ?? "/proc/self/exe");
        var resolved = File.ResolveLinkTarget(program, returnFinalTarget: true)?.FullName ?? program;
        return new WasmPreparation(Path.Combine(Path.GetDirectoryName(Path.GetDirectoryName(resolved)!)!, "run"));
    }

    /// <summary>Finds out what the container runs and, for Wasm, rewrites the spec and saves it.</summary>
    /// <returns>The kind, or why the program cannot be run.</returns>
    public (ProgramKind Kind, string? Problem) Prepare(OciSpec spec, string rootfs)
    {
        var (kind, path, problem) = ProgramDetection.Detect(spec, rootfs);
        if (problem is not null || kind == ProgramKind.Native)
        {
            return (kind, problem);
        }

        if (!File.Exists(Path.Combine(runFolder, "skiff-run")))
        {
            return (kind, $"the Wasm runner is not at {runFolder}/skiff-run; the folder \"run\" belongs beside the shim's folder \"bin\"");
        }

        // WASI preview 1 has no call for the working directory; Go's library takes it from here.
        if (spec.WorkingDirectory != "/" && !spec.Environment.Any(e => e.StartsWith("PWD=", StringComparison.Ordinal)))
        {
            spec.AddEnvironment("PWD=" + spec.WorkingDirectory);
        }

        spec.AddBind(runFolder, MountPoint, "bind", "ro", "nosuid", "nodev", "rprivate");
        spec.SetArguments([MountPoint + "/skiff-run", "run", "--module", path, "--", .. spec.Arguments]);
        spec.Save();
        return (kind, null);
    }
}
