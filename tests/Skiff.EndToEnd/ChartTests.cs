using System.Text.RegularExpressions;
using Skiff.Linux.Processes;
using Skiff.Testing;

namespace Skiff.EndToEnd;

/// <summary>The chart on paper: no cluster is needed, only helm.</summary>
[Trait(Cluster.On, "1.6")] // needs none, and is quick
public sealed class ChartTests
{
    private static readonly string _helm = Path.Combine(Repository.Shared, "cluster", "helm");

    [Fact]
    public async Task what_kubectl_applies_is_what_the_chart_gives()
    {
        var result = await RunAsync(Path.Combine(Repository.Root, "hack", "manifests"), "--check");
        Assert.True(result.Exit.Success, result.OutputText + result.Error);
    }

    [Fact]
    public async Task versions_agree()
    {
        var props = await File.ReadAllTextAsync(Path.Combine(Repository.Root, "Directory.Build.props"));
        var version = Regex.Match(props, "<Version>(.*)</Version>").Groups[1].Value;
        Assert.Contains($"image: \"skiff.dev/skiff-operator:{version}\"", await TemplateAsync(), StringComparison.Ordinal);
        Assert.Contains($"\nversion: {version}\n", await File.ReadAllTextAsync(Path.Combine(Repository.Root, "charts", "skiff", "Chart.yaml")), StringComparison.Ordinal);
        Assert.Contains($"image.version={version} ", await File.ReadAllTextAsync(Path.Combine(Repository.Root, "Dockerfile")), StringComparison.Ordinal);
    }

    [Fact]
    public async Task roles_have_no_wild_cards_and_no_secrets()
    {
        var roles = (await TemplateAsync()).Split("\n---\n").Where(d => Regex.IsMatch(d, "^kind: (Cluster)?Role$", RegexOptions.Multiline)).ToList();
        Assert.Equal(3, roles.Count);
        Assert.All(roles, r => Assert.DoesNotContain("*", r, StringComparison.Ordinal));
        Assert.All(roles, r => Assert.DoesNotContain("secrets", r, StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("shim.removal.timeout=soon", "/shim/removal/timeout")]
    [InlineData("shim.removal.whenInUse=Never", "/shim/removal/whenInUse")]
    [InlineData("shim.name=A_B", "/shim/name")]
    [InlineData("shim.containerd.options.x=1.5", "/shim/containerd/options/x")]
    [InlineData("image.pullPolicy=Sometimes", "/image/pullPolicy")]
    [InlineData("tolerance=1", "additional properties 'tolerance' not allowed")]
    public async Task a_value_with_a_mistake_is_refused_by_name(string value, string name)
    {
        var result = await HelmAsync("template", "skiff", "charts/skiff", value.Contains("1.5", StringComparison.Ordinal) ? "--set-json" : "--set", value);
        Assert.False(result.Exit.Success);
        Assert.Contains(name, result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task without_the_api_for_policies_the_chart_has_none_and_other_values_reach_their_places()
    {
        var plain = await TemplateAsync();
        Assert.DoesNotContain("ValidatingAdmissionPolicy", plain, StringComparison.Ordinal);
        var other = await TemplateAsync(
            "--api-versions", "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy", "--set", "shim.name=wasm,shim.nodeSelector.pool=wasm,image.repository=r.test/x,image.tag=v2,uninstall.enabled=false");
        Assert.Equal(3, Regex.Count(other, "^kind: ValidatingAdmissionPolicy$", RegexOptions.Multiline));
        Assert.Equal(3, Regex.Count(other, "^kind: ValidatingAdmissionPolicyBinding$", RegexOptions.Multiline));
        Assert.Contains("image: \"r.test/x:v2\"", other, StringComparison.Ordinal);
        Assert.Contains("name: wasm\n", other, StringComparison.Ordinal);
        Assert.Contains("pool: wasm\n", other, StringComparison.Ordinal);
        Assert.DoesNotContain("helm.sh/hook", other, StringComparison.Ordinal);
        Assert.DoesNotContain("kind: Shim\n", await TemplateAsync("--set", "shim.enabled=false"), StringComparison.Ordinal);
    }

    private static async Task<string> TemplateAsync(params string[] more)
    {
        var result = await HelmAsync(["template", "skiff", "charts/skiff", "--namespace", "skiff-system", .. more]);
        Assert.True(result.Exit.Success, result.Error);
        return result.OutputText;
    }

    private static Task<CommandResult> HelmAsync(params string[] words) => RunAsync(_helm, words);

    private static async Task<CommandResult> RunAsync(string script, params string[] words)
    {
        if (!File.Exists(_helm))
        {
            Assert.Skip($"no {_helm}: helm comes from there");
        }

        return await Command.RunAsync(
            new SpawnRequest
            {
                Path = "/bin/bash",
                Arguments = ["bash", script, .. words],
                Environment = ["HELM=" + _helm, "PATH=" + Machines.SearchPath, "HOME=" + Machines.Home],
                WorkingDirectory = Repository.Root,
            },
            TimeSpan.FromMinutes(2));
    }
}
