using System.Text.Json;
using Skiff.Operator.Api;
using Skiff.Operator.OomEvents;

namespace Skiff.Operator.Tests.OomEvents;

public sealed class PodDirectoryTests
{
    private const string Spec = """
        {"metadata":{"name":"p","namespace":"ns","uid":"u"},
         "spec":{"initContainers":[{"name":"first"}],"containers":[{"name":"app"},{"name":"side"}],"ephemeralContainers":[{"name":"debugger"}]},"status":STATUS}
        """;

    [Theory]
    [InlineData("""{"containerStatuses":[{"name":"side","containerID":"containerd://2","state":{"running":{}}},{"name":"app","containerID":"containerd://1","state":{"running":{}}}]}""", "app")]
    [InlineData("""{"initContainerStatuses":[{"name":"first","containerID":"cri-o://1","state":{"running":{}}}]}""", "first")]
    [InlineData("""{"ephemeralContainerStatuses":[{"name":"debugger","containerID":"containerd://1","state":{"running":{}}}]}""", "debugger")]
    [InlineData("""{"containerStatuses":[{"name":"app","containerID":"containerd://9","state":{"running":{}},"lastState":{"terminated":{"exitCode":137,"containerID":"containerd://1"}}}]}""", "app")]
    [InlineData("""{"containerStatuses":[{"name":"app","containerID":"containerd://9","state":{"running":{}}}]}""", null)]
    [InlineData("{}", null)]
    public void a_container_is_known_by_the_pods_status(string status, string? name) => Assert.Equal(name, PodDirectory.NameOf(Parse(Spec, status), "1"));

    [Theory]
    [InlineData("""{"containerStatuses":[{"name":"app","state":{"waiting":{}}}]}""", "app")]
    [InlineData("""{"containerStatuses":[{"name":"app","containerID":"containerd://9","state":{"terminated":{}}}]}""", "app")]
    [InlineData("""{"containerStatuses":[{"name":"app","containerID":"containerd://9","state":{"running":{}}}]}""", "side")]
    public void a_container_that_the_status_does_not_know_yet_is_the_one_that_does_not_run(string status, string? name) =>
        Assert.Equal(name, PodDirectory.NameOf(Parse(
            """{"metadata":{"name":"p"},"spec":{"containers":[{"name":"app"},{"name":"side"}]},"status":STATUS}""",
            name == "app" ? status.Replace("[{", """[{"name":"side","containerID":"containerd://8","state":{"running":{}}},{""", StringComparison.Ordinal) : status), "1"));

    [Fact]
    public void the_only_container_is_it_whatever_the_status_says() => Assert.Equal("app", PodDirectory.NameOf(Parse(
        """{"metadata":{"name":"p"},"spec":{"containers":[{"name":"app"}]},"status":STATUS}""",
        """{"containerStatuses":[{"name":"app","containerID":"containerd://9","state":{"running":{}}}]}"""), "1"));

    [Theory]
    [InlineData("app", "spec.containers{app}")]
    [InlineData("first", "spec.initContainers{first}")]
    [InlineData("debugger", "spec.ephemeralContainers{debugger}")]
    [InlineData(null, null)]
    public void an_event_names_the_part_of_the_pod(string? container, string? path) => Assert.Equal(path, PodDirectory.FieldPath(Parse(Spec, "{}"), container));

    [Fact]
    public void the_mirror_of_a_pod_from_a_file_has_the_uid_of_its_file() => Assert.Equal(
        "hash", Pod.Trim(Parse("""{"metadata":{"name":"p","uid":"u","annotations":{"kubernetes.io/config.hash":"hash","other":"x"}},"status":STATUS}""", "{}")).KubeletUid);

    private static Pod Parse(string pod, string status) => JsonSerializer.Deserialize(pod.Replace("STATUS", status, StringComparison.Ordinal), ApiJson.Default.Pod)!;
}
