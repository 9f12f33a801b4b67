using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Net.Sockets;
using System.Text;
using Skiff.Containerd.Cri;
using Skiff.Linux;
using Skiff.Linux.Files;
using Skiff.Linux.Processes;

namespace Skiff.Operator.Node;

/// <summary>
/// A real machine: the one we run on (<c>/</c>), or the one whose process we see (<c>/proc/PID/root</c>: from a privileged pod in the host's
/// PID namespace, <c>/proc/1/root</c>). Files go through that path; programs start in the process's mount and PID namespaces.
/// </summary>
internal sealed class LinuxNode : INodeMachine, IDisposable
{
    private const int ProcFileLimit = 64 << 10;
    private const string NotRunning = "containerd does not run; start it (systemctl status containerd says more), or name its socket by --socket";

    private static readonly TimeSpan _callLimit = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan _sandboxLimit = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan _queryLimit = TimeSpan.FromSeconds(20);
    private static readonly string[] _programFolders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

    // What a service of systemd gets, and nothing of ours: colours and pagers off.
    private static readonly string[] _environment = [$"PATH={string.Join(':', _programFolders)}", "LC_ALL=C", "SYSTEMD_COLORS=0", "SYSTEMD_PAGER="];

    private static readonly Dictionary<string, string> _testLabels = new() { ["skiff.dev/self-test"] = "true" };

    private readonly string _socket;
    private readonly int? _namespacesOf;
    private readonly ContainerdClient _client;

    private LinuxNode(string hostRoot, int? namespacesOf, string socket)
    {
        Files = new RootedTree(hostRoot);
        _namespacesOf = namespacesOf;
        _socket = socket;
        _client = new ContainerdClient(hostRoot, socket, _callLimit) { SandboxTimeout = _sandboxLimit };
    }

    /// <inheritdoc/>
    public RootedTree Files { get; }

    /// <inheritdoc/>
    public string? Obstacle
    {
        get
        {
            if (ThisProcess.UserId != 0)
            {
                return "root is needed: run it with sudo, or in a privileged container as user 0";
            }

            try
            {
                return Files.Target("/sys/fs/cgroup") is { IsFolder: true } ? null
                    : Files.Target("/") is null ? $"{Files.Root} cannot be entered"
                    : $"{Files.Root} has no /sys/fs/cgroup: it is not the root directory of a running Linux machine";
            }
            catch (LinuxException e)
            {
                return $"{e.Message}: the pod needs hostPID: true and a privileged container";
            }
        }
    }

    /// <summary>The machine behind a root directory.</summary>
    /// <returns>The machine, or why it cannot be worked on.</returns>
    public static bool TryOpen(string hostRoot, string socket, [NotNullWhen(true)] out LinuxNode? node, [NotNullWhen(false)] out string? problem)
    {
        node = null;
        problem = null;
        var root = hostRoot.Length > 1 ? hostRoot.TrimEnd('/') : hostRoot;
        if (root is "/" or "")
        {
            node = new LinuxNode("/", null, socket);
        }
        else if (root.Split('/') is ["", "proc", var number, "root"] && int.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out var pid))
        {
            node = new LinuxNode(root, pid, socket);
        }
        else
        {
            problem = $"--host-root {hostRoot}: only / and /proc/PID/root will do, because containerd and systemctl have to run in the node's own "
                + "namespaces and systemctl refuses to in a changed root; in a pod with hostPID: true that is --host-root /proc/1/root";
        }

