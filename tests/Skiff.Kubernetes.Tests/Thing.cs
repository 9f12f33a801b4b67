using System.Text.Json.Serialization;

namespace Skiff.Kubernetes.Tests;

/// <summary>A custom resource of these tests.</summary>
internal sealed record Thing : IResource
{
    public static readonly ResourceKind<Thing> Resource = new("skiff.test", "v1", "things", "Thing", ThingJson.Default.Thing);

    public required ObjectMeta Metadata { get; init; }

    public ThingSpec? Spec { get; init; }

    public ThingStatus? Status { get; init; }

    public static Thing Named(string name, int size = 0) => new() { Metadata = new ObjectMeta { Name = name }, Spec = new ThingSpec { Size = size } };
}

internal sealed record ThingSpec
{
    public int Size { get; init; }

    public string? Colour { get; init; }
}

internal sealed record ThingStatus
{
    public string? Phase { get; init; }

    public IReadOnlyList<Condition>? Conditions { get; init; }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(Thing))]
internal sealed partial class ThingJson : JsonSerializerContext;

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(Thing))]
internal sealed partial class ThingJsonWithNulls : JsonSerializerContext;
