using System.Globalization;
using System.Text;
using Microsoft.Extensions.Logging;
using Microsoft.Win32.SafeHandles;
using Skiff.Containerd.Events;
using Skiff.Linux;
using Skiff.Linux.Files;

namespace Skiff.Shim.Wasm;

/// <summary>
/// What the runner of one guest says of it (src/Skiff.Run/Reports): through a pipe of their own, because the guest's streams belong to the
/// guest.
/// </summary>
/// <remarks>
/// A line is a report: <c>memory ASKED USED LIMIT</c>, <c>trap CODE REASON</c> (code -1: none), <c>requests COUNT CODE REASON</c> for a server's
/// requests that ended by a trap. Nothing that comes through it is trusted: what makes no sense, is too long or too much is passed over.
/// </remarks>
internal sealed partial class GuestReports : IAsyncDisposable
{
    /// <summary>The topic of the event that a report becomes.</summary>
    public const string Topic = "/skiff/guest";

    /// <summary>The number that the pipe has in the runner.</summary>
    public const int Descriptor = 3;

    /// <summary>In bytes, from one process in a minute.</summary>
    internal const int MostBytes = 4096;

    private static readonly TimeSpan _window = TimeSpan.FromMinutes(1);

    private const int MostReason = 256;

    private readonly CancellationTokenSource _stop = new();
    private readonly SafeFileHandle _read;
    private readonly SafeFileHandle _write;
    private readonly Action<GuestReport> _report;
    private readonly ILogger _logger;
    private readonly TimeProvider _time;
    private readonly Task _reading;

    /// <summary>Opens it and begins to read.</summary>
    /// <param name="report">Called for each report, one after another; what container it is of is left open.</param>
    /// <param name="logger">Hears of a pipe that cannot be read.</param>
    /// <param name="time">The clock.</param>
    /// <exception cref="LinuxException">No descriptor is left.</exception>
    public GuestReports(Action<GuestReport> report, ILogger logger, TimeProvider time)
    {
        (_read, _write) = Pipe.Create();
        _report = report;
        _logger = logger;
        _time = time;
        OpenDescriptor.SetBlocking(_read, blocking: false);
        _reading = ReadAsync();
    }

    /// <summary>The runner's end; until <see cref="HandedOver"/>.</summary>
    public SafeFileHandle ForRunner => _write;

    /// <summary>The runner has its end: closes ours.</summary>
    public void HandedOver() => _write.Dispose();

    /// <summary>The runner has ended: reports what is left.</summary>
    public async Task CompleteAsync()
    {
        HandedOver();
        await _stop.CancelAsync().ConfigureAwait(false);
        await _reading.ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        if (_read.IsClosed)
        {
            return;
        }

        await CompleteAsync().ConfigureAwait(false);
        _read.Dispose();
        _stop.Dispose();
    }

    /// <summary>Reads a line; null when it is none.</summary>
    internal static GuestReport? Parse(ReadOnlySpan<byte> line)
    {
        var words = Encoding.UTF8.GetString(line).Split(' ', 3);
        switch (words)
        {
            case ["memory", var asked, var rest] when rest.Split(' ') is [var used, var limit]
                && Number(asked) is { } more && Number(used) is { } has && Number(limit) is { } may:
                return new GuestReport { Memory = new GuestReport.Types.MemoryRefused { Asked = more, Used = has, Limit = may } };
            case ["trap", var code, { Length: > 0 } reason] when int.TryParse(code, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var number):
                return new GuestReport { Trap = Trap(number, reason) };
            case ["requests", var count, var rest] when Number(count) is > 0 and <= uint.MaxValue and var requests && rest.Split(' ', 2) is [var code, { Length: > 0 } reason]
                && int.TryParse(code, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var number):
                var ofRequests = Trap(number, reason);
                ofRequests.Requests = (uint)requests;
                return new GuestReport { Trap = ofRequests };
            default:
                return null;
        }

        static GuestReport.Types.Trap Trap(int code, string reason)
        {
            var trap = new GuestReport.Types.Trap { Reason = string.Concat(reason.Select(c => char.IsControl(c) ? ' ' : c).Take(MostReason)) };
            if (code >= 0)
            {
                trap.Code = (uint)code;
            }

            return trap;
        }

        static ulong? Number(string word) => ulong.TryParse(word, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : null;
    }

    private async Task ReadAsync()
    {
        byte[]? buffer = null; // most guests have nothing to say
        int filled = 0, left = MostBytes;
        var since = _time.GetTimestamp();
        try
        {
            while (true)
            {
                // The end of the pipe is not waited for: whoever was left behind may hold it for ever.
                var isLast = (left == 0 && !await IsNextWindowAsync(since).ConfigureAwait(false)) || !await IsReadableAsync().ConfigureAwait(false);
                if (_time.GetElapsedTime(since) >= _window)
                {
                    (since, left) = (_time.GetTimestamp(), MostBytes);
                }

                buffer ??= new byte[MostBytes];
                var count = OpenDescriptor.TryRead(_read, buffer.AsSpan(filled, Math.Min(left, buffer.Length - filled)));
                if (count is 0 || (count is null && isLast))
                {
                    return;
                }

                filled += count ?? 0;
                left -= count ?? 0;
                filled = TakeLines(buffer, filled);
            }
        }
        catch (LinuxException e)
        {
            Log.NotRead(_logger, e.Message);
        }
    }

    /// <returns>How much is left of it: the beginning of a line, moved to the front.</returns>
    private int TakeLines(byte[] buffer, int filled)
    {
        var done = 0;
        for (int length; (length = buffer.AsSpan(done, filled - done).IndexOf((byte)'\n')) >= 0; done += length + 1)
        {
            if (Parse(buffer.AsSpan(done, length)) is { } report)
            {
                _report(report);
            }
        }

        buffer.AsSpan(done, filled - done).CopyTo(buffer);
        return filled - done < buffer.Length ? filled - done : 0; // no line of ours is that long
    }

    /// <returns>False when the runner has ended before.</returns>
    private async Task<bool> IsNextWindowAsync(long since)
    {
        try
        {
            await Task.Delay(TimeSpan.FromTicks(Math.Max(0, (_window - _time.GetElapsedTime(since)).Ticks)), _time, _stop.Token).ConfigureAwait(false);
            return true;
        }
        catch (OperationCanceledException)
        {
            return false;
        }
    }

    /// <returns>False when the runner has ended: what is there now is all.</returns>
    private async Task<bool> IsReadableAsync()
    {
        try
        {
            await Readiness.ReadableAsync(_read, _stop.Token).ConfigureAwait(false);
            return true;
        }
        catch (OperationCanceledException)
        {
            return false;
        }
    }

    private static partial class Log
    {
        [LoggerMessage(54, LogLevel.Warning, "What the runner says of its guest cannot be read: error={Error}")]
        public static partial void NotRead(ILogger logger, string error);
    }
}
