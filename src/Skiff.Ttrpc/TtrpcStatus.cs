namespace Skiff.Ttrpc;

/// <summary>
/// gRPC status codes, which ttrpc shares. The comments name the error that containerd makes of each (containerd/errdefs,
/// pkg/errgrpc/grpc.go).
/// </summary>
public enum TtrpcCode
{
    /// <summary>No error.</summary>
    Ok = 0,

    /// <summary>The caller gave up (Go's context.Canceled).</summary>
    Canceled = 1,

    /// <summary>Anything without a better code (ErrUnknown).</summary>
    Unknown = 2,

    /// <summary>The request is wrong whatever the state (ErrInvalidArgument).</summary>
    InvalidArgument = 3,

    /// <summary>The caller's time was over first (Go's context.DeadlineExceeded).</summary>
    DeadlineExceeded = 4,

    /// <summary>There is no such thing (ErrNotFound).</summary>
    NotFound = 5,

    /// <summary>It is there already (ErrAlreadyExists).</summary>
    AlreadyExists = 6,

    /// <summary>The caller may not do this (ErrPermissionDenied).</summary>
    PermissionDenied = 7,

    /// <summary>Too large, or too many at once (ErrResourceExhausted).</summary>
    ResourceExhausted = 8,

    /// <summary>Not in this state (ErrFailedPrecondition; ErrConflict and ErrNotModified are told from it by the end of the message).</summary>
    FailedPrecondition = 9,

    /// <summary>Something else came in between (ErrAborted).</summary>
    Aborted = 10,

    /// <summary>Past the end of what there is (ErrOutOfRange).</summary>
    OutOfRange = 11,

    /// <summary>There is no such call (ErrNotImplemented).</summary>
    Unimplemented = 12,

    /// <summary>A fault of the program (ErrInternal).</summary>
    Internal = 13,

    /// <summary>Not now; try again (ErrUnavailable).</summary>
    Unavailable = 14,

    /// <summary>Data is lost for good (ErrDataLoss).</summary>
    DataLoss = 15,

    /// <summary>The caller has not said who it is (ErrUnauthenticated).</summary>
    Unauthenticated = 16,
}

/// <summary>Why a call failed.</summary>
/// <param name="Code">The kind of failure.</param>
/// <param name="Message">What was being done, to what, and why it failed.</param>
public sealed record TtrpcError(TtrpcCode Code, string Message);

/// <summary>What a call gave: a message, or an error.</summary>
/// <typeparam name="T">The message.</typeparam>
public readonly struct TtrpcResult<T>
    where T : class
{
    private TtrpcResult(T? value, TtrpcError? error)
    {
        Value = value;
        Error = error;
    }

    /// <summary>The message; null when the call failed.</summary>
    public T? Value { get; }

    /// <summary>The failure; null when there is none.</summary>
    public TtrpcError? Error { get; }

    /// <summary>A call that went well.</summary>
    public static implicit operator TtrpcResult<T>(T value) => new(value, null);

    /// <summary>A call that failed.</summary>
    public static implicit operator TtrpcResult<T>(TtrpcError error) => new(null, error);
}
