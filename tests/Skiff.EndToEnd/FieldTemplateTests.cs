using System.Text.Json.Nodes;

namespace Skiff.EndToEnd;

/// <summary>The tests' own reading of fields is kubectl's.</summary>
[Trait(Cluster.On, "1.6")] // needs none, and is quick
public sealed class FieldTemplateTests
{
    private const string Pod = """
        {"status":{"phase":"Running","containerStatuses":[
          {"name":"a","ready":true,"restartCount":0,"state":{"terminated":{"exitCode":137,"reason":"OOMKilled"}}},
          {"name":"b","ready":false,"restartCount":2,"state":{"terminated":{"exitCode":137}}},
          {"name":"c","ready":true,"restartCount":1,"state":{"running":{}}}]}}
        """;

    [Theory]
    [InlineData("{.status.phase}", "Running")]
    [InlineData("{.status.none.of.it}", "")]
    [InlineData("{.status.containerStatuses[0].restartCount}/{.status.phase}", "0/Running")]
    [InlineData("{.status.containerStatuses[7].name}", "")]
    [InlineData("""{.status.containerStatuses[?(@.name=="b")].restartCount}{.status.containerStatuses[?(@.name=="a")].ready}""", "2true")]
    [InlineData("{.status.containerStatuses[?(@.state.terminated.exitCode==137)].name}", "a b")]
    [InlineData("""{.status.containerStatuses[?(@.name=="a")].state.terminated.exitCode} {.status.containerStatuses[?(@.name=="a")].state.terminated.reason}""", "137 OOMKilled")]
    public void a_template_gives_what_kubectl_gives(string template, string text) => Assert.Equal(text, FieldTemplate.Apply(template, JsonNode.Parse(Pod)));

    [Fact]
    public void of_an_object_that_is_not_there_every_field_is_empty() => Assert.Equal(" ", FieldTemplate.Apply("{.a} {.b}", null));
}
