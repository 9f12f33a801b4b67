namespace Skiff.EndToEnd;

/// <summary>Skiff.Kubernetes against the cluster's API server.</summary>
[Collection("containerd 1.6")]
[Trait(Cluster.On, "1.6")]
public sealed class KubernetesClientTests(ClusterOn16 cluster, ITestOutputHelper output)
{
    private const string Tests = "Skiff.Kubernetes.Tests";

    [Fact]
    public async Task the_client_keeps_its_word_against_a_real_api_server_that_is_restarted_too()
    {
        cluster.Need();
        try
        {
            await RunAsync();
        }
        finally
        {
            // They have our name, and another test demands that nothing of that name is left by an uninstall.
            _ = await cluster.TryKubectlAsync("delete", "crd/things.skiff.test", "--ignore-not-found", "--timeout=180s");
            _ = await cluster.TryKubectlAsync("delete", "lease", "--all", "-n", "default");
        }
    }

    private async Task RunAsync()
    {
        var result = await cluster.BesideTheApiServerAsync(
            AppContext.BaseDirectory.Replace("Skiff.EndToEnd", Tests, StringComparison.Ordinal) + Tests, "-noColor", "-explicit", "only", "-class", Tests + ".RealApiServerTests");
        output.WriteLine(result.Output);
        _ = result.Demand();
        Assert.Matches("Total: [1-9][0-9]*, Errors: 0, Failed: 0, Skipped: 0", result.Output);
    }
}
