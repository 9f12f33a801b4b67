using System.Net.Sockets;
using System.Runtime.InteropServices;
using Microsoft.Extensions.Logging;
using Skiff.Linux.Processes;
using Skiff.Shim.Events;
using Skiff.Shim.Tasks;
using Skiff.Shim.Wasm;
using Skiff.Ttrpc;

namespace Skiff.Shim.Bootstrap;

/// <summary>The process that stays: serves the task service for one pod until containerd says that it may go.</summary>
internal static partial class Daemon
{
    private const int LeftAloneChecks = 4;

    private static readonly TimeSpan _lastEvents = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan _lastAnswers = TimeSpan.FromSeconds(3);
    private static readonly TimeSpan _leftAloneCheck = TimeSpan.FromSeconds(5);

    /// <summary>Runs until shut down.</summary>
    public static async Task RunAsync(ShimArguments arguments)
    {
        var time = TimeProvider.System;
        var fifo = Path.Combine(Directory.GetCurrentDirectory(), "log");
        var logger = new ShimLogger(fifo, arguments.Debug ? LogLevel.Debug : LogLevel.Information, time);
        Reaper.Shared.BecomeSubreaper();

        using var terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, context => context.Cancel = true);
        using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, context => context.Cancel = true);

        // The one socket: handed down by `start`, so that containerd can connect before this process runs.
        var listener = new Socket(new SafeSocketHandle(StartCommand.ListenerDescriptor, ownsHandle: true));
        var events = new EventPublisher(Environment.GetEnvironmentVariable("TTRPC_ADDRESS") ?? "", arguments.Namespace, logger, time);
        var tasks = new TaskService(arguments.Namespace, WasmPreparation.BesideThisProgram(arguments.Address, arguments.Namespace, logger, time), events, logger, time);
        var server = new TtrpcServer(listener, ThisProcess.UserId, logger, time);
        var service = tasks.ToService();
        foreach (var name in TaskService.Names)
        {
            server.Register(name, service);
        }

        server.Start();
        Log.Serving(logger, arguments.Id, Environment.ProcessId);
        _ = await Task.WhenAny(tasks.ShutdownRequested, LeftAloneAsync(tasks, time)).ConfigureAwait(false);

        // The file goes first: from now on a start for this pod makes a new shim.
        if (arguments.Socket.Length > 0)
        {
            File.Delete(arguments.Socket);
        }

        using var limit = new CancellationTokenSource(_lastAnswers, time);
        await server.StopAsync(limit.Token).ConfigureAwait(false);
        await events.CompleteAsync(_lastEvents).ConfigureAwait(false);
        Log.Ending(logger, arguments.Id);
    }

    /// <summary>
    /// Completes when there has been no container for a while. containerd creates one as soon as a shim listens, and asks it to end after
    /// the last one; but a containerd that died in between may come back without knowing of the shim, or keep it for nothing.
    /// </summary>
    private static async Task LeftAloneAsync(TaskService tasks, TimeProvider time)
    {
        using var timer = new PeriodicTimer(_leftAloneCheck, time);
        for (var empty = 0; empty < LeftAloneChecks && await timer.WaitForNextTickAsync().ConfigureAwait(false);)
        {
            empty = tasks.IsEmpty ? empty + 1 : 0;
        }
    }

    private static partial class Log
    {
        [LoggerMessage(30, LogLevel.Debug, "Serving: group={Group} pid={Pid}")]
        public static partial void Serving(ILogger logger, string group, int pid);

        [LoggerMessage(31, LogLevel.Debug, "Ending: group={Group}")]
        public static partial void Ending(ILogger logger, string group);
    }
}
