using System.Globalization;
using System.Text;

namespace Skiff.Operator.OomEvents;

/// <summary>What an Event says of a kill: what happened, how often, and what to do.</summary>
internal static class KillNote
{
    /// <summary>The note of an Event on the pod.</summary>
    /// <param name="kill">The kill.</param>
    /// <param name="kills">How many of this container there were lately, with it.</param>
    /// <param name="since">How long ago the first of them was.</param>
    public static string Of(OomKill kill, int kills, TimeSpan since)
    {
        var name = kill.Place.Container is { } container ? $"container {container}" : "a container";
        var text = new StringBuilder();
        _ = text.Append(kill.Level switch
        {
            KillLevel.Container => $"{name} used all of its memory limit{Of(kill.Container.Limit)}{Peak(kill.Container, kill.Container.Limit)}",
            KillLevel.Pod when IsFull(kill) => $"{name} used {Size(kill.Container.Peak!.Value)} of its memory limit{Of(kill.Container.Limit)}, and with that the pod all of its own{OfThePod(kill)}",
            KillLevel.Pod => $"the pod used all of its memory limit{OfThePod(kill)}; {name} {Used(kill.Container)}",
            KillLevel.Node => $"the node ran out of memory; {name} {Used(kill.Container)}",
            _ => $"{name}{(kill.Container.Limit is { } limit ? $", which has a limit of {Size(limit)}," : "")} was killed for want of memory",
        });
        _ = text.Append(": ").Append(Killed(kill));
        if (kills > 1)
        {
            _ = text.Append(CultureInfo.InvariantCulture, $"; kill {kills} in {Time(since)}");
        }

        return text.Append(". ").Append(Advice(kill)).ToString();
    }

    /// <summary>The note of an Event on what manages the pod.</summary>
    public static string OnWorkload(string pod, string note) => $"pod {pod}: {note}";

    /// <summary>A number of bytes as in a manifest: 64Mi; rounded, and never to more than three digits before the unit.</summary>
    internal static string Size(ulong bytes)
    {
        string[] units = ["", "Ki", "Mi", "Gi", "Ti"];
        double value = bytes;
        var unit = 0;
        while (unit < units.Length - 1 && value >= (unit == 0 ? 1024 : 1000))
        {
            value /= 1024;
            unit++;
        }

        var digits = unit == 0 || value >= 100 || Math.Abs(value - Math.Round(value)) < 0.05 ? 0 : 1;
        return string.Create(CultureInfo.InvariantCulture, $"{Math.Round(value, digits)}{units[unit]}");
    }

    /// <summary>A time, to the unit that matters.</summary>
    internal static string Time(TimeSpan time) => time switch
    {
        { TotalSeconds: < 90 } => string.Create(CultureInfo.InvariantCulture, $"{Math.Max(1, Math.Round(time.TotalSeconds))} s"),
        { TotalMinutes: < 90 } => string.Create(CultureInfo.InvariantCulture, $"{Math.Round(time.TotalMinutes)} min"),
        _ => string.Create(CultureInfo.InvariantCulture, $"{Math.Round(time.TotalHours)} h"),
    };

    /// <summary>Whether the container was at its own limit as well: the pod's is often hit a little earlier, because what else is in the pod counts there.</summary>
    private static bool IsFull(OomKill kill) => kill.Container is { Peak: { } peak, Limit: { } limit } && peak >= limit / 10 * 9;

    private static string Of(ulong? limit) => limit is { } bytes ? $" of {Size(bytes)}" : "";

    /// <summary>The pod's limit, and how it comes of what somebody wrote: its owner does not know the overhead of the RuntimeClass.</summary>
    private static string OfThePod(OomKill kill) => Of(kill.Pod.Limit) + (kill.Place is { Overhead: { } overhead, PodLimit: { } all } && kill.Pod.Limit == all
        ? $" ({Size(all - overhead)} and the RuntimeClass's overhead of {Size(overhead)})" : "");

    private static string Peak(MemoryReading reading, ulong? beside) => reading.Peak is { } peak && (beside is null || Size(peak) != Size(beside.Value)) ? $" (peak {Size(peak)})" : "";

    private static string Used(MemoryReading container) => (container.Peak, container.Limit) switch
    {
        ({ } peak, { } limit) => $"had used {Size(peak)} of its own {Size(limit)} at most",
        ({ } peak, null) => $"had used {Size(peak)} at most and has no limit of its own",
        (null, { } limit) => $"has a limit of {Size(limit)}",
        _ => "was the kernel's choice",
    };

    private static string Killed(OomKill kill)
    {
        var victim = kill.Victim is not { } v ? "" : $" {v.Name} (pid {v.Pid}{(v.Bytes is { } bytes ? $", {Size(bytes)}" : "")})";
        return (kill.Container.DiesWhole ?? false, kill.Died) switch
        {
            (true, _) when kill.Processes > 1 || kill.Victim is null => $"the kernel killed the container whole{(victim.Length > 0 ? $", for its process{victim}" : "")}",
            (_, true) when kill.Processes > 1 => $"the kernel killed {kill.Processes} processes{(victim.Length > 0 ? $", the last{victim}" : "")}, and the container died",
            (_, true) => victim.Length > 0 ? $"the kernel killed its process{victim}, and the container died" : "the kernel killed it",
            _ when kill.Processes > 1 => $"the kernel killed {kill.Processes} of its processes{(victim.Length > 0 ? $", the last{victim}" : "")}; the container lives on",
            _ => $"the kernel killed one of its processes{(victim.Length > 0 ? "," + victim : "")}; the container lives on",
        };
    }

    private static string Advice(OomKill kill)
    {
        var name = kill.Place.Container is { } container ? $"container {container}" : "the container";
        return kill.Level switch
        {
            KillLevel.Pod when kill.Place.HasThePodsLimit => "Raise spec.resources.limits.memory of the pod, or let its containers use less.",
            KillLevel.Pod when !IsFull(kill) => "The pod's limit is the sum of its containers' (or spec.resources): raise resources.limits.memory where it is needed, or let the containers use less.",
            KillLevel.Node when kill.Container.Limit is null => $"Set resources.limits.memory of {name}, and requests that are true, so that the scheduler does not put more on the node than fits.",
            KillLevel.Node => "Raise the memory requests of the node's pods to what they use, so that the scheduler does not put more on the node than fits.",
            _ => $"Raise resources.limits.memory of {name}, or let it use less.",
        };
    }
}
