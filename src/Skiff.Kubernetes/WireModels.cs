using System.Text.Json.Serialization;

namespace Skiff.Kubernetes;

/// <summary>metav1.Status.</summary>
internal sealed record StatusBody
{
    public string? Reason { get; init; }

    public string? Message { get; init; }

    public int? Code { get; init; }

    public StatusDetails? Details { get; init; }
}

internal sealed record StatusDetails
{
    public int? RetryAfterSeconds { get; init; }

    public IReadOnlyList<StatusCause>? Causes { get; init; }
}

internal sealed record StatusCause
{
    public string? Reason { get; init; }
}

/// <summary>metav1.ListMeta.</summary>
internal sealed record ListMeta
{
    public string? ResourceVersion { get; init; }

    public string? Continue { get; init; }
}

/// <summary>What a BOOKMARK carries: an object of which only the resource version is filled.</summary>
internal sealed record BookmarkBody
{
    public required ObjectMeta Metadata { get; init; }
}

/// <summary>metav1.DeleteOptions.</summary>
internal sealed record DeleteBody
{
    public DeletePreconditions? Preconditions { get; init; }
}

/// <summary>What must still hold for a delete to happen; otherwise the server answers <see cref="ApiErrorKind.Conflict"/>.</summary>
public sealed record DeletePreconditions
{
    /// <summary>The object must be this one, not a later one of the same name.</summary>
    public string? Uid { get; init; }

    /// <summary>The object must not have changed since.</summary>
    public string? ResourceVersion { get; init; }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(StatusBody))]
[JsonSerializable(typeof(ListMeta))]
[JsonSerializable(typeof(BookmarkBody))]
[JsonSerializable(typeof(DeleteBody))]
[JsonSerializable(typeof(Leadership.Lease))]
[JsonSerializable(typeof(Events.EventBody))]
internal sealed partial class WireJson : JsonSerializerContext;
