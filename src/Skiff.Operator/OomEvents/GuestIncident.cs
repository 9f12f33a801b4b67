using Skiff.Containerd.Containers;

namespace Skiff.Operator.OomEvents;

/// <summary>Something that a WebAssembly guest's runner tells of it, as an Event says it.</summary>
/// <param name="Place">Whom it is told to.</param>
/// <param name="PodUid">The pod, as the kubelet knows it.</param>
/// <param name="Reason">The Event's reason.</param>
/// <param name="Note">What the Event says.</param>
/// <param name="At">When it was heard of.</param>
internal sealed record GuestIncident(KillPlace Place, string PodUid, string Reason, string Note, DateTimeOffset At)
{
    /// <summary>The guest was refused memory.</summary>
    public const string ReasonMemory = "WasmMemoryLimit";

    /// <summary>The guest ended by a trap.</summary>
    public const string ReasonTrap = "WasmTrap";

    /// <summary>What the Event of a report says.</summary>
    public static GuestIncident Of(GuestMemoryRefused refused, KillPlace place, string podUid, DateTimeOffset at) => new(
        place,
        podUid,
        ReasonMemory,
        $"{Name(place, refused.IsExec)} has {KillNote.Size(refused.Used)}, asked for {KillNote.Size(refused.Asked)} more and was refused: the annotation skiff.dev/max-memory allows {KillNote.Size(refused.Limit)}. "
            + "Raise it, or let the guest use less.",
        at);

    /// <inheritdoc cref="Of(GuestMemoryRefused, KillPlace, string, DateTimeOffset)"/>
    public static GuestIncident Of(GuestTrapped trapped, KillPlace place, string podUid, DateTimeOffset at) => new(
        place,
        podUid,
        ReasonTrap,
        $"{(trapped.Requests > 0 ? $"{trapped.Requests} request{(trapped.Requests == 1 ? "" : "s")} to " : "")}{Name(place, trapped.IsExec)} ended by a trap: {trapped.Reason}{(trapped.Code is { } code ? $" (trap code {code})" : "")}. "
            + (trapped.Requests > 0 ? "Each was answered with status 500, and the container goes on. " : "")
            + (trapped.IsExec ? "The backtrace is in its output." : $"The backtrace is in its log: kubectl logs -n {place.Regarding.Namespace} {place.Regarding.Name} -c {place.Container} (with -p once it has been restarted)."),
        at);

    private static string Name(KillPlace place, bool isExec) => $"{(isExec ? "an exec in " : "")}container {place.Container}";
}
