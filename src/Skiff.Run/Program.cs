using System.Runtime.CompilerServices;
using Skiff.Run.Compile;
using Skiff.Run.Engine;

[assembly: DisableRuntimeMarshalling]

namespace Skiff.Run;

/// <summary>
/// <c>skiff-run</c>: the process of a Wasm container. It is started by the OCI runtime inside the container's namespaces, cgroup
/// and seccomp profile, often as process 1, with the container's environment, working directory and standard streams.
/// </summary>
/// <remarks>
/// The contract with who starts it is in <see cref="CommandLine"/> (arguments) and <see cref="ExitCode"/> (results). Signals are in
/// <c>signals.c</c>. Everything expected to fail is a <see cref="Failure"/>; an exception here is a defect.
/// </remarks>
internal static class Program
{
    private static int Main(string[] args)
    {
        int code = Run(args);

        // Not a return: the runtime's shutdown would wait for nothing that matters and costs a millisecond.
        Libc._exit(code);
        return code;
    }

    private static int Run(string[] args)
    {
        CommandLine command = CommandLine.Parse(args);
        switch (command.Verb)
        {
            case Verb.Run:
                return Report(GuestRunner.Run(command, out int guestExitCode), guestExitCode);
            case Verb.Compile:
                return Report(Confinement.EnterByExecutingAgain(args));
            case Verb.CompileConfined:
                return Report(Compiler.CompileStandardInput(command.Kind));
            case Verb.EngineKey:
                return Report(EngineKey.Print());
            case Verb.Version:
                Output.WriteLine($"skiff-run {BuildInfo.Version} (wasmtime {BuildInfo.EngineVersion})");
                return ExitCode.Success;
            case Verb.Help:
                Output.WriteLine(CommandLine.Usage);
                return ExitCode.Success;
            default:
                Output.Complain($"{command.Problem}\n{CommandLine.Usage}");
                return ExitCode.BadUsage;
        }
    }

    private static int Report(Failure? failure, int otherwise = ExitCode.Success)
    {
        if (failure is null)
        {
            return otherwise;
        }

        Output.Complain(failure.Message);
        return failure.ExitCode;
    }
}
