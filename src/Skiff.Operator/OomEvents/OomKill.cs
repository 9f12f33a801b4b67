namespace Skiff.Operator.OomEvents;

/// <summary>A container of which the kernel killed something for want of memory.</summary>
internal sealed record OomKill
{
    /// <summary>The container died of it.</summary>
    public const string ReasonDied = "OOMKilled";

    /// <summary>A process of it was killed, and it lives on.</summary>
    public const string ReasonLives = "ChildOOMKilled";

    /// <summary>The pod, as the kubelet knows it.</summary>
    public required string PodUid { get; init; }

    /// <summary>Null when nobody knows which of the pod's it was.</summary>
    public string? ContainerId { get; init; }

    /// <summary>Whom it is told to.</summary>
    public required KillPlace Place { get; init; }

    /// <summary>How many kills. A container that is killed whole is one, whatever the number of its processes.</summary>
    public required int Count { get; init; }

    /// <summary>How many processes were killed; 0 when nobody counted.</summary>
    public int Processes { get; init; }

    /// <summary>Whose limit it was for; null when that is not known.</summary>
    public KillLevel? Level { get; init; }

    /// <summary>Whether the container ended with it.</summary>
    public required bool Died { get; init; }

    /// <summary>The container's cgroup, as it was.</summary>
    public MemoryReading Container { get; init; } = new();

    /// <summary>The pod's.</summary>
    public MemoryReading Pod { get; init; } = new();

    /// <summary>The process that the kernel chose, where its log can be read.</summary>
    public Victim? Victim { get; init; }

    /// <summary>When it was seen.</summary>
    public required DateTimeOffset At { get; init; }

    /// <summary>The Event's reason.</summary>
    public string Reason => Died ? ReasonDied : ReasonLives;
}
