using System.Text;

namespace Skiff.Run.Engine;

/// <summary>What the engine says when something did not work: a <c>wasmtime_error_t</c> or a <c>wasm_trap_t</c>.</summary>
/// <remarks>Never freed: the process exits with the message.</remarks>
internal readonly unsafe struct EngineError
{
    private const string TrapPrefix = "wasm trap: ";

    private readonly nint _error;
    private readonly nint _trap;

    private EngineError(nint error, nint trap)
    {
        _error = error;
        _trap = trap;
    }

    /// <summary>Whether anything went wrong.</summary>
    internal bool Happened => _error != 0 || _trap != 0;

    /// <summary>The engine's words, with the causes and the Wasm backtrace if the guest was running.</summary>
    internal string Message
    {
        get
        {
            Wasmtime.Vector message;
            if (_error != 0)
            {
                Wasmtime.wasmtime_error_message(_error, out message);
            }
            else
            {
                Wasmtime.wasm_trap_message(_trap, out message);
            }

            return Encoding.UTF8.GetString(message.Bytes).TrimEnd('\0', '\n', ' ');
        }
    }

    /// <summary>The message on one line: the outermost sentence and its causes.</summary>
    internal string Summary => Summarize(Message);

    /// <summary>Wraps the pointers that a call gave back; both may be null.</summary>
    internal static EngineError From(nint error, nint trap = 0) => new(error, trap);

    /// <summary>Whether this is not an error but the guest's exit.</summary>
    internal bool IsExit(out int status)
    {
        status = 0;
        return _error != 0 && Wasmtime.wasmtime_error_exit_status(_error, out status) != 0;
    }

    /// <summary>The failure to report when the guest was running: the reason first, then the backtrace.</summary>
    internal Failure ToTrap(string path)
    {
        string message = Message;
        return new Failure(ExitCode.Trapped, $"{path}: the guest trapped: {Reason(message)}\n{message}");
    }

    /// <summary>Why the guest trapped, out of the engine's message.</summary>
    internal static string Reason(string message)
    {
        int start = message.LastIndexOf(TrapPrefix, StringComparison.Ordinal);
        if (start >= 0)
        {
            start += TrapPrefix.Length;
            int end = message.IndexOf('\n', start);
            return end < 0 ? message[start..] : message[start..end];
        }

        // A host function failed, or the stack is used up: the last line of the causes is the root.
        int line = message.LastIndexOf('\n');
        return message[(line + 1)..].Trim();
    }

    /// <summary>Folds an engine's message of several lines (<c>Caused by:</c> and indented causes) into one.</summary>
    internal static string Summarize(string message)
    {
        var summary = new StringBuilder();
        foreach (ReadOnlySpan<char> line in message.AsSpan().EnumerateLines())
        {
            ReadOnlySpan<char> text = line.Trim();
            if (text.IsEmpty || text.SequenceEqual("Caused by:"))
            {
                continue;
            }

            // Causes are numbered when there are several.
            int afterNumber = text.IndexOf(": ");
            if (afterNumber > 0 && text[..afterNumber].IndexOfAnyExceptInRange('0', '9') < 0)
            {
                text = text[(afterNumber + 2)..];
            }

            if (summary.Length > 0)
            {
                summary.Append(": ");
            }

            summary.Append(text);
        }

        return summary.ToString();
    }
}
