using System.Runtime.InteropServices;

namespace Skiff.Run;

/// <summary>
/// The signals that end a program. As process 1 of a container the kernel gives us no default for these: without a handler a guest that loops
/// would sit out its pod's grace period. Handlers run on the runtime's signal thread, so it does not matter what the guest does on its own.
/// </summary>
internal static class TerminationSignals
{
    private const int HangUp = 1;
    private const int Interrupt = 2;
    private const int Quit = 3;
    private const int Terminate = 15;

    /// <summary>What is done, with the signal's number. At first: the process ends at once, with the status that a shell shows for it.</summary>
    public static Action<int> Handler { get; set; } = signal => Libc._exit(128 + signal);

    /// <summary>From now on they come to the handler.</summary>
    /// <returns>To be held for as long as they are to come.</returns>
    public static PosixSignalRegistration[] Register() =>
        [On(PosixSignal.SIGTERM, Terminate), On(PosixSignal.SIGINT, Interrupt), On(PosixSignal.SIGQUIT, Quit), On(PosixSignal.SIGHUP, HangUp)];

    private static PosixSignalRegistration On(PosixSignal signal, int number) => PosixSignalRegistration.Create(
        signal,
        context =>
        {
            context.Cancel = true; // what the runtime would do after it
            Handler(number);
        });
}
