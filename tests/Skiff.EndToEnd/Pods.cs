using System.Text.Json.Nodes;
using Skiff.Testing;

namespace Skiff.EndToEnd;

/// <summary>Pods of the image that holds every guest.</summary>
internal static class Pods
{
    /// <summary>The label of pods that may be deleted when a test begins.</summary>
    public const string Label = "end-to-end";

    /// <summary>Its value.</summary>
    public const string Passing = "passing";

    /// <summary>A native program that says "ready" and stays; without our class.</summary>
    public static JsonObject Native(string name, string? node = null) => Pod(name, null, node, ("native", "/sleep.native"));

    /// <summary>A WebAssembly program that says "ready" and stays.</summary>
    public static JsonObject Wasm(string name, string? node = null) => Pod(name, "skiff", node, ("wasm", "/sleep.wasm"));

    /// <summary>A WebAssembly program with a native one beside it.</summary>
    public static JsonObject Mixed(string name) => Pod(name, "skiff", null, ("wasm", "/sleep.wasm"), ("native", "/sleep.native"));

    private static JsonObject Pod(string name, string? runtimeClass, string? node, params (string Name, string Program)[] containers)
    {
        var spec = new JsonObject
        {
            ["terminationGracePeriodSeconds"] = 5,
            ["automountServiceAccountToken"] = false,
            ["containers"] = new JsonArray([.. containers.Select(c => new JsonObject
            {
                ["name"] = c.Name,
                ["image"] = PrivateContainerd.Image,
                ["command"] = new JsonArray(c.Program),
            })]),
        };
        if (runtimeClass is not null)
        {
            spec["runtimeClassName"] = runtimeClass;
        }

        if (node is not null)
        {
            spec["nodeName"] = node;
        }

        return new JsonObject { ["apiVersion"] = "v1", ["kind"] = "Pod", ["metadata"] = new JsonObject { ["name"] = name, ["labels"] = new JsonObject { [Label] = Passing } }, ["spec"] = spec };
    }
}
