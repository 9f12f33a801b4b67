namespace Skiff.Shim.Stdio;

/// <summary>The streams that a request names for a process, as they are reported back.</summary>
/// <param name="Stdin">A FIFO; empty: not wanted.</param>
/// <param name="Stdout">A FIFO or a log URI (see <see cref="OutputTarget"/>); empty: not wanted.</param>
/// <param name="Stderr">The same; a terminal has none.</param>
/// <param name="Terminal">Whether the process gets a terminal, and the streams are that terminal's.</param>
internal sealed record StdioRequest(string Stdin, string Stdout, string Stderr, bool Terminal);

/// <summary>Whose streams they are.</summary>
/// <param name="Bundle">The container's bundle.</param>
/// <param name="Namespace">containerd's namespace.</param>
/// <param name="Id">The container, or the exec.</param>
/// <param name="IoUid">Who is to own the FIFOs.</param>
/// <param name="IoGid">Which group.</param>
/// <param name="ClientClosesInput">Whether a client that closes stdin means the end of the input, also without CloseIO.</param>
internal sealed record StdioOwner(string Bundle, string Namespace, string Id, uint IoUid, uint IoGid, bool ClientClosesInput);
