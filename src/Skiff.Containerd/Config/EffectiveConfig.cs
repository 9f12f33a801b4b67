namespace Skiff.Containerd.Config;

/// <summary>What containerd makes of its files: the output of <c>containerd config dump</c>.</summary>
public sealed class EffectiveConfig
{
    /// <summary>Reads a dump.</summary>
    public static (EffectiveConfig? Config, string? Problem) Parse(string dump) => throw new NotImplementedException();

    /// <summary>The runtime that has no name in a pod: <c>default_runtime_name</c>.</summary>
    public string? DefaultRuntime => throw new NotImplementedException();

    /// <summary>What there is for a handler, or null.</summary>
    public RuntimeTable? Find(string handler) => throw new NotImplementedException();

    /// <summary>Whether the two mean different things; order of keys, spacing and comments do not count.</summary>
    public bool Differs(EffectiveConfig other) => throw new NotImplementedException();
}
