using Microsoft.Extensions.Time.Testing;
using Skiff.Testing;

namespace Skiff.Kubernetes.Tests.Testing;

/// <summary>How often tests look for what they wait for.</summary>
public sealed class UntilTests
{
    private static readonly TimeSpan _patience = TimeSpan.FromSeconds(30);

    [Theory]
    [InlineData(0, 20)]
    [InlineData(5, 20)]
    [InlineData(60, 120)]
    [InlineData(249, 498)]
    [InlineData(2000, 500)]
    public async Task the_pause_is_twice_as_long_as_the_look_within_its_limits(int look, int pause)
    {
        var time = new FakeTimeProvider();
        var looks = 0;
        var again = new TaskCompletionSource();
        var holding = Until.HoldsAsync(
            () =>
            {
                time.Advance(TimeSpan.FromMilliseconds(look));
                if (++looks == 2)
                {
                    again.SetResult();
                }

                return Task.FromResult(looks == 2);
            },
            TimeSpan.FromMinutes(1),
            time);
        time.Advance(TimeSpan.FromMilliseconds(pause - 1));
        Assert.Equal(1, looks);
        time.Advance(TimeSpan.FromMilliseconds(1));
        await again.Task.WaitAsync(_patience);
        Assert.True(await holding.WaitAsync(_patience));
    }

    [Fact]
    public async Task what_does_not_hold_when_the_time_is_over_does_not()
    {
        var time = new FakeTimeProvider();
        var holding = Until.HoldsAsync(
            () =>
            {
                time.Advance(TimeSpan.FromSeconds(61));
                return Task.FromResult(false);
            },
            TimeSpan.FromMinutes(1),
            time);
        Assert.False(await holding.WaitAsync(_patience));
    }
}
