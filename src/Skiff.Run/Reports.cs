using System.Globalization;

namespace Skiff.Run;

/// <summary>
/// What the shim is to know of the guest: a line each, to the descriptor that it has opened for it. The guest cannot reach that descriptor.
/// </summary>
/// <remarks>The shim reads them in Wasm/GuestReports. There are two from one process at most, or one a minute, which any pipe holds: nothing waits here.</remarks>
internal static class Reports
{
    /// <summary>The pipe; null: nobody asked.</summary>
    public static int? Descriptor { get; set; }

    /// <summary>The guest did not get memory that it wanted.</summary>
    /// <param name="asked">How much more, in bytes.</param>
    /// <param name="used">How much it has.</param>
    /// <param name="limit">How much it may have.</param>
    public static void MemoryRefused(ulong asked, ulong used, ulong limit) => Write(string.Create(CultureInfo.InvariantCulture, $"memory {asked} {used} {limit}\n"));

    /// <summary>The guest ended by a trap.</summary>
    /// <param name="code">The engine's number of it, where there is one.</param>
    /// <param name="reason">What the engine calls it.</param>
    public static void Trapped(int? code, string reason) => Write(string.Create(CultureInfo.InvariantCulture, $"trap {code ?? -1} {reason.ReplaceLineEndings(" ")}\n"));

    /// <summary>Requests to a server ended by a trap.</summary>
    /// <param name="count">How many since it was last said.</param>
    /// <param name="code">The engine's number of the last one's, where there is one.</param>
    /// <param name="reason">What the engine calls it.</param>
    public static void RequestsTrapped(int count, int? code, string reason) => Write(string.Create(CultureInfo.InvariantCulture, $"requests {count} {code ?? -1} {reason.ReplaceLineEndings(" ")}\n"));

    private static void Write(string line)
    {
        if (Descriptor is { } descriptor)
        {
            Libc.Write(descriptor, line);
        }
    }
}
