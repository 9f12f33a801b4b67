using System.Reflection;

namespace Skiff.Operator.Cli;

/// <summary>The program's version.</summary>
internal static class ProgramVersion
{
    /// <summary>For example 0.1.0.</summary>
    public static string Text { get; } = Assembly.GetExecutingAssembly().GetName().Version?.ToString(3) ?? "0.0.0";

    /// <summary>How the program names itself to the API server.</summary>
    public static string UserAgent { get; } = $"skiff-operator/{Text}";
}
