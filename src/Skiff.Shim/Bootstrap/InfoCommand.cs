using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Skiff.Containerd.Types;
using Skiff.Linux;
using Skiff.Linux.Processes;
using Skiff.Shim.OciRuntime;

namespace Skiff.Shim.Bootstrap;

/// <summary>
/// <c>-info</c>: what this runtime is, for containerd 2 (api/types/introspection.proto). stdin holds its options, or nothing. The features
/// are those of the OCI runtime that the options name: from them containerd learns whether recursive read-only mounts, user namespaces
/// and id-mapped mounts work, and tells the kubelet.
/// </summary>
internal static class InfoCommand
{
    // The name under which containerd registers them (core/runtime/typeurl.go); the value is the JSON of the specification's features.md.
    private const string FeaturesType = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

    private static readonly TimeSpan _limit = TimeSpan.FromSeconds(5);

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

        var (settings, problem) = RuntimeSettings.Parse(info.Options);
        if (settings is null)
        {
            return (null, problem);
        }

        info.Features = await FeaturesAsync(settings.BinaryName, cancellation).ConfigureAwait(false);
        return (info.ToByteArray(), null);
    }

    /// <returns>Null when the OCI runtime cannot say: the command is younger than some of them.</returns>
    private static async Task<Any?> FeaturesAsync(string runtime, CancellationToken cancellation)
    {
        if (ProgramPath.Find(runtime) is not { } program)
        {
            return null;
        }

        try
        {
            var request = new SpawnRequest { Path = program, Arguments = [program, "features"], NewProcessGroup = true };
            var result = await Command.RunAsync(request, _limit, cancellation: cancellation).ConfigureAwait(false);
            return result.Exit.Success && OciJson.Parse(result.Output).Document is not null
                ? new Any { TypeUrl = FeaturesType, Value = ByteString.CopyFrom(result.Output) }
                : null;
        }
        catch (LinuxException)
        {
            return null;
        }
    }
}
