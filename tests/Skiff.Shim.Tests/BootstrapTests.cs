using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Skiff.Containerd.Bootstrap;
using Skiff.Shim.Bootstrap;

namespace Skiff.Shim.Tests;

public sealed class BootstrapTests
{
    private static readonly BootstrapParams _parameters = new() { InstanceId = "c1", Namespace = "default", ContainerdVersion = "2.4.2" };

    [Fact]
    public void flags_come_in_every_go_form_and_unknown_ones_are_passed_over()
    {
        var arguments = ShimArguments.Parse(["-namespace", "k8s.io", "--id=c1", "-publish-binary", "/x", "-debug", "-new-flag", "value", "start", "-not", "read"]);
        Assert.Equal(("k8s.io", "c1", true, "start"), (arguments.Namespace, arguments.Id, arguments.Debug, arguments.Action));
    }

    [Fact]
    public void nothing_on_stdin_is_an_early_containerd_without_options() => Assert.Equal(new BootstrapInput(), BootstrapInput.Parse([], "c1", "default"));

    [Theory]
    [InlineData("containerd.runc.v1.Options")]
    [InlineData("runtimeoptions.v1.Options")]
    [InlineData("type.googleapis.com/some.other.Options")]
    public void options_are_an_early_containerd(string type)
    {
        var options = new Any { TypeUrl = type, Value = ByteString.CopyFromUtf8("\u0001\u0002") };
        var input = BootstrapInput.Parse(options.ToByteArray(), "c1", "default");
        Assert.Equal((null, null, options), (input.Problem, input.Params, input.Options));
    }

    [Fact]
    public void options_are_found_among_the_extensions_and_others_are_passed_over()
    {
        var options = new Any { TypeUrl = "runtimeoptions.v1.Options" };
        var parameters = _parameters.Clone();
        parameters.Extensions.Add(new Containerd.Bootstrap.Extension { Value = new Any { TypeUrl = "containerd.io/nri.v1.PluginConfig" } });
        parameters.Extensions.Add(new Containerd.Bootstrap.Extension { Value = options });
        Assert.Equal(options, BootstrapInput.Parse(parameters.ToByteArray(), "c1", "default").Options);
    }

    [Fact]
    public void parameters_are_known_by_their_instance_and_namespace() =>
        Assert.Equal(_parameters, BootstrapInput.Parse(_parameters.ToByteArray(), "c1", "default").Params);

    [Fact]
    public void parameters_of_another_instance_are_refused() =>
        Assert.Contains("is for instance \"c1\"", BootstrapInput.Parse(_parameters.ToByteArray(), "c2", "default").Problem, StringComparison.Ordinal);

    [Theory]
    [InlineData("unix:///run/x.sock")]
    [InlineData("{}")]
    [InlineData("\n\u0003abc")]
    public void anything_else_is_neither(string text) =>
        Assert.Contains("is neither", BootstrapInput.Parse(System.Text.Encoding.UTF8.GetBytes(text), "c1", "default").Problem, StringComparison.Ordinal);

    [Theory]
    [InlineData("", "is empty")]
    [InlineData("a/b", "the character '/'")]
    [InlineData("..", "is a folder")]
    [InlineData("a\nb", "the character '\n'")]
    public void a_name_that_is_none_is_refused(string name, string says) => Assert.Contains(says, Identifier.Problem("id", name), StringComparison.Ordinal);

    [Fact]
    public void a_kubernetes_id_is_a_name() => Assert.Null(Identifier.Problem("id", new string('f', 64)));
}
