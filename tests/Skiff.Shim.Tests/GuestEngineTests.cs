using Skiff.Shim.Wasm;

namespace Skiff.Shim.Tests;

public sealed class GuestEngineTests
{
    [Theory]
    [InlineData("wasi:cli/run@0.2.0", "Library")]
    [InlineData("wasi:cli/run@0.2.64", "Library")]
    [InlineData("wasi:cli/run@0.2", "Library")]
    [InlineData("wasi:cli/run@0.3.0", "Command")]
    [InlineData("wasi:http/incoming-handler@0.2.10", "HttpServer")]
    [InlineData("wasi:http/handler@0.3.0", "HttpServer")]
    public void an_entry_has_its_engine(string export, string engine) => Assert.Equal((engine, null), Choose([], [export, "other"]));

    [Fact]
    public void a_command_of_0_2_that_is_linked_with_0_3_runs_where_0_3_is() =>
        Assert.Equal(("Command", null), Choose(["wasi:io/streams@0.2.0", "wasi:clocks/types@0.3.0"], ["wasi:cli/run@0.2.0"]));

    [Theory]
    [InlineData("wasi:sockets/tcp-create-socket@0.2.0", "Command")]
    [InlineData("wasi:sockets/udp-create-socket@0.2.6", "Command")]
    [InlineData("wasi:sockets/tcp@0.2.0", "Library")]
    [InlineData("wasi:sockets/ip-name-lookup@0.2.0", "Library")]
    public void a_command_that_opens_sockets_runs_where_they_can_be_had(string import, string engine) =>
        Assert.Equal((engine, null), Choose([import], ["wasi:cli/run@0.2.0"]));

    [Fact]
    public void what_is_both_a_command_and_a_server_serves_where_an_annotation_says_so()
    {
        string[] both = ["wasi:http/incoming-handler@0.2.0", "wasi:cli/run@0.2.0"];
        Assert.Equal(("Library", null), Choose([], both));
        Assert.Equal(("HttpServer", null), Choose([], both, prefersHttp: true));
    }

    [Theory]
    [InlineData("wasi:cli/run@0.4.0", "is for WASI 0.4.0 (it exports wasi:cli/run@0.4.0)")]
    [InlineData("wasi:cli/run@0.2.0-rc-2023-11-10", "is for WASI 0.2.0-rc-2023-11-10")]
    [InlineData("wasi:cli/run@0.20.0", "is for WASI 0.20.0")]
    [InlineData("fermyon:spin/inbound-http", "has no entry: it exports fermyon:spin/inbound-http; ")]
    public void what_neither_can_run_is_refused_by_its_name(string export, string says) =>
        Assert.Contains(says, Choose([], [export]).Problem, StringComparison.Ordinal);

    [Fact]
    public void one_without_exports_is_said_to_have_none() => Assert.Contains("it exports nothing", Choose([], []).Problem, StringComparison.Ordinal);

    private static (string Engine, string? Problem) Choose(string[] imports, string[] exports, bool prefersHttp = false)
    {
        var (engine, problem) = GuestEngines.Choose(new ComponentWorld(imports, exports), prefersHttp);
        return (engine.ToString(), problem);
    }
}
