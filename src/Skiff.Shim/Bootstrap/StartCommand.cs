using System.Text;
using Google.Protobuf;
using Microsoft.Win32.SafeHandles;
using Skiff.Containerd.Bootstrap;
using Skiff.Linux.Cgroups;
using Skiff.Linux.Files;
using Skiff.Linux.Processes;
using Skiff.Shim.OciRuntime;

namespace Skiff.Shim.Bootstrap;

/// <summary>
/// <c>start</c>: containerd runs it in the bundle of each new container, to learn where its shim is. The first container of a group gets a
/// new daemon, the others the address of that one (containerd core/runtime/v2/README.md).
/// </summary>
internal static class StartCommand
{
    // What the daemon finds its listening socket under.
    public const int ListenerDescriptor = 3;

    private static readonly string[] _groupAnnotations =
        ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id", "io.kubernetes.cri-o.SandboxID"];

    /// <summary>Does it.</summary>
    /// <returns>What goes to stdout, or the reason for stderr.</returns>
    public static async Task<(byte[]? Answer, string? Problem)> RunAsync(ShimArguments arguments, Stream stdin, CancellationToken cancellation)
    {
        // 1. Who is asked for.
        if ((Identifier.Problem("-id", arguments.Id) ?? Identifier.Problem("-namespace", arguments.Namespace)) is { } badName)
        {
            return (null, badName);
        }

        var input = BootstrapInput.Parse(await ReadAsync(stdin, cancellation).ConfigureAwait(false), arguments.Id, arguments.Namespace);
        if (input.Problem is not null)
        {
            return (null, input.Problem);
        }

        var (settings, badOptions) = RuntimeSettings.Parse(input.Options);
        if (settings is null)
        {
            return (null, badOptions);
        }

        var bundle = Directory.GetCurrentDirectory();
        var (spec, problem) = OciSpec.Load(bundle);
        if (spec is null)
        {
            return (null, problem);
        }

        // 2. Where its shim listens.
        var group = arguments.Id;
        foreach (var annotation in _groupAnnotations)
        {
            if (spec.Annotation(annotation) is { Length: > 0 } value)
            {
                group = value;
                break;
            }
        }

        var folder = input.Params is { HasSocketDir: true, SocketDir.Length: > 0 } parameters ? parameters.SocketDir : ShimSocket.DefaultFolder;
        var path = ShimSocket.PathOf(folder, arguments.Address, arguments.Namespace, group);
        const int longestPath = 107; // sun_path, without its final NUL
        if (Encoding.UTF8.GetByteCount(path) > longestPath)
        {
            return (null, $"the socket path {path} is longer than {longestPath} bytes; use a shorter socket_dir");
        }

        // 3. A daemon, if none answers there. What may fail for want of room on the disk comes before it.
        var address = "unix://" + path;
        var listener = await ShimSocket.ListenAsync(path, cancellation).ConfigureAwait(false);
        try
        {
            AtomicFile.Write(Path.Combine(bundle, "address"), Encoding.UTF8.GetBytes(address), 0x1A4); // 0644
            if (listener is not null)
            {
                StartDaemon(arguments, input.Params, settings, group, path, bundle, listener.SafeHandle);
            }
        }
        catch
        {
            listener?.Dispose(); // and with it the socket file
            throw;
        }

        // The listener is not disposed on success: that would remove the file. The descriptor ends with this process.

        // 4. The answer, in the form that this containerd reads.
        return (input.Params is null
            ? Encoding.UTF8.GetBytes(address)
            : new BootstrapResult { Version = 2, Address = address, Protocol = "ttrpc" }.ToByteArray(), null);
    }

    private static void StartDaemon(
        ShimArguments arguments,
        BootstrapParams? parameters,
        RuntimeSettings settings,
        string group,
        string path,
        string bundle,
        System.Net.Sockets.SafeSocketHandle listener)
    {
        var program = Environment.ProcessPath ?? throw new IOException("/proc/self/exe cannot be read");
        List<string> words = [program, "-namespace", arguments.Namespace, "-id", group, "-address", arguments.Address, "-socket", path];
        if (arguments.Debug || parameters is { LogLevel: < 0 })
        {
            words.Add("-debug");
        }

        using var descriptor = new SafeFileHandle(listener.DangerousGetHandle(), ownsHandle: false);
        var daemon = Reaper.Shared.Spawn(new SpawnRequest
        {
            Path = program,
            Arguments = words,
            Environment = DaemonEnvironment(parameters),
            WorkingDirectory = bundle,
            NewSession = true,
            Files = new Dictionary<int, SafeFileHandle> { [ListenerDescriptor] = descriptor },
        });

        if (settings.ShimCgroup.Length > 0)
        {
            try
            {
                NamedCgroup.Add(settings.ShimCgroup, daemon.Pid);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                _ = daemon.Signal(Signals.Kill);
                throw new IOException($"the option ShimCgroup: {e.Message}", e);
            }
        }

        // A shim should go before containerd does, and its containers before it (containerd pkg/shim/util_unix.go, AdjustOOMScore).
        if (ThisProcess.OomScoreAdjustmentOf(ThisProcess.ParentId) is { } parent)
        {
            try
            {
                File.WriteAllText($"/proc/{daemon.Pid}/oom_score_adj", Math.Min(parent + 1, 1000).ToString(System.Globalization.CultureInfo.InvariantCulture));
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // Lowering it takes a privilege that a nested node may not have; the shim works without.
            }
        }
    }

    /// <summary>containerd 2.3 and later say in the parameters what earlier ones say in the environment.</summary>
    private static List<string> DaemonEnvironment(BootstrapParams? parameters)
    {
        const string name = "TTRPC_ADDRESS";
        return parameters is { ContainerdTtrpcAddress: { Length: > 0 } address }
            ? [.. ThisProcess.EnvironmentWithout(name), $"{name}={address}"]
            : ThisProcess.EnvironmentWithout();
    }

    /// <summary>Reads to the end, or a little past the limit, which is enough for the parser to refuse it.</summary>
    private static async Task<byte[]> ReadAsync(Stream stdin, CancellationToken cancellation)
    {
        using var all = new MemoryStream();
        var buffer = new byte[8192];
        int count;
        while (all.Length <= BootstrapInput.Limit && (count = await stdin.ReadAsync(buffer, cancellation).ConfigureAwait(false)) > 0)
        {
            all.Write(buffer, 0, count);
        }

        return all.ToArray();
    }
}
