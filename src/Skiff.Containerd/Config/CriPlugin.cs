namespace Skiff.Containerd.Config;

/// <summary>The plugin whose table holds the runtimes; its name depends on the schema (the <c>version</c> at the top of a file).</summary>
internal static class CriPlugin
{
    /// <summary>In schema 1, which a file without <c>version</c> has.</summary>
    public const string Schema1 = "cri";

    /// <summary>In schema 2, of containerd 1.3 and later.</summary>
    public const string Schema2 = "io.containerd.grpc.v1.cri";

    /// <summary>In schema 3 (containerd 2.0) and 4 (2.3).</summary>
    public const string Schema3 = "io.containerd.cri.v1.runtime";

    /// <summary>All of them.</summary>
    public static readonly IReadOnlyList<string> All = [Schema1, Schema2, Schema3];

    /// <summary>The one of a schema.</summary>
    public static string For(long schema) => schema switch { <= 1 => Schema1, 2 => Schema2, _ => Schema3 };

    /// <summary>The key of the table of runtimes.</summary>
    public static string[] Runtimes(string plugin) => ["plugins", plugin, "containerd", "runtimes"];
}
