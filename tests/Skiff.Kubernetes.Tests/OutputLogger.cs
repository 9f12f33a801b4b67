using System.Globalization;
using Microsoft.Extensions.Logging;

namespace Skiff.Kubernetes.Tests;

/// <summary>Writes what is logged into the test's output, which is shown when the test fails.</summary>
internal sealed class OutputLogger(ITestOutputHelper output) : ILogger
{
    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => true;

    public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
    {
        var now = TimeProvider.System.GetUtcNow().ToString("HH:mm:ss.fff", CultureInfo.InvariantCulture);
        try
        {
            output.WriteLine($"{now} {logLevel} {formatter(state, exception)}{(exception is null ? "" : $"\n{exception}")}");
        }
        catch (InvalidOperationException)
        {
            // The test is over; what still runs after a failure has nobody to tell it to.
        }
    }
}
