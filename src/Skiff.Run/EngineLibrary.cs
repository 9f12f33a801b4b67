using System.Globalization;

namespace Skiff.Run;

/// <summary>
/// The engine's library, a file beside this program. Its calls and their structures change from release to release, so it has to be the one
/// that hack/engine checked with this very program and wrote into ENGINE.
/// </summary>
internal static class EngineLibrary
{
    private const string FileName = "libwasmtime.so";

    // "VERSION SHA256 SIZE": Wasmtime's, of program and library, and the library's in bytes.
    private const string RecordName = "ENGINE";

    private static readonly string _folder = AppContext.BaseDirectory;

    /// <summary>Its version as it was checked, or "unknown".</summary>
    public static string Version => Record is [var version, ..] ? version : "unknown";

    private static string[] Record
    {
        get
        {
            try
            {
                return File.ReadAllText(Path.Combine(_folder, RecordName)).Split(' ', StringSplitOptions.TrimEntries);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                return []; // while hack/engine checks, and where somebody runs this program by hand
            }
        }
    }

    /// <summary>Does what uses the library, unless it cannot be used.</summary>
    /// <param name="use">What uses it.</param>
    /// <returns>The exit status; <see cref="RunOptions.Misfit"/> when program and library do not fit, and stderr then says so.</returns>
    public static int Guard(Func<int> use)
    {
        try
        {
            // Its size tells it from any other, and costs nothing at each start.
            var file = new FileInfo(Path.Combine(_folder, FileName));
            return Record is [_, _, var size] && file.Exists && file.Length.ToString(CultureInfo.InvariantCulture) != size
                ? Report($"has {file.Length} bytes, and not the {size} of the one that skiff-run was built with")
                : use();
        }
        catch (Exception e) when (Misfit(e) is not null)
        {
            return Report($"cannot be used: {Misfit(e)}");
        }
    }

    // In our own words: the framework's texts are not in a native build.
    private static string? Misfit(Exception e) => e switch
    {
        TypeInitializationException { InnerException: { } inner } => Misfit(inner),
        DllNotFoundException or BadImageFormatException => "it is missing, damaged, or asks for another that is not there",
        EntryPointNotFoundException => "it lacks a function that skiff-run calls",
        _ => null,
    };

    private static int Report(string problem) => Libc.Report(
        $"the engine's library {Path.Combine(_folder, FileName)} {problem}; install Skiff again (skiff-operator node install). Another library is given to whoever builds Skiff, as SKIFF_LIBWASMTIME",
        RunOptions.Misfit);
}
