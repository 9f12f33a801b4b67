using Skiff.Containerd.Images;

// skiff-image SOCKET NAMESPACE CONTAINER   prints the Wasm layers of a container's image, a line each: PATH, a tab, TITLE.
//
// A program of its own, which the shim runs only for a container whose root has no program: it brings a gRPC client, and a shim that
// carried one would be larger in every pod.
if (args is not [var socket, var ns, var container])
{
    await Console.Error.WriteLineAsync("usage: skiff-image SOCKET NAMESPACE CONTAINER").ConfigureAwait(false);
    return 2;
}

var (layers, problem) = await WasmLayers.OfContainerAsync(socket, ns, container, CancellationToken.None).ConfigureAwait(false);
if (layers is null)
{
    await Console.Error.WriteLineAsync(problem).ConfigureAwait(false);
    return 1;
}

foreach (var layer in layers)
{
    await Console.Out.WriteLineAsync($"{layer.Path}\t{layer.Title.ReplaceLineEndings(" ")}").ConfigureAwait(false);
}

return 0;
