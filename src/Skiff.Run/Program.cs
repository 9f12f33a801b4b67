using Skiff.Run;

var registrations = TerminationSignals.Register();
var (options, problem) = RunOptions.Parse(args);
if (options is null)
{
    return Libc.Report(problem!, RunOptions.Usage);
}

Reports.Descriptor = options.Reports;
var status = options.Verb switch
{
    RunVerb.Version => Version(),
    RunVerb.Compile => EngineLibrary.Guard(() => Compilation.Run(options)),
    RunVerb.CompileForCommand => EngineCommand.Compile(),
    RunVerb.Run => EngineLibrary.Guard(() => Guest.Run(options)),
    _ => EngineCommand.Run(options),
};
GC.KeepAlive(registrations);
return status;

static int Version()
{
    Libc.Write(1, $"skiff-run {typeof(Guest).Assembly.GetName().Version?.ToString(3)} (wasmtime {EngineLibrary.Version})\n");
    return 0;
}
