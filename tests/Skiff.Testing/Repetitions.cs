namespace Skiff.Testing;

/// <summary>How often a test does again what shows little new each time.</summary>
public static class Repetitions
{
    private static readonly bool _all = Environment.GetEnvironmentVariable("SKIFF_ALL") is { Length: > 0 };

    /// <summary>One number for each run, another for <c>hack/test --all</c>.</summary>
    public static int Of(int each, int all) => _all ? all : each;
}
