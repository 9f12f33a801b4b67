namespace Skiff.Run;

/// <summary>Something expected that went wrong: what to say, and the code to exit with.</summary>
/// <param name="ExitCode">One of <see cref="Run.ExitCode"/>.</param>
/// <param name="Message">Names the file, what is wrong with it and the fix. Printed after <c>skiff-run: </c>.</param>
internal sealed record Failure(int ExitCode, string Message)
{
    /// <summary>The module cannot be loaded, compiled or linked, so the guest never ran.</summary>
    internal static Failure CannotRun(string message) => new(Run.ExitCode.CannotRun, message);
}
