namespace Skiff.Operator.Api;

/// <summary>Reasons of conditions that one part of the operator writes and another reads.</summary>
internal static class Reasons
{
    /// <summary>An agent could not take the Shim off its node, and tries again.</summary>
    public const string RemovalFailed = "RemovalFailed";
}
