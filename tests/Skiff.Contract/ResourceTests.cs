using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Skiff.Containerd.Task;
using Skiff.Linux.Cgroups;
using Skiff.Linux.Processes;
using Skiff.Testing;
using Skiff.Ttrpc;

namespace Skiff.Contract;

/// <summary>What can be done to a running container as a whole.</summary>
public sealed class ResourceTests(Containerds containerds)
{
    private const string Service = "containerd.task.v2.Task";

    public static TheoryData<string, string> Kinds => [.. ContainerdVersion.Tested.SelectMany(v => new[] { (v.Name, ".wasm"), (v.Name, ".native") })];

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task a_container_is_frozen_and_goes_on(string version, string kind)
    {
        var containerd = await containerds.GetAsync(version);
        await using var container = await RunningContainer.StartAsync(containerd, [], "/spin" + kind);
        await PauseAsync(containerd, container);
        var (pid, status) = await container.StateAsync();
        Assert.Equal("PAUSED", status);
        var used = ProcessorTime(pid);
        Assert.Contains("it is paused", (await containerd.CtrAsync("task", "pause", container.Id)).Error, StringComparison.Ordinal);
        Assert.Contains("it is paused", (await container.ExecAsync("/hello.native")).Error, StringComparison.Ordinal);
        Assert.Equal(used, ProcessorTime(pid));
        _ = (await containerd.CtrAsync("task", "resume", container.Id)).Demand();
        Assert.Equal("RUNNING", (await container.StateAsync()).Status);
        Assert.True(await Until.HoldsAsync(() => Task.FromResult(ProcessorTime(pid) > used), RunningContainer.Patience));
    }

    [Theory]
    [MemberData(nameof(Containerds.Versions), MemberType = typeof(Containerds))]
    public async Task a_frozen_container_can_be_killed(string version)
    {
        var containerd = await containerds.GetAsync(version);
        await using var container = await RunningContainer.StartAsync(containerd, [], "/sleep.wasm");
        await PauseAsync(containerd, container);
        _ = (await containerd.CtrAsync("task", "kill", "--signal", "SIGKILL", container.Id)).Demand();
        Assert.True(await container.BecomesAsync("STOPPED"));
    }

    [Theory]
    [MemberData(nameof(Containerds.Versions), MemberType = typeof(Containerds))]
    public async Task the_memory_limit_is_changed_and_processes_are_told(string version)
    {
        var containerd = await containerds.GetAsync(version);
        await using var container = await RunningContainer.StartAsync(containerd, ["--memory-limit", $"{256 << 20}"], "/sleep.wasm");
        var (pid, _) = await container.StateAsync();
        var cgroup = ContainerCgroup.Of(pid)!;
        var file = cgroup.Folder("memory") + (cgroup.IsUnified ? "/memory.max" : "/memory.limit_in_bytes");
        Assert.Equal($"{256 << 20}\n", await File.ReadAllTextAsync(file));
        using var shim = await container.ConnectToShimAsync();
        Assert.Null((await UpdateAsync(shim, container.Id, "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources", $$$"""{"memory":{"limit":{{{128 << 20}}}}}""")).Error);
        Assert.Equal($"{128 << 20}\n", await File.ReadAllTextAsync(file));

        var unknown = await UpdateAsync(shim, container.Id, "types.containerd.io/opencontainers/runtime-spec/1/WindowsResources", "{}");
        Assert.Equal(TtrpcCode.InvalidArgument, unknown.Error!.Code);
        Assert.Contains("WindowsResources\" are unknown here", unknown.Error.Message, StringComparison.Ordinal);
        var wrong = await UpdateAsync(shim, container.Id, "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources", """{"memory":{"limit":"much"}}""");
        Assert.Contains("runc update failed", wrong.Error!.Message, StringComparison.Ordinal);
        Assert.Contains($"{pid}", (await containerd.CtrAsync("task", "ps", container.Id)).Output, StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(Containerds.Versions), MemberType = typeof(Containerds))]
    [Trait(Containerds.Cgroup, Containerds.Any)]
    public async Task what_cannot_be_checkpointed_says_why(string version)
    {
        var containerd = await containerds.GetAsync(version);
        await using var container = await RunningContainer.StartAsync(containerd, [], "/sleep.wasm");
        using var shim = await container.ConnectToShimAsync();
        var result = await shim.CallAsync(
            Service, "Checkpoint", new CheckpointTaskRequest { Id = container.Id, Path = containerd.Folder }, Empty.Parser, RunningContainer.Patience);
        Assert.Equal(TtrpcCode.Unimplemented, result.Error!.Code);
        Assert.Contains("it runs WebAssembly", result.Error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(Containerds.Versions), MemberType = typeof(Containerds))]
    [Trait(Containerds.Cgroup, Containerds.Any)]
    public async Task a_shim_goes_before_containerd_when_memory_is_short(string version)
    {
        var containerd = await containerds.GetAsync(version);
        await using var container = await RunningContainer.StartAsync(containerd, [], "/sleep.native");
        var own = ThisProcess.OomScoreAdjustmentOf(containerd.Pid);
        Assert.Equal(Math.Min(own!.Value + 1, 1000), ThisProcess.OomScoreAdjustmentOf(await containerd.ShimAsync()));
    }

    /// <remarks>
    /// On cgroup v1 runc gives up ("unable to freeze") when a busy machine lets the processes run on for too long, and leaves them running.
    /// </remarks>
    private static async Task PauseAsync(PrivateContainerd containerd, RunningContainer container)
    {
        var pause = await containerd.CtrAsync("task", "pause", container.Id);
        for (var tries = 0; tries < 5 && pause.Error.Contains("unable to freeze", StringComparison.Ordinal); tries++)
        {
            pause = await containerd.CtrAsync("task", "pause", container.Id);
        }

        _ = pause.Demand();
    }

    private static Task<TtrpcResult<Empty>> UpdateAsync(TtrpcClient shim, string id, string type, string json) => shim.CallAsync(
        Service,
        "Update",
        new UpdateTaskRequest { Id = id, Resources = new Any { TypeUrl = type, Value = ByteString.CopyFromUtf8(json) }, Annotations = { ["passed"] = "over" } },
        Empty.Parser,
        RunningContainer.Patience);

    /// <summary>Clock ticks that a process has used, in the program and in the kernel (proc(5), stat).</summary>
    private static long ProcessorTime(int pid)
    {
        var fields = File.ReadAllText($"/proc/{pid}/stat").Split(") ")[1].Split(' ');
        return long.Parse(fields[11]) + long.Parse(fields[12]);
    }
}
