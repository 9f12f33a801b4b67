using Skiff.Run.Engine;

namespace Skiff.Run.Compile;

/// <summary>The confined half of the <c>compile</c> command: from standard input to standard output.</summary>
internal static unsafe class Compiler
{
    private const string Name = "the module on standard input";

    /// <summary>Compiles, checks that the result can be linked, and writes it out.</summary>
    /// <param name="wanted">The kind that the caller says it is, or unknown.</param>
    internal static Failure? CompileStandardInput(ModuleKind wanted)
    {
        // 1. Nothing is read before the process can do no harm.
        Failure? failure = Confinement.Complete();
        if (failure is not null)
        {
            return failure;
        }

        // 2. Read.
        using NativeBuffer? bytes = NativeBuffer.Read(Libc.StandardInput, GuestRunner.ModuleSizeLimit, out string? problem);
        if (bytes is null)
        {
            return Failure.CannotRun($"cannot read {Name}: {problem}");
        }

        ModuleKind kind = ModuleFormat.Detect(bytes.Span, out problem);
        if (problem is not null)
        {
            return Failure.CannotRun($"{Name} {problem}");
        }

        if (wanted != ModuleKind.Unknown && wanted != kind)
        {
            return Failure.CannotRun(
                $"{Name} is a {kind.ToString().ToLowerInvariant()} module, which --kind denies. Leave out --kind");
        }

        // 3. Compile, and find out now rather than in each container whether it links.
        failure = Guest.Compile(WasmEngine.Create(), kind, Name, bytes, out Guest? guest) ?? guest!.Check();
        if (failure is not null)
        {
            return failure;
        }

        // 4. Write.
        failure = guest!.Serialize(out Wasmtime.Vector artifact);
        if (failure is not null)
        {
            return failure;
        }

        return Libc.WriteAll(Libc.StandardOutput, artifact.Data, artifact.Size)
            ? null
            : Failure.CannotRun($"cannot write the artifact to standard output: {Libc.LastError()}");
    }
}
