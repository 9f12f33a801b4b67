using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Runtime.InteropServices;
using Microsoft.Extensions.Logging;

namespace Skiff.Operator.Cli;

/// <summary>What commands have in common that run until they are told to stop.</summary>
internal sealed class Service
{
    private readonly LogLevel _level;

    private Service(int port, LogLevel level)
    {
        HealthPort = port;
        _level = level;
    }

    /// <summary>Where /healthz, /readyz and /metrics are.</summary>
    public int HealthPort { get; }

    /// <summary>Reads <c>--health-port</c> and <c>--log-level</c>.</summary>
    public static bool TryParse(Arguments arguments, [NotNullWhen(true)] out Service? service, [NotNullWhen(false)] out string? problem)
    {
        service = null;
        if (!ushort.TryParse(arguments.Value("--health-port") ?? "8080", NumberStyles.None, CultureInfo.InvariantCulture, out var port))
        {
            problem = $"--health-port {arguments.Value("--health-port")}: a number from 0 to 65535 is needed";
            return false;
        }

        if (!Enum.TryParse<LogLevel>(arguments.Value("--log-level") ?? "information", ignoreCase: true, out var level))
        {
            problem = $"--log-level {arguments.Value("--log-level")}: debug, information, warning or error";
            return false;
        }

        problem = null;
        service = new Service(port, level);
        return true;
    }

    /// <summary>Runs until SIGTERM or SIGINT, which cancel it.</summary>
    public async Task RunAsync(Func<ILoggerFactory, CancellationToken, Task> work)
    {
        using var loggers = LoggerFactory.Create(b => b.SetMinimumLevel(_level).AddFilter("Microsoft", LogLevel.Warning).AddJsonConsole(o =>
        {
            o.UseUtcTimestamp = true;
            o.TimestampFormat = "yyyy-MM-dd'T'HH:mm:ss.fff'Z'";
        }));
        using var stop = new CancellationTokenSource();
        using var terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Stop);
        using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Stop);
        await work(loggers, stop.Token).ConfigureAwait(false);

        void Stop(PosixSignalContext context)
        {
            context.Cancel = true; // in order: what has begun to change the node is ended or taken back first (NodeOperation); nothing is uninstalled
            stop.Cancel();
        }
    }
}
