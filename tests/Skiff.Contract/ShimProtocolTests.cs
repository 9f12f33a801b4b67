using System.Net.Sockets;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Microsoft.Win32.SafeHandles;
using Skiff.Containerd.Bootstrap;
using Skiff.Containerd.Options;
using Skiff.Containerd.Task;
using Skiff.Containerd.Types;
using Skiff.Linux.Files;
using Skiff.Linux.Mounts;
using Skiff.Linux.Processes;
using Skiff.Testing;
using Skiff.Ttrpc;

namespace Skiff.Contract;

/// <summary>The shim by itself, spoken to as containerd does, where no ctr command reaches.</summary>
[Trait(Containerds.Runs, Containerds.Once)]
public sealed class ShimProtocolTests : IAsyncLifetime
{
    private const string Service = "containerd.task.v2.Task";
    private static readonly TimeSpan _patience = TimeSpan.FromSeconds(90);

    private string _bundle = Directory.CreateTempSubdirectory("skiff-bundle-").FullName;
    private readonly string _id = "p" + Guid.NewGuid().ToString("n")[..12];
    private string _socket = "";

    public ValueTask InitializeAsync()
    {
        if (Repository.Missing is { } missing)
        {
            Assert.Skip(missing);
        }

        _ = Directory.CreateDirectory(_bundle + "/rootfs/proc");
        File.Copy(Path.Combine(Repository.Guests, "sleep.native"), _bundle + "/rootfs/sleep");
        File.WriteAllText(_bundle + "/config.json", """
            {"ociVersion":"1.0.2","process":{"args":["/sleep"],"cwd":"/","user":{"uid":0,"gid":0}},"root":{"path":"rootfs"},
             "mounts":[{"destination":"/proc","type":"proc","source":"proc"}],
             "linux":{"cgroupsPath":"/skiff-protocol/ID","namespaces":[{"type":"pid"},{"type":"mount"},{"type":"ipc"},{"type":"uts"},{"type":"network"}]}}
            """.Replace("ID", _id, StringComparison.Ordinal));
        return ValueTask.CompletedTask;
    }

    public async ValueTask DisposeAsync()
    {
        if (_socket.Length > 0 && File.Exists(_socket))
        {
            using var client = await TtrpcClient.ConnectAsync(_socket);
            _ = await client.CallAsync(Service, "Kill", new KillRequest { Id = _id, Signal = 9 }, Empty.Parser);
            _ = await client.CallAsync(Service, "Wait", new WaitRequest { Id = _id }, WaitResponse.Parser).WaitAsync(_patience);
            _ = await client.CallAsync(Service, "Delete", new DeleteRequest { Id = _id }, DeleteResponse.Parser);
            _ = await client.CallAsync(Service, "Shutdown", new ShutdownRequest { Id = _id }, Empty.Parser);
        }

        Directory.Delete(_bundle, recursive: true);
    }

