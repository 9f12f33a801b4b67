namespace Skiff.Testing;

/// <summary>Waiting for what another process will bring about.</summary>
public static class Until
{
    private static readonly TimeSpan _shortest = TimeSpan.FromMilliseconds(20);
    private static readonly TimeSpan _longest = TimeSpan.FromMilliseconds(500);

    /// <summary>
    /// Looks again and again until the condition holds or the time is over. The pause between two looks is twice as long as the look took, within
    /// 20 ms … 500 ms: where looking means starting a program, looking would otherwise take the processor from what is waited for.
    /// </summary>
    /// <returns>Whether it held.</returns>
    public static async Task<bool> HoldsAsync(Func<Task<bool>> condition, TimeSpan limit, TimeProvider? time = null)
    {
        ArgumentNullException.ThrowIfNull(condition);
        time ??= TimeProvider.System;
        var begun = time.GetTimestamp();
        while (true)
        {
            var look = time.GetTimestamp();
            if (await condition())
            {
                return true;
            }

            if (time.GetElapsedTime(begun) > limit)
            {
                return false;
            }

            await Task.Delay(Pause(time.GetElapsedTime(look)), time);
        }
    }

    private static TimeSpan Pause(TimeSpan look) => TimeSpan.FromTicks(Math.Clamp(2 * look.Ticks, _shortest.Ticks, _longest.Ticks));
}
