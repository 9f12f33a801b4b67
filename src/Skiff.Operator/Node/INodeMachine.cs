using Skiff.Containerd.Cri;
using Skiff.Linux;
using Skiff.Linux.Files;
using Skiff.Linux.Processes;

namespace Skiff.Operator.Node;

/// <summary>containerd as its node runs it.</summary>
/// <param name="Program">The binary, as the node sees it.</param>
/// <param name="ConfigPath">Its main configuration file; it may not exist.</param>
/// <param name="Unit">The systemd unit it is the main process of; null: it is none's.</param>
internal sealed record ContainerdService(string Program, string ConfigPath, string? Unit);

/// <summary>The running containerd.</summary>
/// <param name="Identity">Which process it is.</param>
/// <param name="StartedAt">When it was started, to some hundredths of a second.</param>
/// <param name="Service">How it was started.</param>
internal sealed record ContainerdProcess(ProcessIdentity Identity, DateTimeOffset StartedAt, ContainerdService Service);

/// <summary>A shim daemon of ours.</summary>
/// <param name="Pid">Its process id, as we see it.</param>
/// <param name="Bundle">The bundle it was started from.</param>
/// <param name="IsBusy">Whether a process of a container runs under it. One that is about to begin or to end has none.</param>
internal sealed record RunningShim(int Pid, string Bundle, bool IsBusy);

/// <summary>The machine that an installer works on, from wherever we run.</summary>
internal interface INodeMachine
{
    /// <summary>Its files.</summary>
    public RootedTree Files { get; }

    /// <summary>Why we may not or cannot work on it, and what to do; null when nothing is in the way.</summary>
    public string? Obstacle { get; }

    /// <summary>Who listens at containerd's socket.</summary>
    /// <returns>The process, or why there is none or why it is not one we can work with.</returns>
    public Task<(ContainerdProcess? Process, string? Problem)> FindContainerdAsync(CancellationToken cancellation);

    /// <summary>Runs a program of the machine to its end.</summary>
    /// <param name="program">An absolute path there, or a name that is looked for in the usual folders.</param>
    /// <param name="arguments">Its arguments, without its own name.</param>
    /// <param name="limit">After this long it is killed.</param>
    /// <param name="cancellation">Kills it as well.</param>
    /// <exception cref="LinuxException">It is not there or could not be started.</exception>
    public Task<CommandResult> RunAsync(string program, IReadOnlyList<string> arguments, TimeSpan limit, CancellationToken cancellation);

    /// <summary>The shims of ours that run.</summary>
    public IReadOnlyList<RunningShim> RunningShims();

    /// <summary>Whether the running containerd has a handler (<see cref="ContainerdClient.HasHandlerAsync"/>).</summary>
    public Task<(bool? Known, ContainerdFailure? Failure)> HasHandlerAsync(string handler, CancellationToken cancellation);

    /// <summary>Starts a pod sandbox with the host's network and no containers, looks whether it is ready, and removes it.</summary>
    /// <param name="handler">The handler; empty: the node's default.</param>
    /// <param name="cgroupParent">The cgroup it goes under, in the form of the runtime's cgroup driver.</param>
    /// <param name="cancellation">Ends the try; the sandbox is removed nevertheless.</param>
    /// <returns>Why it did not work; null when it did.</returns>
    public Task<string?> TrySandboxAsync(string handler, string cgroupParent, CancellationToken cancellation);

    /// <summary>Removes the sandboxes that <see cref="TrySandboxAsync"/> left when its process was killed; they count as running shims.</summary>
    public Task RemoveTestSandboxesAsync(CancellationToken cancellation);

    /// <summary>Removes the sandboxes of a handler whose pods have ended. containerd 2 cannot say anything about them once the handler is gone.</summary>
    /// <returns>Why one could not be removed; null when none is left.</returns>
    public Task<string?> RemoveDeadSandboxesAsync(string handler, CancellationToken cancellation);
}
