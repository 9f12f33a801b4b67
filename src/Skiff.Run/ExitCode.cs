namespace Skiff.Run;

/// <summary>What the exit code of <c>skiff-run</c> means, where it is not the guest's own. The shim and users read these.</summary>
/// <remarks>
/// 125 and 126 are what <c>docker run</c> and shells use for the same: the tool was misused, the command cannot be executed. A
/// trap is 134 (128 + SIGABRT), as an aborted native program. Signals exit with 128 + number (<c>signals.c</c>).
/// </remarks>
internal static class ExitCode
{
    internal const int Success = 0;
    internal const int BadUsage = 125;
    internal const int CannotRun = 126;
    internal const int Trapped = 134;
}