        return node is not null;
    }

    /// <inheritdoc/>
    public async Task<(ContainerdProcess? Process, string? Problem)> FindContainerdAsync(CancellationToken cancellation)
    {
        int pid;
        try
        {
            // A path of its own for the socket: it may lie behind absolute links, and may be too long for an address.
            using var place = RootedPath.Find(Files.Root, _socket);
            if (place is null)
            {
                return (null, $"there is no {_socket} on the node: {NotRunning}");
            }

            using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            await socket.ConnectAsync(new UnixDomainSocketEndPoint($"/proc/self/fd/{place.DangerousGetHandle()}"), cancellation).AsTask()
                .WaitAsync(_callLimit, cancellation).ConfigureAwait(false);
            pid = PeerOf(socket);
        }
        catch (Exception e) when (e is SocketException or TimeoutException or LinuxException)
        {
            return (null, $"nobody answers at {_socket}: {NotRunning}");
        }

        if (pid == 0)
        {
            return (null, $"the process that listens at {_socket} is not visible from here: the pod needs hostPID: true");
        }

        try
        {
            return await DescribeAsync(pid, cancellation).ConfigureAwait(false);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return (null, $"process {pid}, which listens at {_socket}, cannot be looked at (has it just ended?): {e.Message}");
        }
    }

    /// <inheritdoc/>
    public async Task<CommandResult> RunAsync(string program, IReadOnlyList<string> arguments, TimeSpan limit, CancellationToken cancellation)
    {
        var path = program.StartsWith('/')
            ? program
            : _programFolders.Select(f => $"{f}/{program}").FirstOrDefault(p => Files.Target(p) is { IsFile: true })
                ?? throw new LinuxException($"start {program}, which is in none of {string.Join(", ", _programFolders)} of the node", Errno.NoEntry);
        return await Command.RunAsync(
            new SpawnRequest
            {
                Path = path,
                Arguments = [path, .. arguments],
                Environment = _environment,
                WorkingDirectory = "/",
                NamespacesOf = _namespacesOf,
                NewProcessGroup = true,
            },
            limit, cancellation: cancellation).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public IReadOnlyList<RunningShim> RunningShims()
    {
        List<(int Pid, string Bundle)> shims = [];
        HashSet<int> parents = [];
        var here = LinkOf($"/proc/{_namespacesOf?.ToString(CultureInfo.InvariantCulture) ?? "self"}/ns/mnt");
        foreach (var folder in Directory.EnumerateDirectories("/proc"))
        {
            if (!int.TryParse(Path.GetFileName(folder), NumberStyles.None, CultureInfo.InvariantCulture, out var pid))
            {
                continue;
            }

            // Shims live where containerd does. A container may have any path for its own programs, so those do not count.
            if (LinkOf($"{folder}/exe") is { } program && program.StartsWith(NodePaths.Versions + "/", StringComparison.Ordinal)
                && LinkOf($"{folder}/ns/mnt") == here)
            {
                shims.Add((pid, program[(NodePaths.Versions.Length + 1)..].Split('/')[0]));
            }

            try
            {
                _ = parents.Add(ProcFile.ParentOf(Encoding.UTF8.GetString(ReadProc($"{folder}/stat"))));
            }
            catch (IOException)
            {
                // It has ended.
            }
        }

        return [.. shims.Select(s => new RunningShim(s.Pid, s.Bundle, parents.Contains(s.Pid)))];
    }

    /// <inheritdoc/>
    public Task<(bool? Known, ContainerdFailure? Failure)> HasHandlerAsync(string handler, CancellationToken cancellation) =>
        _client.HasHandlerAsync(handler, cancellation);

    /// <inheritdoc/>
    public async Task<string?> TrySandboxAsync(string handler, string cgroupParent, CancellationToken cancellation)
    {
        await RemoveTestSandboxesAsync(cancellation).ConfigureAwait(false);
        var request = new SandboxRequest("skiff-self-test", "skiff-system", Guid.NewGuid().ToString(), handler)
        {
            CgroupParent = cgroupParent,
            Labels = _testLabels,
        };
        var (id, failure) = await _client.RunPodSandboxAsync(request, cancellation).ConfigureAwait(false);
        if (id is null)
        {
            return failure?.Message;
        }

        try
        {
            var (ready, unknown) = await _client.PodSandboxReadyAsync(id, cancellation).ConfigureAwait(false);
            return unknown is not null ? unknown.Message : ready == true ? null : "it was started and is not ready";
        }
        finally
        {
            _ = await _client.RemovePodSandboxAsync(id, CancellationToken.None).ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    public async Task RemoveTestSandboxesAsync(CancellationToken cancellation)
    {
        var (sandboxes, _) = await _client.ListPodSandboxesAsync(_testLabels, cancellation).ConfigureAwait(false);
        foreach (var sandbox in sandboxes ?? [])
        {
            _ = await _client.RemovePodSandboxAsync(sandbox.Id, cancellation).ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    public async Task<string?> RemoveDeadSandboxesAsync(string handler, CancellationToken cancellation)
    {
        var (sandboxes, failure) = await _client.ListPodSandboxesAsync(new Dictionary<string, string>(), cancellation).ConfigureAwait(false);
        foreach (var sandbox in sandboxes?.Where(s => s.Handler == handler && !s.Ready) ?? [])
        {
            failure ??= await _client.RemovePodSandboxAsync(sandbox.Id, cancellation).ConfigureAwait(false);
        }

        return failure?.Message;
    }

    /// <inheritdoc/>
    public void Dispose() => _client.Dispose();

    private static int PeerOf(Socket socket)
    {
        const int socketLevel = 1;
        const int peerCredentials = 17;
        Span<byte> credentials = stackalloc byte[12]; // struct ucred: pid, uid, gid
        _ = socket.GetRawSocketOption(socketLevel, peerCredentials, credentials);
        return BinaryPrimitives.ReadInt32LittleEndian(credentials);
    }

    private async Task<(ContainerdProcess? Process, string? Problem)> DescribeAsync(int pid, CancellationToken cancellation)
    {
        var words = Encoding.UTF8.GetString(ReadProc($"/proc/{pid}/cmdline")).Split('\0', StringSplitOptions.RemoveEmptyEntries);
        var program = LinkOf($"/proc/{pid}/exe") ?? throw new LinuxException($"read /proc/{pid}/exe", Errno.NoProcess);
        const string replaced = " (deleted)"; // by a package upgrade; a restart starts what is there now
        if (program.EndsWith(replaced, StringComparison.Ordinal))
        {
            program = program[..^replaced.Length];
        }

        if (Path.GetFileName(program) != "containerd")
        {
            return (null, $"{program} (process {pid}) listens at {_socket}, which is not containerd: a distribution with a containerd of its own "
                + "(k3s and the like) is not supported");
        }

        var config = ProcFile.ConfigOf(words, LinkOf($"/proc/{pid}/cwd") ?? "/");
        var unit = ProcFile.UnitOf(Encoding.UTF8.GetString(ReadProc($"/proc/{pid}/cgroup")));
        if (unit is not null && !await IsMainOfAsync(unit, pid, cancellation).ConfigureAwait(false))
        {
            unit = null;
        }

        var (ticks, age) = ProcFile.StartOf(
            Encoding.UTF8.GetString(ReadProc($"/proc/{pid}/stat")), Encoding.UTF8.GetString(ReadProc("/proc/uptime")));
        var boot = Encoding.UTF8.GetString(ReadProc("/proc/sys/kernel/random/boot_id")).Trim();
        return (new ContainerdProcess(new ProcessIdentity(pid, ticks, boot), DateTimeOffset.UtcNow - age, new ContainerdService(program, config, unit)), null);
    }

    /// <summary>Whether systemd restarts this process when it restarts the unit: a daemon that another one started is not its unit's main process.</summary>
    private async Task<bool> IsMainOfAsync(string unit, int pid, CancellationToken cancellation)
    {
        var result = await RunAsync("systemctl", ["show", "--property", "MainPID", "--value", unit], _queryLimit, cancellation).ConfigureAwait(false);
        if (!result.Exit.Success || !int.TryParse(result.OutputText.Trim(), NumberStyles.None, CultureInfo.InvariantCulture, out var main))
        {
            return false;
        }

        // systemd counts in its own PID namespace, which may be one below ours.
        return ProcFile.InnermostPid(Encoding.UTF8.GetString(ReadProc($"/proc/{pid}/status"))) == main;
    }

    private static byte[] ReadProc(string path)
    {
        using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);
        var content = new byte[ProcFileLimit];
        return content[..stream.ReadAtLeast(content, content.Length, throwOnEndOfStream: false)];
    }

    private static string? LinkOf(string path)
    {
        try
        {
            return new FileInfo(path).LinkTarget;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null; // a kernel thread, or it has ended
        }
    }
}