    [Fact]
    public async Task a_container_goes_through_its_states_and_wrong_calls_say_so()
    {
        using var client = await StartAsync();
        Assert.Equal(TtrpcCode.NotFound, (await CallAsync(client, "State", new StateRequest { Id = _id }, StateResponse.Parser)).Error!.Code);
        var created = await CallAsync(client, "Create", new CreateTaskRequest { Id = _id, Bundle = _bundle }, CreateTaskResponse.Parser);
        Assert.Null(created.Error);
        Assert.Equal(TtrpcCode.AlreadyExists, (await CallAsync(client, "Create", new CreateTaskRequest { Id = _id, Bundle = _bundle }, CreateTaskResponse.Parser)).Error!.Code);
        Assert.Equal(Status.Created, (await CallAsync(client, "State", new StateRequest { Id = _id }, StateResponse.Parser)).Value!.Status);

        Assert.Null((await CallAsync(client, "Start", new StartRequest { Id = _id }, StartResponse.Parser)).Error);
        Assert.Equal(Status.Running, (await CallAsync(client, "State", new StateRequest { Id = _id }, StateResponse.Parser)).Value!.Status);
        Assert.Contains((await CallAsync(client, "Pids", new PidsRequest { Id = _id }, PidsResponse.Parser)).Value!.Processes, p => p.Pid == created.Value!.Pid);
        Refused(await CallAsync(client, "Start", new StartRequest { Id = _id }, StartResponse.Parser), $"cannot start container {_id}: it is running");
        Refused(await CallAsync(client, "Delete", new DeleteRequest { Id = _id }, DeleteResponse.Parser), $"cannot delete container {_id}: it is running");
        foreach (var descriptor in (int[])[0, 1, 2])
        {
            Assert.Equal("/dev/null", new FileInfo($"/proc/{created.Value!.Pid}/fd/{descriptor}").LinkTarget); // no stream was asked for
        }

        Assert.Equal(TtrpcCode.Unimplemented, (await CallAsync(client, "Frobnicate", new Empty(), Empty.Parser)).Error!.Code);
        Assert.Equal(TtrpcCode.InvalidArgument, (await CallAsync(client, "Kill", new KillRequest { Id = _id, Signal = 4711 }, Empty.Parser)).Error!.Code);

        var wait = CallAsync(client, "Wait", new WaitRequest { Id = _id }, WaitResponse.Parser);
        Assert.Null((await CallAsync(client, "Kill", new KillRequest { Id = _id, Signal = 9 }, Empty.Parser)).Error);
        Assert.Equal(137u, (await wait).Value!.ExitStatus);
        Assert.Equal(TtrpcCode.NotFound, (await CallAsync(client, "Kill", new KillRequest { Id = _id, Signal = 9 }, Empty.Parser)).Error!.Code);
        Assert.Equal(137u, (await CallAsync(client, "Delete", new DeleteRequest { Id = _id }, DeleteResponse.Parser)).Value!.ExitStatus);
        await GoneAsync(client);
    }

    [Fact]
    public async Task a_program_that_dies_before_its_start_is_reported()
    {
        using var client = await StartAsync();
        var created = await CallAsync(client, "Create", new CreateTaskRequest { Id = _id, Bundle = _bundle }, CreateTaskResponse.Parser);
        using var init = PidFds.Open((int)created.Value!.Pid);
        Assert.True(PidFds.Signal(init!, Signals.Kill));
        Assert.Equal(137u, (await CallAsync(client, "Wait", new WaitRequest { Id = _id }, WaitResponse.Parser)).Value!.ExitStatus);
        Refused(await CallAsync(client, "Start", new StartRequest { Id = _id }, StartResponse.Parser), "cannot start");
        Assert.Equal(137u, (await CallAsync(client, "Delete", new DeleteRequest { Id = _id }, DeleteResponse.Parser)).Value!.ExitStatus);
        await GoneAsync(client);
    }

