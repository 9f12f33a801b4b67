namespace Skiff.Containerd.Config;

/// <summary>Puts a runtime into containerd's configuration, and takes it out again to the byte. Plans only; it writes nothing.</summary>
public static class RuntimeRegistration
{
    /// <summary>Plans the registration; an empty plan when it is there already.</summary>
    /// <param name="files">What is on disk.</param>
    /// <param name="table">What is wanted.</param>
    /// <param name="containerdVersion">The version that will read it (<see cref="ContainerdRelease.Parse"/>).</param>
    /// <param name="effective">What this containerd makes of the files as they are.</param>
    public static ConfigPlan Add(ConfigFiles files, RuntimeTable table, Version containerdVersion, EffectiveConfig effective) =>
        throw new NotImplementedException();

    /// <summary>Plans the removal; an empty plan when nothing of ours is there.</summary>
    /// <param name="files">What is on disk.</param>
    /// <param name="handler">The runtime's name.</param>
    /// <param name="runtimeType">The shim that was registered. A table that lost its markers is taken as ours only if it names this.</param>
    public static ConfigPlan Remove(ConfigFiles files, string handler, string runtimeType) => throw new NotImplementedException();
}
