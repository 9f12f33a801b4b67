using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Skiff.Containerd.Bootstrap;
using Skiff.Shim.OciRuntime;

namespace Skiff.Shim.Bootstrap;

/// <summary>
/// What containerd wrote to the stdin of <c>start</c>. Up to 2.2 it is nothing, or the runtime's options as a protobuf Any; from 2.3 on it
/// is always BootstrapParams. The bytes do not say which: both begin with a string. BootstrapParams name the instance and the namespace
/// of the command line, and options never do.
/// </summary>
internal sealed record BootstrapInput
{
    /// <summary>containerd itself reads no more than this from a shim's stdin (pkg/shim/shim.go).</summary>
    public const int Limit = 10 << 20;

    /// <summary>The parameters of containerd 2.3 and later; null for the older form.</summary>
    public BootstrapParams? Params { get; private init; }

    /// <summary>The runtime's options; null where containerd sent none.</summary>
    public Any? Options { get; private init; }

    /// <summary>Why the input is neither form.</summary>
    public string? Problem { get; private init; }

    public static BootstrapInput Parse(ReadOnlySpan<byte> input, string id, string ns)
    {
        if (input.Length > Limit)
        {
            return new BootstrapInput { Problem = $"stdin of start is larger than {Limit >> 20} MiB" };
        }

        if (input.IsEmpty)
        {
            return new BootstrapInput();
        }

        BootstrapParams? parameters = null;
        try
        {
            parameters = BootstrapParams.Parser.ParseFrom(input);
        }
        catch (InvalidProtocolBufferException)
        {
            // The older form, then, or neither.
        }

        if (parameters is not null && parameters.InstanceId == id && parameters.Namespace == ns)
        {
            // Extensions of other types are for other shims, or for later ones: they may be passed over (bootstrap.proto). Create may not
            // pass over options that it does not know.
            return new BootstrapInput
            {
                Params = parameters,
                Options = parameters.Extensions.Select(e => e.Value).FirstOrDefault(v => v is not null && RuntimeSettings.IsKnown(v)),
            };
        }

        if (parameters is { ContainerdVersion.Length: > 0 } or { ContainerdTtrpcAddress.Length: > 0 } or { ContainerdGrpcAddress.Length: > 0 })
        {
            return new BootstrapInput
            {
                Problem = $"stdin of start is for instance \"{parameters.InstanceId}\" in namespace \"{parameters.Namespace}\", "
                    + $"but the command line says -id \"{id}\" -namespace \"{ns}\"",
            };
        }

        try
        {
            var options = Any.Parser.ParseFrom(input);
            if (LooksLikeTypeUrl(options.TypeUrl))
            {
                return new BootstrapInput { Options = options };
            }
        }
        catch (InvalidProtocolBufferException)
        {
            // Neither.
        }

        return new BootstrapInput
        {
            Problem = $"stdin of start ({input.Length} bytes) is neither the bootstrap parameters of containerd 2.3 and later nor "
                + "the runtime options (protobuf Any) of earlier versions; is it containerd that started this program?",
        };
    }

    private static bool LooksLikeTypeUrl(string url)
    {
        foreach (var c in url)
        {
            if (!char.IsAsciiLetterOrDigit(c) && c is not ('.' or '/' or '_' or '-'))
            {
                return false;
            }
        }

        return url.Contains('.');
    }
}
