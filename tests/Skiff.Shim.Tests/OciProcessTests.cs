using System.Text;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Skiff.Shim.OciRuntime;

namespace Skiff.Shim.Tests;

public sealed class OciProcessTests
{
    private const string Type = "types.containerd.io/opencontainers/runtime-spec/1/Process";

    [Fact]
    public void what_it_does_not_know_stays_and_the_requests_terminal_counts()
    {
        var (process, problem) = OciProcess.Parse(Packed(Type, """{"terminal":false,"args":["/a"],"later":{"x":1},"rlimits":[]}"""), terminal: true);
        Assert.Null(problem);
        process!.SetArguments(["/b", "c"]);
        process.AddEnvironment("A=b");
        Assert.Equal("""{"terminal":true,"args":["/b","c"],"later":{"x":1},"rlimits":[],"env":["A=b"]}""", Encoding.UTF8.GetString(process.ToJson().Span));
    }

    [Theory]
    [InlineData(Type, "{", "is not valid JSON")]
    [InlineData(Type, "[]", "is not a JSON object")]
    [InlineData(Type, "{\"args\":[]}", "process.args is empty")]
    [InlineData(Type, "{\"args\":[\"/a\"],\"env\":[1]}", "process.env[0] is not a string")]
    [InlineData(Type, "{\"args\":[\"/a\"],\"args\":[\"/b\"]}", "is not valid JSON")]
    [InlineData("x.Y", "{}", "a process of type x.Y is unknown here")]
    [InlineData("", "", "the request has no process")]
    public void what_is_wrong_with_it_is_named(string type, string json, string says) =>
        Assert.Contains(says, OciProcess.Parse(Packed(type, json), terminal: false).Problem, StringComparison.Ordinal);

    private static Any Packed(string type, string json) => new() { TypeUrl = type, Value = ByteString.CopyFromUtf8(json) };
}
