namespace Skiff.Kubernetes;

/// <summary>Waiting times that grow, with jitter so that many who failed together do not come back together.</summary>
public static class Backoff
{
    /// <summary>How long to wait after so many failures in a row: between half of and the whole of first × 2^(failures-1), at most the cap.</summary>
    public static TimeSpan After(int failures, TimeSpan first, TimeSpan cap)
    {
        // 2^30 times any first delay is beyond every cap; more would overflow.
        var whole = first * Math.Pow(2, Math.Clamp(failures - 1, 0, 30));
        return Jitter(whole < cap ? whole : cap);
    }

    /// <summary>Between half of and the whole of a time.</summary>
    public static TimeSpan Jitter(TimeSpan time) => time * (0.5 + (Random.Shared.NextDouble() / 2));
}
