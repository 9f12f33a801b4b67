namespace Skiff.Containerd;

/// <summary>containerd's version as it says it itself.</summary>
public static class ContainerdRelease
{
    /// <summary>Reads <c>1.6.20~ds1</c>, <c>v2.1.9</c>, or the line of <c>containerd --version</c>.</summary>
    /// <returns>Null when there is no version in it.</returns>
    public static Version? Parse(string text) => throw new NotImplementedException();
}
