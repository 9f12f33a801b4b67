using Skiff.Shim.Wasm;

namespace Skiff.Shim.Tests;

public sealed class GuestSettingsTests
{
    private static readonly (string, string) _container = ("io.kubernetes.cri.container-name", "app");

    [Theory]
    [InlineData("65536", 65536UL)]
    [InlineData("64Ki", 65536UL)]
    [InlineData("64Mi", 67108864UL)]
    [InlineData("2Gi", 2147483648UL)]
    [InlineData("1M", 1000000UL)]
    public void an_amount_of_memory_has_kubernetes_units(string text, ulong bytes) =>
        Assert.Equal(new GuestSettings { MaxMemory = bytes }, GuestSettings.Read([("skiff.dev/max-memory", text)]).Settings);

    [Theory]
    [InlineData("skiff.dev/max-memory", "much", "the annotation skiff.dev/max-memory: \"much\" is not an amount of memory of at least 64Ki, like 64Mi")]
    [InlineData("skiff.dev/max-memory", "", "is not an amount")]
    [InlineData("skiff.dev/max-memory", "-1Mi", "is not an amount")]
    [InlineData("skiff.dev/max-memory", "10", "is not an amount")]
    [InlineData("app.skiff.dev/max-memory", "99999999Ti", "the annotation app.skiff.dev/max-memory: ")]
    [InlineData("skiff.dev/max-memori", "64Mi", "the annotation skiff.dev/max-memori is unknown; known are skiff.dev/max-memory, ")]
    [InlineData("skiff.dev/network", "host", "\"host\" is not \"none\", or \"pod\" for the pod's network")]
    [InlineData("skiff.dev/http-listen", "0", "\"0\" is not a port or an address with one")]
    [InlineData("skiff.dev/http-listen", "65536", "is not a port")]
    [InlineData("skiff.dev/http-listen", "localhost:80", "is not a port")]
    [InlineData("skiff.dev/http-listen", "::1:80", "is not a port")]
    [InlineData("skiff.dev/http-listen", "[::1]", "is not a port")]
    [InlineData("skiff.dev/http-listen", "1.2.3:80", "is not a port")]
    [InlineData("skiff.dev/http-listen", "[1.2.3.4]:80", "is not a port")]
    [InlineData("skiff.dev/http-reuse", "0", "is not the number of requests that one instance answers")]
    public void what_makes_no_sense_is_named(string name, string value, string says) =>
        Assert.Contains(says, GuestSettings.Read([_container, (name, value)]).Problem, StringComparison.Ordinal);

    [Theory]
    [InlineData("8080", ":8080")]
    [InlineData(":80", ":80")]
    [InlineData("127.0.0.1:8080", "127.0.0.1:8080")]
    [InlineData("[::1]:8080", "[::1]:8080")]
    public void a_server_listens_at_a_port_or_an_address(string text, string address) =>
        Assert.Equal(new GuestSettings { HttpListen = address }, GuestSettings.Read([("skiff.dev/http-listen", text)]).Settings);

    [Fact]
    public void each_key_of_a_container_stands_for_itself() =>
        Assert.Equal(
            new GuestSettings { MaxMemory = 1UL << 20, Network = false, HttpReuse = 5 },
            GuestSettings.Read([_container, ("app.skiff.dev/network", "none"), ("skiff.dev/network", "pod"), ("skiff.dev/max-memory", "1Mi"), ("skiff.dev/http-reuse", "5")]).Settings);

    [Fact]
    public void a_containers_own_comes_before_the_pods_wherever_it_stands()
    {
        Assert.Equal(new GuestSettings { MaxMemory = 1UL << 20 }, GuestSettings.Read([_container, ("skiff.dev/max-memory", "2Mi"), ("app.skiff.dev/max-memory", "1Mi")]).Settings);
        Assert.Equal(new GuestSettings { MaxMemory = 1UL << 20 }, GuestSettings.Read([("app.skiff.dev/max-memory", "1Mi"), ("skiff.dev/max-memory", "2Mi"), _container]).Settings);
    }

    [Fact]
    public void what_is_another_containers_or_somebody_elses_plays_no_part() =>
        Assert.Equal(new GuestSettings(), GuestSettings.Read([_container, ("other.skiff.dev/max-memory", "much"), ("notskiff.dev/max-memory", "x"), ("a/b", "c")]).Settings);
}
