using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;

namespace Skiff.Kubernetes.Events;

/// <summary>Something that happened to an object, for the people who look at it.</summary>
public sealed record KubeEvent
{
    /// <summary>The object it happened to; with uid and, for the list in <c>kubectl describe</c>, exactly its kind and name.</summary>
    public required ObjectReference Regarding { get; init; }

    /// <summary>A second object that plays a part.</summary>
    public ObjectReference? Related { get; init; }

    /// <summary>Why, one word in CamelCase, at most 128 characters.</summary>
    public required string Reason { get; init; }

    /// <summary>What was done or failed, one word in CamelCase, at most 128 characters.</summary>
    public required string Action { get; init; }

    /// <summary>For people; cut at 1,024 bytes.</summary>
    public required string Note { get; init; }

    /// <summary>Whether somebody should look at it.</summary>
    public bool Warning { get; init; }
}

/// <summary>
/// The two writes that an Event (events.k8s.io/v1) knows: it is created, and the count of its series is raised; the server allows no other
/// change. When to write, and how often to try, is the caller's.
/// </summary>
/// <param name="client">To where.</param>
/// <param name="controller">What reports, for example runtime.skiff.dev/skiff-operator.</param>
/// <param name="instance">Which one of those, for example a pod's name.</param>
public sealed class EventWriter(KubeClient client, string controller, string instance)
{
    private const int NoteLimit = 1024;
    private const int NameLimit = 253;

    /// <summary>A place for a new Event: unique, in the object's namespace, and named as other reporters do, by the object and the time.</summary>
    public static ObjectKey KeyFor(ObjectReference regarding, DateTimeOffset at)
    {
        ArgumentNullException.ThrowIfNull(regarding);
        var name = regarding.Name ?? "unknown";
        var suffix = string.Create(CultureInfo.InvariantCulture, $".{at.UtcTicks:x}{Random.Shared.Next(0x10000):x4}");
        return new ObjectKey(
            regarding.Namespace ?? "default", // where the server wants Events of what is cluster-scoped
            (name.Length + suffix.Length <= NameLimit ? name : name[..(NameLimit - suffix.Length)].TrimEnd('.', '-')) + suffix);
    }

    /// <summary>Creates an Event.</summary>
    /// <param name="key">From <see cref="KeyFor"/>. The same again is <see cref="ApiErrorKind.AlreadyExists"/>, so a try whose outcome is not known can be repeated.</param>
    /// <param name="happened">What happened.</param>
    /// <param name="first">When.</param>
    /// <param name="count">How often it has happened since.</param>
    /// <param name="last">When it did last.</param>
    /// <param name="cancellation">Ends the request.</param>
    /// <returns>The error; null when it is written.</returns>
    public async Task<ApiError?> CreateAsync(ObjectKey key, KubeEvent happened, DateTimeOffset first, int count, DateTimeOffset last, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(happened);
        var body = new EventBody
        {
            Metadata = new ObjectMeta { Namespace = key.Namespace, Name = key.Name },
            EventTime = first,
            Series = count > 1 ? new EventSeries { Count = count, LastObservedTime = last } : null,
            ReportingController = controller,
            ReportingInstance = instance,
            Action = happened.Action,
            Reason = happened.Reason,
            Regarding = happened.Regarding,
            Related = happened.Related,
            Note = Cut(happened.Note),
            Type = happened.Warning ? "Warning" : "Normal",
        };
        return (await client.CreateAsync(EventBody.Resource, body, cancellation).ConfigureAwait(false)).Error;
    }

    /// <summary>Writes how often it has happened in all; from 2.</summary>
    /// <param name="key">The Event.</param>
    /// <param name="count">How often.</param>
    /// <param name="last">When it happened last.</param>
    /// <param name="cancellation">Ends the request.</param>
    /// <returns>The error; null when it is written.</returns>
    public async Task<ApiError?> CountAsync(ObjectKey key, int count, DateTimeOffset last, CancellationToken cancellation)
    {
        var patch = new JsonObject
        {
            ["series"] = new JsonObject
            {
                ["count"] = count,
                ["lastObservedTime"] = last.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss.ffffff'Z'", CultureInfo.InvariantCulture),
            },
        };
        return (await client.MergePatchAsync(EventBody.Resource, key, patch, cancellation).ConfigureAwait(false)).Error;
    }

    private static string Cut(string note)
    {
        var bytes = Encoding.UTF8.GetBytes(note);
        if (bytes.Length <= NoteLimit)
        {
            return note;
        }

        var end = NoteLimit - "…"u8.Length;
        while ((bytes[end] & 0xC0) == 0x80)
        {
            end--; // not inside a character
        }

        return Encoding.UTF8.GetString(bytes, 0, end) + "…";
    }
}
