using Skiff.Testing;
using Skiff.Ttrpc;

namespace Skiff.Contract;

/// <summary>A container that runs until a test ends it.</summary>
internal sealed class RunningContainer : IAsyncDisposable
{
    internal static readonly TimeSpan Patience = TimeSpan.FromSeconds(90);

    private readonly PrivateContainerd _containerd;

    private RunningContainer(PrivateContainerd containerd, string id)
    {
        _containerd = containerd;
        Id = id;
    }

    public string Id { get; }

    /// <summary>One that a test starts, or has started, by itself.</summary>
    public static RunningContainer Of(PrivateContainerd containerd, string id) => new(containerd, id);

    /// <summary>Starts one, without streams unless the flags say otherwise.</summary>
    public static async Task<RunningContainer> StartAsync(PrivateContainerd containerd, string[] flags, params string[] program)
    {
        var id = ProgramTests.Id();
        string[] streams = flags.Contains("--fifo-dir") ? [] : ["--null-io"];
        _ = (await containerd.CtrAsync(["run", "--detach", .. streams, "--runtime", Repository.Shim, .. flags, PrivateContainerd.Image, id, .. program])).Demand();
        return new RunningContainer(containerd, id);
    }

    public Task<CtrResult> ExecAsync(params string[] words) => ExecAsync(default, words);

    public Task<CtrResult> ExecAsync(ReadOnlyMemory<byte> input, params string[] words) =>
        _containerd.CtrAsync(input, ["task", "exec", "--exec-id", ProgramTests.Id(), .. FlagsFirst(words)]);

    /// <summary>Its process and state; nothing when it is not there.</summary>
    public Task<(int Pid, string Status)> StateAsync() => _containerd.TaskAsync(Id);

    public Task<bool> BecomesAsync(string status) => Until.HoldsAsync(async () => (await StateAsync()).Status == status, Patience);

    /// <summary>A connection to its shim, beside containerd's.</summary>
    public async Task<TtrpcClient> ConnectToShimAsync() =>
        await TtrpcClient.ConnectAsync((await File.ReadAllTextAsync(_containerd.Bundle(Id) + "/address"))["unix://".Length..]);

    public async ValueTask DisposeAsync()
    {
        if ((await StateAsync()).Status is not ("" or "STOPPED"))
        {
            _ = await _containerd.CtrAsync("task", "kill", "--signal", "SIGKILL", Id);
            _ = await BecomesAsync("STOPPED");
        }

        _ = await _containerd.CtrAsync("task", "rm", Id);
        _ = (await _containerd.CtrAsync("container", "rm", Id)).Demand();
    }

    // ctr task exec [flags] CONTAINER PROGRAM...: what begins with a dash comes before the container.
    private IEnumerable<string> FlagsFirst(string[] words)
    {
        var program = Array.FindIndex(words, w => w[0] == '/');
        return [.. words[..program], Id, .. words[program..]];
    }
}
