namespace Skiff.Containerd.Config;

/// <summary>A runtime of containerd's CRI plugin: what stands in the table <c>…containerd.runtimes.HANDLER</c>.</summary>
/// <param name="Handler">The name that a RuntimeClass uses: lower case letters, digits and <c>-</c>, at most 63 (a DNS label).</param>
/// <param name="RuntimeType">The shim: an absolute path, or a name like <c>io.containerd.runc.v2</c>.</param>
public sealed record RuntimeTable(string Handler, string RuntimeType)
{
    /// <summary>Patterns of the pod annotations that containerd hands to the shim.</summary>
    public IReadOnlyList<string> PodAnnotations { get; init; } = [];

    /// <summary>
    /// The options table. To add: what the user sets; what is not set is copied from the node's default runtime, so that both put their
    /// containers under the same cgroup driver. As found: everything that is set there.
    /// </summary>
    public IReadOnlyDictionary<string, OptionValue> Options { get; init; } = new Dictionary<string, OptionValue>();
}
