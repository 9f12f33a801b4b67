using System.Text.Json.Nodes;

namespace Skiff.EndToEnd;

/// <summary>What the API server refuses, and with what words.</summary>
[Collection("containerd 1.6")]
[Trait(Cluster.On, "1.6")]
public sealed class ApiTests(ClusterOn16 cluster)
{
    [Theory]
    [InlineData("""{"runtimeClass":{"handler":"runc"}}""", "the handler runc is containerd's own: choose another")]
    [InlineData("""{"runtimeClass":{"handler":"a.b"}}""", "a handler has lower case letters, digits and inner hyphens")]
    [InlineData("""{"runtimeClass":{"name":"A"}}""", "a RuntimeClass's name has lower case letters, digits, inner hyphens and dots")]
    [InlineData("""{"runtimeClass":{"overhead":{"podFixed":{"nvidia.com/gpu":"1"}}}}""", "an overhead has the resources cpu, memory and ephemeral-storage")]
    [InlineData("""{"source":{}}""", "the only source is the operator's own image: write source: {bundled: {}}")]
    [InlineData("""{"source":{"http":{}}}""", "unknown field \"spec.source.http\"")]
    [InlineData("""{"containerd":{"podAnnotations":["a b"]}}""", "a pattern of annotations has letters, digits, and -_./ and the wild cards * and ?")]
    [InlineData("""{"containerd":{"restart":"Never"}}""", "supported values: \"Auto\", \"Manual\"")]
    [InlineData("""{"removal":{"timeout":"5 minutes"}}""", "write hours, minutes and seconds, such as 90s, 10m or 1h30m")]
    [InlineData("""{"removal":{"whenInUse":"Never"}}""", "supported values: \"Wait\", \"Force\"")]
    public async Task a_shim_with_a_mistake_is_refused_with_what_would_be_right(string spec, string message)
    {
        await cluster.BeInstalledAsync();
        var result = await cluster.KubectlWithAsync(Shim("other", spec), "create", "--dry-run=server", "-f", "-");
        Assert.NotEqual(0u, result.Status);
        Assert.Contains(message, result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task a_shim_may_say_nothing_and_options_are_strings_booleans_and_numbers()
    {
        await cluster.BeInstalledAsync();
        foreach (var spec in (string[])["{}", """{"containerd":{"options":{"SystemdCgroup":true,"BinaryName":"crun","ShimCgroup":"","IoUid":3}}}"""])
        {
            _ = (await cluster.KubectlWithAsync(Shim("other", spec), "create", "--dry-run=server", "-f", "-")).Demand();
        }
    }

    [Fact]
    public async Task names_that_pods_and_containers_hold_on_to_cannot_be_changed()
    {
        await cluster.BeInstalledAsync();
        foreach (var field in (string[])["name", "handler"])
        {
            var result = await cluster.TryKubectlAsync(
                "patch", "shim", "skiff", "--dry-run=server", "--type=merge", "--patch", $$"""{"spec":{"runtimeClass":{"{{field}}":"another"} } }""");
            Assert.Contains("cannot be changed", result.Error, StringComparison.Ordinal);
        }

        var shim = await cluster.KubectlWithAsync(Shim("a.b", "{}"), "create", "--dry-run=server", "-f", "-");
        Assert.Contains("a Shim's name becomes a node label", shim.Error, StringComparison.Ordinal);
        var installation = await cluster.KubectlWithAsync(Installation("wrong", "node-1"), "create", "--dry-run=server", "-f", "-");
        Assert.Contains("an installation is called <shim>.<node>", installation.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task an_agent_may_write_for_its_own_node_only()
    {
        await cluster.BeInstalledAsync();
        var folder = Directory.CreateTempSubdirectory("skiff-agent-");
        try
        {
            var agent = await KubeconfigAsync(folder.FullName);

            async Task<CommandText> WriteAsync(JsonObject document) => await cluster.KubectlWithAsync(
                document, agent, "apply", "--server-side", "--force-conflicts", "--field-manager=test", "--dry-run=server", "-f", "-");
            async Task RefusedAsync(string message, JsonObject document)
            {
                var result = await WriteAsync(document);
                Assert.NotEqual(0u, result.Status);
                Assert.Contains(message, result.Error, StringComparison.Ordinal);
            }

            // Its own: refused by nobody.
            _ = (await WriteAsync(Node("node-1", """{"labels":{"shim.skiff.dev/skiff":"false"}}"""))).Demand();
            _ = (await WriteAsync(Installation("other.node-1", "node-1"))).Demand();
            _ = (await WriteAsync(Installation("skiff.node-1", "node-1"))).Demand();

            const string ownNode = "an agent may change its own node only; this one runs on the node \"node-1\"";
            const string ownInstallations = "an agent may write the installations of its own node only; this one runs on the node \"node-1\"";
            await RefusedAsync(ownNode, Node("node-2", """{"labels":{"shim.skiff.dev/skiff":"false"}}"""));
            await RefusedAsync("an agent may change its node's labels shim.skiff.dev/... only", Node("node-1", """{"labels":{"other":"1"}}"""));
            await RefusedAsync("an agent may change its node's labels shim.skiff.dev/... only", Node("node-1", """{"labels":{"kubernetes.io/hostname":"node-2"}}"""));
            await RefusedAsync("an agent may change labels of its node only", Node("node-1", """{"annotations":{"other":"1"}}"""));
            await RefusedAsync("an agent may change labels of its node only", Node("node-1", "{}", """{"taints":[{"key":"other","effect":"NoSchedule"}]}"""));
            await RefusedAsync("the operator may change a Shim's finalizers and status only", Shim("skiff", """{"removal":{"timeout":"1s"}}"""));
            await RefusedAsync(ownInstallations, Installation("other.node-2", "node-2"));
            await RefusedAsync(ownInstallations, Installation("skiff.node-2", "node-2", """{"labels":{"other":"1"}}"""));

            // By RBAC: nothing of secrets, nothing that runs programs.
            foreach (var refused in (string[][])[["get", "secrets", "-A"], ["get", "configmaps", "-A"], ["delete", "node", "node-1"], ["delete", "pod", "bystander-node-1"], ["delete", "shim", "skiff"]])
            {
                var result = await cluster.TryKubectlAsync([agent, .. refused, .. refused[0] == "delete" ? ["--dry-run=server"] : Array.Empty<string>()]);
                Assert.NotEqual(0u, result.Status);
                Assert.Contains("forbidden", result.Error, StringComparison.Ordinal);
            }
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    [Fact]
    public async Task the_api_server_takes_everything_in_config()
    {
        await cluster.BeInstalledAsync();
        foreach (var what in (string[][])[["-k", "config"], ["-f", "config/samples"]])
        {
            _ = await cluster.KubectlAsync(["apply", "--server-side", "--force-conflicts", "--dry-run=server", .. what]);
        }
    }

    private static JsonObject Shim(string name, string spec) => new()
    {
        ["apiVersion"] = "runtime.skiff.dev/v1alpha1",
        ["kind"] = "Shim",
        ["metadata"] = new JsonObject { ["name"] = name },
        ["spec"] = JsonNode.Parse(spec),
    };

    private static JsonObject Installation(string name, string node, string metadata = "{}") => new()
    {
        ["apiVersion"] = "runtime.skiff.dev/v1alpha1",
        ["kind"] = "ShimInstallation",
        ["metadata"] = Named(name, metadata),
        ["spec"] = new JsonObject { ["shim"] = name.Split('.')[0], ["node"] = node },
    };

    private static JsonObject Node(string name, string metadata, string spec = "{}") => new()
    {
        ["apiVersion"] = "v1",
        ["kind"] = "Node",
        ["metadata"] = Named(name, metadata),
        ["spec"] = JsonNode.Parse(spec),
    };

    private static JsonObject Named(string name, string metadata)
    {
        var named = JsonNode.Parse(metadata)!.AsObject();
        named["name"] = name;
        return named;
    }

    /// <summary>kubectl's flag for a kubeconfig with a token of the agent on node-1, bound to its pod as the mounted one is.</summary>
    private async Task<string> KubeconfigAsync(string folder)
    {
        var pod = await cluster.KubectlAsync(
            "get", "pod", "-n", "skiff-system", "-l", "app.kubernetes.io/component=agent", "--field-selector", "spec.nodeName=node-1", "-o", "jsonpath={.items[0].metadata.name}");
        var token = await cluster.KubectlAsync("create", "token", "skiff", "-n", "skiff-system", "--bound-object-kind=Pod", "--bound-object-name=" + pod);
        var admin = JsonNode.Parse(await cluster.KubectlAsync("config", "view", "--raw", "--minify", "-o", "json"))!;
        admin["users"]![0]!["user"] = new JsonObject { ["token"] = token.Trim() };
        var path = Path.Combine(folder, "kubeconfig");
        await File.WriteAllTextAsync(path, admin.ToJsonString());
        return "--kubeconfig=" + path;
    }
}
