using System.Globalization;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Skiff.Linux;
using Skiff.Linux.Files;
using Skiff.Linux.Processes;

namespace Skiff.Run;

/// <summary>
/// Wasmtime's own command, which does what its library cannot: answers HTTP requests, and runs WASI 0.3. It runs as our child, so that process 1
/// of the container is one that knows what Kubernetes' signals mean.
/// </summary>
internal static class EngineCommand
{
    private const string Folder = "/.skiff";
    private const string Program = Folder + "/wasmtime";
    private const string Drain = Folder + "/http-drain.so"; // native/http-drain.c, which says what its signals do

    // What it ends with on any failure of its own, a module that cannot be compiled among them.
    private const int Failed = 1;

    // A component has core instances of its own, each with a memory and a table at most: of several, as of one, there must be enough.
    private const int CoreInstancesOfOne = 20;
    private const int MemoriesOfOne = 4;
    private const int DefaultRequests = 256;

    // A client that has just had its answer may already have sent its next request; after this long nothing is on its way any more.
    private static readonly TimeSpan _idleTime = TimeSpan.FromSeconds(2);

    private static readonly string _loader = Folder + (RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? "/ld-linux-aarch64.so.1" : "/ld-linux-x86-64.so.2");

    /// <summary>Compiles standard input to standard output.</summary>
    /// <returns>0; 126 when it is no module that can be compiled, with the reason on stderr.</returns>
    public static int Compile()
    {
        try
        {
            // Neither file has a name here, and the command wants names.
            var child = Start(["compile", "-Ccache=n", "--output", "/proc/self/fd/1", "/proc/self/fd/0"], Inherited(), serves: false);
            return Status(child.Exit.GetAwaiter().GetResult()) is var status && status == Failed ? RunOptions.CannotRun : status;
        }
        catch (LinuxException e)
        {
            return NotStarted(e);
        }
    }

    /// <summary>Runs a guest to its end, or serves until a signal comes.</summary>
    /// <returns>The exit status.</returns>
    public static int Run(RunOptions options)
    {
        var serves = options.Verb == RunVerb.Serve;
        var files = Inherited();
        try
        {
            if (!Console.IsErrorRedirected)
            {
                return Wait(Start(Words(options), files, serves), serves); // a terminal: the guest is to see it as one
            }

            var output = new EngineOutput(serves);
            var (read, write) = Pipe.Create();
            files[2] = write;
            var child = Start(Words(options), files, serves);
            write.Dispose();
            var relay = Task.Run(() => output.Relay(read));
            var status = Wait(child, serves);
            relay.Wait();
            return status;
        }
        catch (LinuxException e)
        {
            return NotStarted(e);
        }
    }

    private static int NotStarted(LinuxException e) => Libc.Report($"Wasmtime's command cannot be started: {e.Message}", RunOptions.CannotRun);

    private static List<string> Words(RunOptions options)
    {
        var serves = options.Verb == RunVerb.Serve;
        List<string> words = [serves ? "serve" : "run", "-Ccache=n", "-Scli", "-Sinherit-env", "-Sp3"];
        words.AddRange(options.Network ? ["-Sinherit-network", "-Sallow-ip-name-lookup"] : ["-Stcp=n", "-Sudp=n"]);
        if (options.MaxMemory is { } limit)
        {
            words.Add(Text($"-Wmax-memory-size={limit}"));
        }

        foreach (var folder in options.Directories.Count > 0 ? options.Directories : GuestDirectories.Default(Environment.CurrentDirectory))
        {
            words.AddRange(["--dir", $"{folder.HostPath}::{folder.GuestPath}"]);
        }

        if (serves)
        {
            var requests = options.Requests ?? DefaultRequests;
            words.AddRange(
            [
                "--addr", Address(options.Listen), "--no-logging-prefix", "--max-concurrent-requests", Text($"{requests}"),
                "-Opooling-allocator", Text($"-Opooling-total-component-instances={requests}"), Text($"-Opooling-total-core-instances={requests * CoreInstancesOfOne}"),
                Text($"-Opooling-total-memories={requests * MemoriesOfOne}"), Text($"-Opooling-total-tables={requests * CoreInstancesOfOne}"),
                Text($"-Opooling-total-stacks={requests}"),
            ]);
            if (options.Connections is { } connections)
            {
                words.AddRange(["--max-concurrent-connections", Text($"{connections}")]);
            }

            if (options.Reuse is { } reuse)
            {
                words.AddRange(["--max-instance-reuse-count", Text($"{reuse}")]);
            }
        }
        else if (options.Http)
        {
            words.Add("-Shttp");
        }

        if (options.Artifact.Length > 0)
        {
            words.Add("--allow-precompiled");
        }

        if (!serves)
        {
            words.AddRange(["--argv0", options.Arguments[0]]);
        }

        words.Add(options.Artifact.Length > 0 ? options.Artifact : options.Module);
        return serves ? words : [.. words, .. options.Arguments[1..]];
    }

    /// <summary>Waits for its end. A server that is asked to end finishes what it has begun; asked again, it ends at once, as everything else does the first time.</summary>
    private static int Wait(ChildProcess child, bool serves)
    {
        Timer? closing = null;
        TerminationSignals.Handler = signal =>
        {
            if (serves && closing is null)
            {
                _ = child.Signal(Signals.User1);
                closing = new Timer(_ => child.Signal(Signals.User1), null, _idleTime, Timeout.InfiniteTimeSpan);
                return;
            }

            _ = child.Signal(Signals.Kill);
            Libc._exit(128 + signal);
        };
        var status = Status(child.Exit.GetAwaiter().GetResult());
        GC.KeepAlive(closing);
        return status;
    }

    private static int Status(ExitStatus exit) => (int)exit.ShellCode;

    /// <summary>All addresses are both kinds' where there are both.</summary>
    private static string Address(string listen) => listen[0] == ':' ? (File.Exists("/proc/net/if_inet6") ? "[::]" : "0.0.0.0") + listen : listen;

    private static Dictionary<int, SafeFileHandle> Inherited()
    {
        Dictionary<int, SafeFileHandle> files = [];
        for (var descriptor = 0; descriptor <= 2; descriptor++)
        {
            files[descriptor] = new SafeFileHandle(descriptor, ownsHandle: false);
        }

        return files;
    }

    // The image's C library may be another, or none: so the loader is named, and looks for libraries in the runner's folder.
    private static ChildProcess Start(IReadOnlyList<string> words, Dictionary<int, SafeFileHandle> files, bool serves) => Reaper.Shared.Spawn(new SpawnRequest
    {
        Path = _loader,
        Arguments = [_loader, "--library-path", Folder, .. serves ? (string[])["--preload", Drain] : [], "--argv0", "wasmtime", Program, .. words],
        Files = files,
    });

    private static string Text(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
