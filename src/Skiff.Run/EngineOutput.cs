using System.Diagnostics;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace Skiff.Run;

/// <summary>
/// What the engine's command and its guest write to standard error: handed on as it is, and looked through for traps, which nobody else tells.
/// </summary>
/// <param name="serves">Whether it is a server's, where a trap ends a request and not the guest.</param>
internal sealed class EngineOutput(bool serves)
{
    // What the command says of a trap, first and last: a backtrace lies between (Wasmtime, src/commands/serve.rs and run.rs).
    private const string Beginning = "error while executing at wasm backtrace:";
    private const string Cause = "wasm trap: ";

    private const int LongestLine = 1024; // the rest of a longer one says nothing new
    private const int MostLinesBetween = 256;

    // A server may trap at each request: one report at once, and what comes within a minute of it in the next.
    private static readonly TimeSpan _pause = TimeSpan.FromMinutes(1);

    private readonly byte[] _line = new byte[LongestLine];
    private int _length;
    private int _linesLeft; // in which a cause may follow
    private int _requests;
    private string _reason = "";
    private long? _reported;

    /// <summary>Hands on until the last writer has closed its end.</summary>
    /// <param name="from">The pipe.</param>
    public void Relay(SafeFileHandle from)
    {
        using var input = new FileStream(from, FileAccess.Read, bufferSize: 0);
        var block = new byte[16 << 10];
        for (int count; (count = input.Read(block)) > 0;)
        {
            Libc.Write(2, block.AsSpan(0, count));
            Look(block.AsSpan(0, count));
        }

        if (serves)
        {
            Report();
        }
    }

    private void Look(ReadOnlySpan<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            var end = bytes.IndexOf((byte)'\n');
            var piece = end < 0 ? bytes : bytes[..end];
            var taken = Math.Min(piece.Length, LongestLine - _length);
            piece[..taken].CopyTo(_line.AsSpan(_length));
            _length += taken;
            if (end < 0)
            {
                return;
            }

            Line(Encoding.UTF8.GetString(_line, 0, _length));
            _length = 0;
            bytes = bytes[(end + 1)..];
        }
    }

    private void Line(string line)
    {
        if (line.EndsWith(Beginning, StringComparison.Ordinal))
        {
            _linesLeft = MostLinesBetween;
        }
        else if (_linesLeft > 0 && line.TrimStart().StartsWith(Cause, StringComparison.Ordinal))
        {
            _linesLeft = 0;
            _reason = line.Trim();
            if (!serves)
            {
                Reports.Trapped((int?)TrapReason.CodeOf(_reason), _reason);
                return;
            }

            _requests++;
            if (_reported is not { } before || Stopwatch.GetElapsedTime(before) >= _pause)
            {
                _reported = Stopwatch.GetTimestamp();
                Report();
            }
        }
        else if (_linesLeft > 0)
        {
            _linesLeft--;
        }
    }

    private void Report()
    {
        if (_requests > 0)
        {
            Reports.RequestsTrapped(_requests, (int?)TrapReason.CodeOf(_reason), _reason);
            _requests = 0;
        }
    }
}
