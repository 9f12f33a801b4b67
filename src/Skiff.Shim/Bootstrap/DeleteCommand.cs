using System.Globalization;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Skiff.Containerd.Task;
using Skiff.Linux;
using Skiff.Linux.Mounts;
using Skiff.Shim.OciRuntime;

namespace Skiff.Shim.Bootstrap;

/// <summary>
/// <c>delete</c>: containerd runs it in the bundle when the shim of a container is gone. It ends and removes what that shim left of this
/// one container; others of the pod are none of its business. Doing it twice is fine.
/// </summary>
internal static class DeleteCommand
{
    // How long is for containerd to say (io.containerd.timeout.shim.cleanup, 5 seconds unless it is set): it kills us then. A limit of our own
    // below that ended the OCI runtime on a busy node in the midst of its work, and nobody came back to the container. This one is for
    // whoever calls without a limit.
    private static readonly TimeSpan _limit = TimeSpan.FromMinutes(2);

    // What a process has that was killed with SIGKILL; how it really ended died with the shim.
    private const uint Killed = 137;

    /// <returns>What goes to stdout, or the reason for stderr; warnings go to stderr with the answer.</returns>
    public static async Task<(byte[]? Answer, string? Problem)> RunAsync(ShimArguments arguments)
    {
        if ((Identifier.Problem("-id", arguments.Id) ?? Identifier.Problem("-namespace", arguments.Namespace)) is { } badName)
        {
            return (null, badName);
        }

        var bundle = arguments.Bundle.Length > 0 ? arguments.Bundle : Directory.GetCurrentDirectory();
        List<string> problems = [];

        // 1. The container. Its shim took the options with it, but left what it needs to find the OCI runtime again.
        var (spec, _) = OciSpec.Load(bundle);
        var runtime = new OciRuntimeDriver(RuntimeSettings.Restore(bundle), arguments.Namespace, bundle, spec?.CgroupsPath ?? "");
        using var limit = new CancellationTokenSource(_limit);
        if (await runtime.DeleteAsync(arguments.Id, limit.Token).ConfigureAwait(false) is { } problem)
        {
            problems.Add(problem);
        }

        // 2. Its root.
        try
        {
            Mounter.UnmountTree(Path.Combine(bundle, "rootfs"));
        }
        catch (LinuxException e)
        {
            problems.Add(e.Message);
        }

        // 3. The socket, if nobody listens there any more.
        var addressFile = Path.Combine(bundle, "address");
        if (File.Exists(addressFile))
        {
            var socket = (await File.ReadAllTextAsync(addressFile).ConfigureAwait(false)).Trim();
            socket = socket.StartsWith("unix://", StringComparison.Ordinal) ? socket["unix://".Length..] : "";
            if (socket.Length > 0 && File.Exists(socket) && !await ShimSocket.AnswersAsync(socket, limit.Token).ConfigureAwait(false))
            {
                File.Delete(socket);
            }
        }

        if (problems.Count > 0)
        {
            return (null, $"container {arguments.Id}: {string.Join("; ", problems)}");
        }

        var pidFile = Path.Combine(bundle, "init.pid");
        var pid = File.Exists(pidFile) && uint.TryParse(
            await File.ReadAllTextAsync(pidFile).ConfigureAwait(false), NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : 0;
        return (new DeleteResponse
        {
            Pid = pid,
            ExitStatus = Killed,
            ExitedAt = Timestamp.FromDateTimeOffset(DateTimeOffset.UtcNow),
        }.ToByteArray(), null);
    }
}