    [Fact]
    public async Task a_created_container_can_be_deleted()
    {
        using var client = await StartAsync();
        Assert.Null((await CallAsync(client, "Create", new CreateTaskRequest { Id = _id, Bundle = _bundle }, CreateTaskResponse.Parser)).Error);
        Assert.Equal(137u, (await CallAsync(client, "Delete", new DeleteRequest { Id = _id }, DeleteResponse.Parser)).Value!.ExitStatus);
        await GoneAsync(client);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task a_full_disk_under_the_bundle_is_named_and_leaves_nothing(bool started)
    {
        var whole = Directory.CreateTempSubdirectory("skiff-full-").FullName;
        Mounter.Mount("tmpfs", "tmpfs", whole, ["size=4m"]);
        var was = _bundle;
        try
        {
            var copy = await Command.RunAsync(new SpawnRequest { Path = "/bin/cp", Arguments = ["cp", "-a", _bundle + "/.", whole] }, _patience);
            Assert.True(copy.Exit.Success, copy.Error);
            _bundle = whole;
            var client = started ? await StartAsync() : null;
            await using (var filler = File.Create(whole + "/filler"))
            {
                _ = await Assert.ThrowsAsync<IOException>(async () =>
                {
                    while (true)
                    {
                        await filler.WriteAsync(new byte[4096]);
                        await filler.FlushAsync();
                    }
                });
            }

            if (client is null)
            {
                var result = await Command.RunAsync(StartRequest(), _patience);
                Assert.Equal(1u, result.Exit.ShellCode);
                Assert.Contains($"{whole}/address", result.Error, StringComparison.Ordinal);
                Assert.Contains("no space left on device", result.Error, StringComparison.OrdinalIgnoreCase);
                Assert.DoesNotContain(Directory.GetDirectories("/proc").Select(CommandLine), c => c.Contains(_id, StringComparison.Ordinal));
            }
            else
            {
                using (client)
                {
                    var created = await CallAsync(client, "Create", new CreateTaskRequest { Id = _id, Bundle = _bundle }, CreateTaskResponse.Parser);
                    Assert.Contains("no space left on device", created.Error!.Message, StringComparison.OrdinalIgnoreCase);
                    Assert.Contains(whole, created.Error.Message, StringComparison.Ordinal);
                    Assert.Equal(TtrpcCode.NotFound, (await CallAsync(client, "State", new StateRequest { Id = _id }, StateResponse.Parser)).Error!.Code);
                    await GoneAsync(client);
                }
            }

            Assert.False(Directory.Exists("/run/containerd/runc/skiff-test/" + _id));
            Assert.False(Directory.Exists("/sys/fs/cgroup/memory/skiff-protocol/" + _id));
            Assert.Empty(Directory.GetFiles(whole, "*.tmp"));
        }
        finally
        {
            _bundle = was;
            Mounter.UnmountTree(whole);
            Directory.Delete(whole);
        }

        static string CommandLine(string folder)
        {
            try
            {
                return File.ReadAllText(folder + "/cmdline");
            }
            catch (IOException)
            {
                return "";
            }
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task a_terminals_output_arrives_to_the_last_byte(bool readLate)
    {
        await TakeTerminalGuestAsync();
        foreach (var name in (string[])["stdin", "stdout"])
        {
            Fifo.Create($"{_bundle}/{name}", 0x180);
        }

        using var client = await StartAsync();
        var request = new CreateTaskRequest { Id = _id, Bundle = _bundle, Terminal = true, Stdin = _bundle + "/stdin", Stdout = _bundle + "/stdout" };
        Assert.Null((await CallAsync(client, "Create", request, CreateTaskResponse.Parser)).Error);
        using var output = Fifo.OpenReadNonBlocking(_bundle + "/stdout")!;
        using var input = Fifo.OpenWriteNonBlocking(_bundle + "/stdin")!;
        Assert.Null((await CallAsync(client, "ResizePty", new ResizePtyRequest { Id = _id, Width = 90, Height = 30 }, Empty.Parser)).Error);
        Assert.Null((await CallAsync(client, "Start", new StartRequest { Id = _id }, StartResponse.Parser)).Error);
        Assert.True(Fifo.TryWrite(input, "size\nburst\n"u8));
        var reading = readLate ? null : ReadAsync(output);
        if (readLate)
        {
            // The program waits for room, and shim and terminal hold what they can.
            Assert.Null((await CallAsync(client, "State", new StateRequest { Id = _id }, StateResponse.Parser)).Error);
            reading = ReadAsync(output);
        }

        Assert.Equal(7u, (await CallAsync(client, "Wait", new WaitRequest { Id = _id }, WaitResponse.Parser)).Value!.ExitStatus);
        var text = await reading!.WaitAsync(_patience);
        Assert.Contains("size 90x30\r\n", text, StringComparison.Ordinal);
        Assert.EndsWith(string.Concat(Enumerable.Range(0, 20000).Select(i => $"burst line {i}\r\n")), text, StringComparison.Ordinal);
        Assert.Equal(7u, (await CallAsync(client, "Delete", new DeleteRequest { Id = _id }, DeleteResponse.Parser)).Value!.ExitStatus);
        await GoneAsync(client);
    }

    [Fact]
    public async Task a_terminal_whose_input_is_closed_is_hung_up()
    {
        await TakeTerminalGuestAsync();
        Fifo.Create(_bundle + "/stdin", 0x180);
        using var client = await StartAsync();
        var request = new CreateTaskRequest { Id = _id, Bundle = _bundle, Terminal = true, Stdin = _bundle + "/stdin" };
        Assert.Null((await CallAsync(client, "Create", request, CreateTaskResponse.Parser)).Error);
        Assert.Null((await CallAsync(client, "Start", new StartRequest { Id = _id }, StartResponse.Parser)).Error);
        Assert.Null((await CallAsync(client, "CloseIO", new CloseIORequest { Id = _id, Stdin = true }, Empty.Parser)).Error);
        Assert.NotNull((await CallAsync(client, "Wait", new WaitRequest { Id = _id }, WaitResponse.Parser)).Value);
        Assert.Null((await CallAsync(client, "Delete", new DeleteRequest { Id = _id }, DeleteResponse.Parser)).Error);
        await GoneAsync(client);
    }

    [Fact]
    public async Task bootstrap_parameters_get_a_protobuf_answer_and_a_second_start_the_same_address()
    {
        var parameters = new BootstrapParams { InstanceId = _id, Namespace = "skiff-test", ContainerdVersion = "2.4.2", ContainerdTtrpcAddress = _bundle + "/none.ttrpc" };
        var first = BootstrapResult.Parser.ParseFrom((await RunStartAsync(parameters.ToByteArray())).Output);
        Assert.Equal((2, "ttrpc"), (first.Version, first.Protocol));
        _socket = first.Address["unix://".Length..];
        var second = await RunStartAsync([]);
        Assert.Equal(first.Address, second.OutputText);
        using var client = await TtrpcClient.ConnectAsync(_socket);
        await GoneAsync(client);
    }

    [Fact]
    public async Task racing_starts_end_with_one_shim()
    {
        var results = await Task.WhenAll(Enumerable.Range(0, 8).Select(_ => RunStartAsync([])));
        _ = Assert.Single(results.Select(r => r.OutputText).Distinct());
        _socket = results[0].OutputText["unix://".Length..];
        using var client = await TtrpcClient.ConnectAsync(_socket);
        var pid = (await CallAsync(client, "Connect", new ConnectRequest { Id = _id }, ConnectResponse.Parser)).Value!.ShimPid;
        foreach (var process in Directory.GetDirectories("/proc").Select(Path.GetFileName).Where(n => uint.TryParse(n, out var p) && p != pid))
        {
            var command = Path.Combine("/proc", process!, "cmdline");
            Assert.False(File.Exists(command) && Contains(command, _id), $"process {process} serves {_id} too");
        }

        await GoneAsync(client);
    }

    [Fact]
    public async Task random_bytes_on_its_socket_leave_the_shim_up()
    {
        using var client = await StartAsync();
        var random = new Random(4);
        for (var i = 0; i < 200; i++)
        {
            using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(_socket));
            var bytes = new byte[random.Next(500)];
            random.NextBytes(bytes);
            _ = await socket.SendAsync(bytes);
        }

        Assert.NotEqual(0u, (await CallAsync(client, "Connect", new ConnectRequest { Id = _id }, ConnectResponse.Parser)).Value!.ShimPid);
        await GoneAsync(client);
    }

    [Fact]
    public async Task info_and_version_work_without_a_namespace()
    {
        var info = await Command.RunAsync(new SpawnRequest { Path = Repository.Shim, Arguments = [Repository.Shim, "-info"] }, _patience);
        var answer = RuntimeInfo.Parser.ParseFrom(info.Output);
        Assert.Equal("io.containerd.skiff.v1", answer.Name);
        Assert.Equal("types.containerd.io/opencontainers/runtime-spec/1/features/Features", answer.Features.TypeUrl);
        Assert.Contains("\"mountOptions\"", answer.Features.Value.ToStringUtf8(), StringComparison.Ordinal);
        var options = new Any { TypeUrl = "runtimeoptions.v1.Options", Value = new RuntimeOptions { ConfigBody = ByteString.CopyFromUtf8("BinaryName = 'none'") }.ToByteString() };
        var other = await Command.RunAsync(new SpawnRequest { Path = Repository.Shim, Arguments = [Repository.Shim, "-info"] }, _patience, options.ToByteArray());
        Assert.Equal((options, null), (RuntimeInfo.Parser.ParseFrom(other.Output).Options, RuntimeInfo.Parser.ParseFrom(other.Output).Features));
        var version = await Command.RunAsync(new SpawnRequest { Path = Repository.Shim, Arguments = [Repository.Shim, "-v"] }, _patience);
        Assert.StartsWith("containerd-shim-skiff-v1 ", version.OutputText, StringComparison.Ordinal);
    }

    private async Task TakeTerminalGuestAsync()
    {
        File.Copy(Path.Combine(Repository.Guests, "terminal.native"), _bundle + "/rootfs/terminal");
        await File.WriteAllTextAsync(_bundle + "/config.json", (await File.ReadAllTextAsync(_bundle + "/config.json"))
            .Replace("\"args\":[\"/sleep\"]", "\"terminal\":true,\"args\":[\"/terminal\"]", StringComparison.Ordinal)
            .Replace("\"mounts\":[", """
                "mounts":[{"destination":"/dev","type":"tmpfs","source":"tmpfs"},{"destination":"/dev/pts","type":"devpts","source":"devpts"},
                """, StringComparison.Ordinal));
    }

    private static async Task<string> ReadAsync(SafeFileHandle file)
    {
        var text = new System.Text.StringBuilder();
        var buffer = new byte[4096];
        using var stop = new CancellationTokenSource(_patience);
        while (true)
        {
            switch (OpenDescriptor.TryRead(file, buffer))
            {
                case null:
                    await Readiness.ReadableAsync(file, stop.Token);
                    break;
                case 0:
                    return text.ToString();
                case { } count:
                    _ = text.Append(System.Text.Encoding.ASCII.GetString(buffer, 0, count));
                    break;
            }
        }
    }

    private static bool Contains(string file, string text)
    {
        try
        {
            return File.ReadAllText(file).Contains(text, StringComparison.Ordinal);
        }
        catch (IOException)
        {
            return false;
        }
    }

    private static Task<TtrpcResult<T>> CallAsync<T>(TtrpcClient client, string method, IMessage request, MessageParser<T> parser)
        where T : class, IMessage<T> => client.CallAsync(Service, method, request, parser, _patience).WaitAsync(_patience);

    private static void Refused<T>(TtrpcResult<T> result, string says)
        where T : class
    {
        Assert.Equal(TtrpcCode.FailedPrecondition, result.Error!.Code);
        Assert.Contains(says, result.Error.Message, StringComparison.Ordinal);
    }

    private SpawnRequest StartRequest() => new()
    {
        Path = Repository.Shim,
        Arguments = [Repository.Shim, "-namespace", "skiff-test", "-id", _id, "-address", _bundle + "/none.sock", "start"],
        WorkingDirectory = _bundle,

        // As containerd.service hands it down: runc must not see it, or its start waits for a notification that never comes.
        Environment = [$"PATH={Environment.GetEnvironmentVariable("PATH")}", $"NOTIFY_SOCKET={_bundle}/notify"],
    };

    private async Task<CommandResult> RunStartAsync(byte[] input)
    {
        var result = await Command.RunAsync(StartRequest(), _patience, input);
        Assert.Equal((0u, ""), (result.Exit.ShellCode, result.Error));
        return result;
    }

    private async Task<TtrpcClient> StartAsync()
    {
        _socket = (await RunStartAsync([])).OutputText["unix://".Length..];
        return await TtrpcClient.ConnectAsync(_socket);
    }

    private async Task GoneAsync(TtrpcClient client)
    {
        Assert.Null((await CallAsync(client, "Shutdown", new ShutdownRequest { Id = _id }, Empty.Parser)).Error);
        Assert.True(await Until.HoldsAsync(() => Task.FromResult(!File.Exists(_socket)), _patience), $"{_socket} is still there");
    }
}
