using System.Text.Json.Nodes;
using Skiff.Shim.OciRuntime;
using Skiff.Shim.Wasm;

namespace Skiff.Shim.Tests;

public sealed class RunnerCallTests
{
    private static readonly ComponentWorld _command = new(["wasi:io/streams@0.2.0"], ["wasi:cli/run@0.2.0"]);
    private static readonly ComponentWorld _caller = new(["wasi:http/outgoing-handler@0.2.0"], ["wasi:cli/run@0.2.0"]);
    private static readonly ComponentWorld _server = new(["wasi:http/types@0.2.0"], ["wasi:http/incoming-handler@0.2.0"]);

    [Fact]
    public void a_command_is_run_with_its_arguments() =>
        Assert.Equal("/.skiff/skiff-run run --module /app.wasm --artifact /.skiff/artifact --reports 3 -- app a b", Call(_command, new GuestSettings(), null));

    [Fact]
    public void one_that_calls_out_gets_http_and_one_without_network_has_none() =>
        Assert.Equal(
            "/.skiff/skiff-run run --module /app.wasm --artifact /.skiff/artifact --network none --http --reports 3 -- app a b",
            Call(_caller, new GuestSettings { Network = false }, null));

    [Fact]
    public void a_servers_settings_are_handed_on_and_no_ones_else()
    {
        var settings = new GuestSettings { HttpListen = ":80", HttpReuse = 3 };
        Assert.Equal("/.skiff/skiff-run serve --module /app.wasm --artifact /.skiff/artifact --http --listen :80 --reuse 3 --reports 3 -- app a b", Call(_server, settings, null));
        Assert.Equal("/.skiff/skiff-run run --module /app.wasm --artifact /.skiff/artifact --reports 3 -- app a b", Call(_command, settings, null));
    }

    [Theory]
    [InlineData(16L << 20, null, "--requests 8 --connections 128")]
    [InlineData(256L << 20, null, "--requests 64 --connections 256")]
    [InlineData(64L << 30, null, "--requests 1000 --connections 10000")]
    [InlineData(256L << 20, 64UL << 20, "--requests 4 --connections 256")]
    [InlineData(16L << 20, 64UL << 20, "--requests 1 --connections 128")]
    public void how_much_a_server_does_at_once_follows_from_its_memory(long limit, ulong? ofGuest, string says) =>
        Assert.Contains(says, Call(_server, new GuestSettings { MaxMemory = ofGuest }, limit), StringComparison.Ordinal);

    private static string Call(ComponentWorld world, GuestSettings settings, long? memoryLimit)
    {
        var process = OciProcess.Read(JsonNode.Parse("""{"args":["app","a","b"],"cwd":"/","env":[]}""")!.AsObject());
        RunnerCall.For(world, settings).Call.ApplyTo(process, "/app.wasm", "/.skiff/artifact", settings, memoryLimit);
        return string.Join(' ', process.Arguments);
    }
}
