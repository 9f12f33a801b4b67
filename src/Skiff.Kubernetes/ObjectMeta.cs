namespace Skiff.Kubernetes;

/// <summary>
/// An object of the API server. Implementations hold only the fields that are used; the server keeps the others on a patch, and loses them
/// on <see cref="KubeClient.UpdateAsync"/>. apiVersion and kind are not part of it: <see cref="ResourceKind{T}"/> adds them when it writes.
/// </summary>
public interface IResource
{
    /// <summary>The object's metadata.</summary>
    public ObjectMeta Metadata { get; }
}

/// <summary>metav1.ObjectMeta without managedFields, which nobody here reads and which are often larger than the object.</summary>
public sealed record ObjectMeta
{
    /// <summary>The name, unique in its namespace and kind.</summary>
    public string? Name { get; init; }

    /// <summary>Null for what is cluster-scoped.</summary>
    public string? Namespace { get; init; }

    /// <summary>Tells an object from a later one of the same name.</summary>
    public string? Uid { get; init; }

    /// <summary>Opaque; changes with every write.</summary>
    public string? ResourceVersion { get; init; }

    /// <summary>Changes when the spec does.</summary>
    public long? Generation { get; init; }

    /// <summary>When it was created, to the second.</summary>
    public DateTimeOffset? CreationTimestamp { get; init; }

    /// <summary>When its deletion was asked for; it stays until its finalizers are gone.</summary>
    public DateTimeOffset? DeletionTimestamp { get; init; }

    /// <summary>Labels.</summary>
    public IReadOnlyDictionary<string, string>? Labels { get; init; }

    /// <summary>Annotations.</summary>
    public IReadOnlyDictionary<string, string>? Annotations { get; init; }

    /// <summary>The objects with which this one goes.</summary>
    public IReadOnlyList<OwnerReference>? OwnerReferences { get; init; }

    /// <summary>Who must agree before a deleted object goes.</summary>
    public IReadOnlyList<string>? Finalizers { get; init; }
}

/// <summary>metav1.OwnerReference.</summary>
public sealed record OwnerReference
{
    /// <summary>Group and version of the owner.</summary>
    public required string ApiVersion { get; init; }

    /// <summary>Kind of the owner.</summary>
    public required string Kind { get; init; }

    /// <summary>Name of the owner.</summary>
    public required string Name { get; init; }

    /// <summary>Uid of the owner.</summary>
    public required string Uid { get; init; }

    /// <summary>Whether the owner is the one that manages the object; at most one is.</summary>
    public bool? Controller { get; init; }

    /// <summary>Whether the owner may only go after the object, under foreground deletion.</summary>
    public bool? BlockOwnerDeletion { get; init; }
}

/// <summary>Where an object is.</summary>
/// <param name="Namespace">Null for what is cluster-scoped.</param>
/// <param name="Name">Its name.</param>
public readonly record struct ObjectKey(string? Namespace, string Name)
{
    /// <summary>Where an object is.</summary>
    public static ObjectKey Of(IResource resource) =>
        new(resource.Metadata.Namespace, resource.Metadata.Name ?? throw new ArgumentException("the object has no name", nameof(resource)));

    /// <summary>A key of a cluster-scoped object.</summary>
    public static ObjectKey Cluster(string name) => new(null, name);

    /// <inheritdoc/>
    public override string ToString() => Namespace is null ? Name : $"{Namespace}/{Name}";
}

/// <summary>core/v1.ObjectReference: an object, or a part of it, that an Event is about.</summary>
public sealed record ObjectReference
{
    /// <summary>Group and version.</summary>
    public string? ApiVersion { get; init; }

    /// <summary>Kind.</summary>
    public string? Kind { get; init; }

    /// <summary>Null for what is cluster-scoped.</summary>
    public string? Namespace { get; init; }

    /// <summary>Name.</summary>
    public string? Name { get; init; }

    /// <summary>Uid.</summary>
    public string? Uid { get; init; }

    /// <summary>A part, for example <c>spec.containers{name}</c>.</summary>
    public string? FieldPath { get; init; }
}
