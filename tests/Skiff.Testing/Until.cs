namespace Skiff.Testing;

/// <summary>Waiting for what another process will bring about.</summary>
public static class Until
{
    private static readonly TimeSpan _pause = TimeSpan.FromMilliseconds(20);

    /// <summary>Looks again and again until the condition holds or the time is over.</summary>
    /// <returns>Whether it held.</returns>
    public static async Task<bool> HoldsAsync(Func<Task<bool>> condition, TimeSpan limit)
    {
        var end = TimeProvider.System.GetUtcNow() + limit;
        while (!await condition())
        {
            if (TimeProvider.System.GetUtcNow() > end)
            {
                return false;
            }

            await Task.Delay(_pause);
        }

        return true;
    }
}
