namespace Skiff.Shim;

/// <summary>The version that the build gave this program.</summary>
internal static class SkiffVersion
{
    public static string Text { get; } = typeof(SkiffVersion).Assembly.GetName().Version?.ToString(3) ?? "0.0.0";
}
