namespace Skiff.Operator;

/// <summary>Loops that make one whole: none goes on without the others.</summary>
internal static class Loops
{
    /// <summary>Runs loops until cancelled. When one returns or fails, the others are cancelled too.</summary>
    /// <exception cref="Exception">What a loop failed with.</exception>
    internal static async Task RunAsync(CancellationToken cancellation, params Func<CancellationToken, Task>[] loops)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        var running = loops.Select(loop => loop(stop.Token)).ToList();
        _ = await Task.WhenAny(running).ConfigureAwait(false);
        await stop.CancelAsync().ConfigureAwait(false);
        try
        {
            await Task.WhenAll(running).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested)
        {
            // As they were told.
        }
    }
}
