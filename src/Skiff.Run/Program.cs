using System.Runtime.InteropServices;
using Skiff.Run;

// As process 1 of a container the kernel gives us no default for these: without a handler a guest that loops would sit out its pod's
// grace period. The handler runs on the runtime's signal thread, so it does not matter what the guest does on this one.
using var terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, _ => Libc._exit(128 + 15));
using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, _ => Libc._exit(128 + 2));
using var quit = PosixSignalRegistration.Create(PosixSignal.SIGQUIT, _ => Libc._exit(128 + 3));
using var hangUp = PosixSignalRegistration.Create(PosixSignal.SIGHUP, _ => Libc._exit(128 + 1));

var (options, problem) = RunOptions.Parse(args);
if (options is null)
{
    return Libc.Report(problem!, RunOptions.Usage);
}

if (options.Version)
{
    Libc.Write(1, $"skiff-run {typeof(Guest).Assembly.GetName().Version?.ToString(3)} (wasmtime {typeof(Wasmtime.Engine).Assembly.GetName().Version?.ToString(3)})\n");
    return 0;
}

Reports.Descriptor = options.Reports;
return options.Compile ? Compilation.Run(options) : Guest.Run(options);
