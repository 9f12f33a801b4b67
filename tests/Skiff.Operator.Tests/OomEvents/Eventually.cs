using System.Runtime.CompilerServices;
using Skiff.Testing;

namespace Skiff.Operator.Tests.OomEvents;

/// <summary>What has to come true while others work.</summary>
internal static class Eventually
{
    private static readonly TimeSpan _patience = TimeSpan.FromSeconds(90);

    /// <summary>Demands that a condition comes to hold.</summary>
    public static async Task HoldsAsync(Func<bool> condition, [CallerArgumentExpression(nameof(condition))] string what = "") =>
        Assert.True(await Until.HoldsAsync(() => Task.FromResult(condition()), _patience), what);
}
