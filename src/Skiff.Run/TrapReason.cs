using Wasmtime;

namespace Skiff.Run;

/// <summary>The engine's words for a trap, and what they say about its code.</summary>
internal static class TrapReason
{
    private const string Prefix = "wasm trap: ";

    // Of a component's trap the engine's library gives the words alone (Wasmtime, crates/environ/src/trap_encoding.rs).
    private static readonly Dictionary<string, TrapCode> _codes = new(StringComparer.Ordinal)
    {
        ["call stack exhausted"] = TrapCode.StackOverflow,
        ["out of bounds memory access"] = TrapCode.MemoryOutOfBounds,
        ["unaligned atomic"] = TrapCode.HeapMisaligned,
        ["undefined element: out of bounds table access"] = TrapCode.TableOutOfBounds,
        ["uninitialized element"] = TrapCode.IndirectCallToNull,
        ["indirect call type mismatch"] = TrapCode.BadSignature,
        ["integer overflow"] = TrapCode.IntegerOverflow,
        ["integer divide by zero"] = TrapCode.IntegerDivisionByZero,
        ["invalid conversion to integer"] = TrapCode.BadConversionToInteger,
        ["wasm `unreachable` instruction executed"] = TrapCode.Unreachable,
        ["interrupt"] = TrapCode.Interrupt,
        ["all fuel consumed by WebAssembly"] = TrapCode.OutOfFuel,
        ["atomic wait on non-shared memory"] = TrapCode.AtomicWaitNonSharedMemory,
        ["null reference"] = TrapCode.NullReference,
        ["out of bounds array access"] = TrapCode.ArrayOutOfBounds,
        ["allocation size too large"] = TrapCode.AllocationTooLarge,
        ["cast failure"] = TrapCode.CastFailure,
        ["cannot enter component instance"] = TrapCode.CannotEnterComponent,
        ["cannot leave component instance"] = TrapCode.CannotLeaveComponent,
        ["cannot block a synchronous task before returning"] = TrapCode.CannotBlockSyncTask,
        ["invalid `char` bit pattern"] = TrapCode.InvalidChar,
    };

    /// <summary>What the engine calls the cause: the last line, below a backtrace that may be long; a reader wants it first.</summary>
    public static string Of(string message)
    {
        var last = message.TrimEnd();
        last = last[(last.LastIndexOf('\n') + 1)..].Trim();
        var colon = last.IndexOf(": ", StringComparison.Ordinal);
        return colon > 0 && int.TryParse(last[..colon], out _) ? last[(colon + 2)..] : last;
    }

    /// <summary>The code of a trap.</summary>
    /// <returns>Null when neither the engine nor its words tell.</returns>
    public static TrapCode? CodeOf(WasmtimeException e, string reason) =>
        e is TrapException { Type: not TrapCode.Undefined and var known } ? known : CodeOf(reason);

    /// <summary>The code of a trap of which only the words are known.</summary>
    public static TrapCode? CodeOf(string reason) =>
        reason.StartsWith(Prefix, StringComparison.Ordinal) && _codes.TryGetValue(reason[Prefix.Length..], out var named) ? named : null;
}
