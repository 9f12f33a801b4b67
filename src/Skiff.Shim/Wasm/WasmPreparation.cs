using Microsoft.Win32.SafeHandles;
using Skiff.Linux;
using Skiff.Linux.Files;
using Skiff.Linux.Mounts;
using Skiff.Shim.OciRuntime;

namespace Skiff.Shim.Wasm;

/// <summary>
/// Makes a Wasm process an ordinary one: the runner's folder is mounted read-only at /.skiff and becomes the program, with the module's
/// path and the user's arguments behind it. Native processes stay as they are.
/// </summary>
internal sealed class WasmPreparation(string runFolder)
{
    private const string MountPoint = "/.skiff";
    private const string Runner = MountPoint + "/skiff-run";

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
        var (kind, problem) = Rewrite(spec.Process, path => ProgramDetection.Open(spec, rootfs, path));
        if (problem is null && kind != ProgramKind.Native)
        {
            spec.AddBind(runFolder, MountPoint, "bind", "ro", "nosuid", "nodev", "rprivate");
            spec.Save();
        }

        return (kind, problem);
    }

    /// <summary>Finds out what is to run in a living container and, for Wasm, rewrites it and sees to it that the runner is there.</summary>
    /// <param name="process">What is to run.</param>
    /// <param name="init">The container's init.</param>
    /// <returns>Why the program cannot be run, or null.</returns>
    public string? PrepareExec(OciProcess process, int init)
    {
        var name = process.Arguments[0];

        // Through /proc the container's root is as its programs see it, with all that was mounted since.
        var root = $"/proc/{init}/root";
        var (kind, problem) = Rewrite(process, path => RootedPath.OpenRead(root, path));
        if (problem is not null || kind == ProgramKind.Native)
        {
            return problem;
        }

        try
        {
            // There already where init, or an exec before, was Wasm too.
            using var runner = RootedPath.OpenRead(root, Runner);
            if (runner is null)
            {
                ContainerMounts.BindReadOnly(init, runFolder, MountPoint);
            }

            return null;
        }
        catch (LinuxException e)
        {
            return $"the program {name} is WebAssembly, and the runner cannot be brought into this native container ({e.Message}); "
                + $"give the image an empty folder {MountPoint}, or run it as a container of its own";
        }
    }

    private (ProgramKind Kind, string? Problem) Rewrite(OciProcess process, Func<string, SafeFileHandle?> open)
    {
        var (kind, path, problem) = ProgramDetection.Detect(process, open);
        if (problem is not null || kind == ProgramKind.Native)
        {
            return (kind, problem);
        }

        if (!File.Exists(Path.Combine(runFolder, "skiff-run")))
        {
            return (kind, $"the Wasm runner is not at {runFolder}/skiff-run; the folder \"run\" belongs beside the shim's folder \"bin\"");
        }

        // WASI preview 1 has no call for the working directory; Go's library takes it from here.
        if (process.WorkingDirectory != "/" && !process.Environment.Any(e => e.StartsWith("PWD=", StringComparison.Ordinal)))
        {
            process.AddEnvironment("PWD=" + process.WorkingDirectory);
        }

        process.SetArguments([Runner, "run", "--module", path, "--", .. process.Arguments]);
        return (kind, null);
    }
}
