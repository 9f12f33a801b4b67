using System.Net;

namespace Skiff.Kubernetes;

/// <summary>Why the API server did not do what was asked, as far as a caller can act on it.</summary>
public enum ApiErrorKind
{
    /// <summary>There is no such object, or no such kind (404).</summary>
    NotFound,

    /// <summary>An object of that name is there already (409, reason AlreadyExists).</summary>
    AlreadyExists,

    /// <summary>The object has changed since it was read, or another field manager owns a field (409).</summary>
    Conflict,

    /// <summary>The account lacks a permission; the message names the verb and the resource (403).</summary>
    Forbidden,

    /// <summary>The server does not know the account, or its token could not be read (401).</summary>
    Unauthorized,

    /// <summary>The object or the request is wrong and will be so the next time (400, 405, 413, 415, 422).</summary>
    Invalid,

    /// <summary>The resource version is older than what the server remembers: list again (410).</summary>
    Gone,

    /// <summary>
    /// The resource version is newer than what the server has come to: it lags behind another, or its data are from a backup (504 with the
    /// cause ResourceVersionTooLarge).
    /// </summary>
    NotYet,

    /// <summary>The server is busy; see <see cref="ApiError.RetryAfter"/> (429).</summary>
    TooManyRequests,

    /// <summary>The server had a fault of its own (5xx).</summary>
    Server,

    /// <summary>No answer: no connection, a broken one, or the time limit.</summary>
    Unreachable,

    /// <summary>The answer is too large, or is not what the server is known to send.</summary>
    Malformed,

    /// <summary>There is no usable kubeconfig or service account.</summary>
    Configuration,
}

/// <summary>Why a request failed.</summary>
/// <param name="Kind">What a caller can do about it.</param>
/// <param name="Message">The request, and the server's own words.</param>
public sealed record ApiError(ApiErrorKind Kind, string Message)
{
    /// <summary>How long the server wants to be left alone; null when it did not say.</summary>
    public TimeSpan? RetryAfter { get; init; }

    /// <summary>The error that an HTTP status and the Status object in its body mean.</summary>
    internal static ApiError FromStatus(string request, int code, StatusBody? status, string? text)
    {
        var kind = (code, status?.Reason) switch
        {
            (404, _) => ApiErrorKind.NotFound,
            (409, "AlreadyExists") => ApiErrorKind.AlreadyExists,
            (409, _) => ApiErrorKind.Conflict,
            (403, _) => ApiErrorKind.Forbidden,
            (401, _) => ApiErrorKind.Unauthorized,
            (410, _) => ApiErrorKind.Gone,
            (429, _) => ApiErrorKind.TooManyRequests,
            (504, _) when status?.Details?.Causes?.Any(c => c.Reason == "ResourceVersionTooLarge") == true => ApiErrorKind.NotYet,
            ( >= 500, _) => ApiErrorKind.Server,
            ( >= 400, _) => ApiErrorKind.Invalid,
            _ => ApiErrorKind.Malformed,
        };
        var words = status?.Message ?? status?.Reason ?? (string.IsNullOrWhiteSpace(text) ? ((HttpStatusCode)code).ToString() : text.Trim());
        return new ApiError(kind, $"{request}: {words} ({code})")
        {
            RetryAfter = status?.Details?.RetryAfterSeconds is { } seconds and > 0 ? TimeSpan.FromSeconds(seconds) : null,
        };
    }
}

/// <summary>What a request gave: a value, or an error.</summary>
/// <typeparam name="T">The value.</typeparam>
public readonly struct ApiResult<T>
    where T : class
{
    private ApiResult(T? value, ApiError? error)
    {
        Value = value;
        Error = error;
    }

    /// <summary>The value; null when the request failed.</summary>
    public T? Value { get; }

    /// <summary>The failure; null when there is none.</summary>
    public ApiError? Error { get; }

    /// <summary>A request that went well.</summary>
    public static implicit operator ApiResult<T>(T value) => new(value, null);

    /// <summary>A request that failed.</summary>
    public static implicit operator ApiResult<T>(ApiError error) => new(null, error);
}
