using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Skiff.Containerd.Types;

namespace Skiff.Shim.Bootstrap;

/// <summary><c>-info</c>: what this runtime is, for containerd 2 (api/types/introspection.proto). stdin holds its options, or nothing.</summary>
internal static class InfoCommand
{
    public static async Task<(byte[]? Answer, string? Problem)> RunAsync(Stream stdin, CancellationToken cancellation)
    {
        using var input = new MemoryStream();
        await stdin.CopyToAsync(input, cancellation).ConfigureAwait(false);
        var info = new RuntimeInfo
        {
            Name = "io.containerd.skiff.v1",
            Version = new RuntimeVersion { Version = SkiffVersion.Text },
            Annotations = { ["runtime.skiff.dev/wasm"] = "wasi-p1,wasi-cli" },
        };
        try
        {
            if (input.Length > 0)
            {
                info.Options = Any.Parser.ParseFrom(input.GetBuffer().AsSpan(0, (int)input.Length));
            }
        }
        catch (InvalidProtocolBufferException e)
        {
            return (null, $"stdin of -info holds no runtime options (protobuf Any): {e.Message}");
        }

        return (info.ToByteArray(), null);
    }
}
