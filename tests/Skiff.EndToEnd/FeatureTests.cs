using System.Text.Json.Nodes;
using Skiff.Testing;

namespace Skiff.EndToEnd;

/// <summary>What Kubernetes gives to containers, in pods with a WebAssembly container in each. Once installed, the tests share the cluster.</summary>
public abstract class FeatureTests(Cluster cluster)
{
    [Fact]
    public async Task init_containers_and_sidecars_run_in_order()
    {
        await RunAsync("init", """
            initContainers:
            - {name: first, image: skiff.test/guests:1, command: [/show.wasm, "write:/shared/first=one"], volumeMounts: [{name: shared, mountPath: /shared}]}
            - {name: side, image: skiff.test/guests:1, command: [/sleep.wasm], restartPolicy: Always}
            - {name: native, image: skiff.test/guests:1, command: [/sleep.native], restartPolicy: Always}
            containers:
            - {name: main, image: skiff.test/guests:1, command: [/show.wasm, "file:/shared/first", stay], volumeMounts: [{name: shared, mountPath: /shared}]}
            volumes: [{name: shared, emptyDir: {}}]
            """);
        await cluster.PodIsReadyAsync("init");
        await SaysAsync("init", "main", "/shared/first=one\nstays\n");
        await SaysAsync("init", "side", "ready\n");
        await SaysAsync("init", "native", "ready\n");
    }

    [Fact]
    public async Task an_ephemeral_container_debugs_a_pod()
    {
        await RunAsync("debugged", "containers: [{name: main, image: skiff.test/guests:1, command: [/sleep.wasm]}]");
        await cluster.PodIsReadyAsync("debugged");
        _ = await cluster.KubectlAsync("debug", "debugged", "--image=skiff.test/guests:1", "--container=debugger", "--target=main", "--", "/hello.wasm", "a");
        await BecomesAsync("debugged", "{.status.ephemeralContainerStatuses[0].state.terminated.exitCode}", "0");
        await SaysAsync("debugged", "debugger", "hello from wasm, 2 arguments\n");
    }

    [Fact]
    public async Task exec_attach_port_forward_and_cp_reach_a_pod()
    {
        await RunAsync("reached", """
            containers:
            - {name: wasm, image: skiff.test/guests:1, command: [/sleep.wasm], volumeMounts: [{name: shared, mountPath: /shared}]}
            - {name: cat, image: skiff.test/guests:1, command: [/cat.wasm], stdin: true, stdinOnce: true}
            - {name: server, image: skiff.test/guests:1, command: [/listen.native, "8080"], volumeMounts: [{name: shared, mountPath: /shared}]}
            volumes: [{name: shared, emptyDir: {}}]
            """);
        await cluster.PodIsReadyAsync("reached");
        Assert.Equal("hello from wasm, 2 arguments\n", await cluster.KubectlAsync("exec", "reached", "-c", "wasm", "--", "/hello.wasm", "a b"));
        Assert.Equal(7u, (await cluster.TryKubectlAsync("exec", "reached", "-c", "wasm", "--", "/exit.wasm", "7")).Status);
        Assert.Contains("typed in", await cluster.TypeAsync("echo typed in | kubectl attach -i reached -c cat"), StringComparison.Ordinal);
        Assert.Equal("hello from port 8080\n", await cluster.ForwardAsync("pod/reached", 8080, "cat < /dev/tcp/127.0.0.1/$port"));

        // In from a file by the native container's tar, seen by the Wasm one; and out again.
        _ = await cluster.KubectlAsync("cp", "README.md", "reached:/shared/in.md", "-c", "server");
        Assert.Contains("# Skiff", await cluster.KubectlAsync("exec", "reached", "-c", "wasm", "--", "/show.wasm", "file:/shared/in.md"), StringComparison.Ordinal);
        Assert.Equal("ok\n", await cluster.TypeAsync("out=$(mktemp); kubectl cp reached:/shared/in.md -c server \"$out\" > /dev/null; cmp \"$out\" README.md; rm \"$out\"; echo ok"));
    }

    [Fact]
    public async Task probes_and_hooks_are_run()
    {
        var node = cluster.Nodes[0];
        await node.RunAsync("mkdir", "-p", "/var/tmp/hooks");
        await RunAsync("probed", $$$"""
            nodeName: {{{node.Name}}}
            containers:
            - name: wasm
              image: skiff.test/guests:1
              command: [/sleep.wasm]
              startupProbe: {exec: {command: [/exit.wasm, "0"]}, periodSeconds: 1, timeoutSeconds: 60}
              livenessProbe: {exec: {command: [/hello.wasm]}, periodSeconds: 1, timeoutSeconds: 60}
              readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1, timeoutSeconds: 60}
              lifecycle:
                postStart: {exec: {command: [/show.wasm, "write:/hooks/started=yes"]}}
                preStop: {exec: {command: [/show.wasm, "write:/hooks/stopped=yes"]}}
              volumeMounts: [{name: hooks, mountPath: /hooks}]
            - name: server
              image: skiff.test/guests:1
              command: [/listen.native, "8080", http]
              livenessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, timeoutSeconds: 60, failureThreshold: 60}
            - name: sick
              image: skiff.test/guests:1
              command: [/sleep.wasm]
              livenessProbe: {exec: {command: [/exit.wasm, "1"]}, periodSeconds: 1, timeoutSeconds: 60, failureThreshold: 1}
            volumes: [{name: hooks, hostPath: {path: /var/tmp/hooks}}]
            """, grace: 60); // of which the hook before the stop is a part; a busy machine may need more than a second for a probe, too
        await BecomesAsync("probed", """{.status.containerStatuses[?(@.name=="wasm")].ready}{.status.containerStatuses[?(@.name=="server")].ready}""", "truetrue");
        await Cluster.UntilAsync(
            "the sick container is restarted",
            async () => await cluster.FieldAsync("probed", """{.status.containerStatuses[?(@.name=="sick")].restartCount}""") is not ("" or "0"),
            () => cluster.TryKubectlAsync("describe", "pod", "probed"));
        Assert.Equal("00", await cluster.FieldAsync("probed", """{.status.containerStatuses[?(@.name=="wasm")].restartCount}{.status.containerStatuses[?(@.name=="server")].restartCount}"""));
        Assert.Equal("yes", await node.RunAsync("cat", "/var/tmp/hooks/started"));
        _ = await cluster.KubectlAsync("delete", "pod", "probed", "--timeout=180s");
        Assert.Equal("yes", await node.RunAsync("cat", "/var/tmp/hooks/stopped"));
        _ = await node.RunAsync("rm", "-r", "/var/tmp/hooks");
    }

    [Fact]
    public async Task every_kind_of_volume_is_there()
    {
        var node = cluster.Nodes[1];
        _ = await node.RunAsync("bash", "-c", "mkdir -p /var/tmp/host && echo -n host > /var/tmp/host/file");
        await ApplyAsync("""
            apiVersion: v1
            kind: ConfigMap
            metadata: {name: settings, labels: {end-to-end: passing}}
            data: {key: from the map, other: sub}
            ---
            apiVersion: v1
            kind: Secret
            metadata: {name: secret, labels: {end-to-end: passing}}
            stringData: {token: hidden}
            """);
        await RunAsync("volumes", $$$"""
            nodeName: {{{node.Name}}}
            restartPolicy: Never
            containers:
            - name: wasm
              image: skiff.test/guests:1
              command: [/show.wasm, "file:/config/key", "file:/secret/token", "write:/scratch/new=text", "file:/scratch/new", "file:/host/file", "file:/projected/map/key",
                "file:/projected/name", "file:/sub/path", "list:/config", "write:/ro/no=x"]
              volumeMounts:
              - {name: config, mountPath: /config}
              - {name: secret, mountPath: /secret, readOnly: true}
              - {name: empty, mountPath: /scratch}
              - {name: empty, mountPath: /ro, readOnly: true, recursiveReadOnly: IfPossible}
              - {name: host, mountPath: /host}
              - {name: projected, mountPath: /projected}
              - {name: config, mountPath: /sub/path, subPath: other}
            volumes:
            - {name: config, configMap: {name: settings}}
            - {name: secret, secret: {secretName: secret}}
            - {name: empty, emptyDir: {}}
            - {name: host, hostPath: {path: /var/tmp/host}}
            - name: projected
              projected:
                sources:
                - {configMap: {name: settings, items: [{key: key, path: map/key}]}}
                - {downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}
            """);
        await BecomesAsync("volumes", "{.status.containerStatuses[0].state.terminated.exitCode}", "1"); // because of the one that must fail
        var log = await cluster.KubectlAsync("logs", "volumes");
        Assert.Equal(
            ["/config/key=from the map", "/secret/token=hidden", "wrote /scratch/new", "/scratch/new=text", "/host/file=host", "/projected/map/key=from the map",
                "/projected/name=volumes", "/sub/path=sub", "/config has key other", "/ro/no: I/O error"],
            log.TrimEnd('\n').Split('\n').Select(l => l == "/config has other key" ? "/config has key other" : l));
        _ = await node.RunAsync("rm", "-r", "/var/tmp/host");
        _ = await cluster.KubectlAsync("delete", "configmap,secret", "-l", "end-to-end=passing");
    }

    [Fact]
    public async Task environment_and_working_directory_are_set()
    {
        await RunAsync("environment", """
            restartPolicy: Never
            containers:
            - name: wasm
              image: skiff.test/guests:1
              command: [/show.wasm]
              args: ["env:PLAIN", "env:NAME", "env:LIMIT", "env:BOTH", "env:PWD", "file:here.txt"]
              workingDir: /work
              resources: {limits: {memory: 64Mi}}
              env:
              - {name: PLAIN, value: "a=b c"}
              - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
              - {name: LIMIT, valueFrom: {resourceFieldRef: {resource: limits.memory}}}
              - {name: BOTH, value: "$(NAME)+$(LIMIT)"}
            """);
        await BecomesAsync("environment", "{.status.phase}", "Succeeded");
        Assert.Equal(
            ["PLAIN=a=b c", "NAME=environment", "LIMIT=67108864", "BOTH=environment+67108864", "PWD=/work", "here.txt=here"],
            (await cluster.KubectlAsync("logs", "environment")).TrimEnd('\n').Split('\n'));
    }

    [Fact]
    public async Task the_security_context_counts_for_a_wasm_container()
    {
        await RunAsync("secured", """
            securityContext: {runAsUser: 1000, runAsGroup: 2000, supplementalGroups: [3000], fsGroup: 4000, seccompProfile: {type: RuntimeDefault}}
            containers:
            - name: wasm
              image: skiff.test/guests:1
              command: [/show.wasm, "write:/etc/no=x", "write:/scratch/yes=x", stay]
              securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
              volumeMounts: [{name: empty, mountPath: /scratch}]
            volumes: [{name: empty, emptyDir: {}}]
            """);
        await cluster.PodIsReadyAsync("secured");
        await SaysAsync("secured", "wasm", "/etc/no: I/O error\nwrote /scratch/yes\nstays\n");
        var status = (await cluster.KubectlAsync("exec", "secured", "--", "/show.native", "file:/proc/1/status")).Split('\n').ToLookup(l => l.Split(':')[0], l => l[(l.IndexOf(':') + 1)..].Trim());
        Assert.Equal("1000\t1000\t1000\t1000", status["Uid"].Single());
        Assert.Equal("2000\t2000\t2000\t2000", status["Gid"].Single());
        Assert.Equal(["2000", "3000", "4000"], status["Groups"].Single().Split(' ').Order());
        Assert.Equal("0000000000000000", status["CapEff"].Single());
        Assert.Equal("0000000000000000", status["CapBnd"].Single());
        Assert.Equal("1", status["NoNewPrivs"].Single());
        Assert.Equal("2", status["Seccomp"].Single());
    }

    [Fact]
    public async Task why_a_container_ended_is_in_its_status()
    {
        await RunAsync("ended", """
            restartPolicy: Never
            containers:
            - {name: told, image: skiff.test/guests:1, command: [/show.wasm, "write:/dev/termination-log=this is why", "exit:3"]}
            - {name: trapped, image: skiff.test/guests:1, command: [/show.wasm, trap], terminationMessagePolicy: FallbackToLogsOnError}
            - {name: killed, image: skiff.test/guests:1, command: [/grow.wasm], resources: {limits: {memory: 32Mi}}}
            """);
        await BecomesAsync("ended", "{.status.phase}", "Failed");
        Assert.Equal("3 this is why", await TerminatedAsync("told"));
        var trapped = await TerminatedAsync("trapped");
        Assert.StartsWith("134 skiff-run: ", trapped, StringComparison.Ordinal);
        Assert.Contains("unreachable", trapped, StringComparison.Ordinal);
        await EventComesAsync("ended", "trapped", "WasmTrap", "unreachable", "(trap code 9)");
        await EventComesAsync("ended", "killed", "OOMKilled", "32Mi");
        Assert.Equal("137 OOMKilled", await cluster.FieldAsync("ended", """{.status.containerStatuses[?(@.name=="killed")].state.terminated.exitCode} {.status.containerStatuses[?(@.name=="killed")].state.terminated.reason}"""));

        Task<string> TerminatedAsync(string container) =>
            cluster.FieldAsync("ended", $$"""{.status.containerStatuses[?(@.name=="{{container}}")].state.terminated.exitCode} {.status.containerStatuses[?(@.name=="{{container}}")].state.terminated.message}""");
    }

    [Fact]
    public async Task a_container_that_fails_is_restarted_with_back_off_and_the_other_lives()
    {
        await RunAsync("failing", """
            containers:
            - {name: fails, image: skiff.test/guests:1, command: [/exit.wasm, "5"]}
            - {name: lives, image: skiff.test/guests:1, command: [/sleep.wasm]}
            """);
        await BecomesAsync("failing", """{.status.containerStatuses[?(@.name=="fails")].state.waiting.reason}""", "CrashLoopBackOff");
        await Cluster.UntilAsync(
            "it is restarted",
            async () => await cluster.FieldAsync("failing", """{.status.containerStatuses[?(@.name=="fails")].restartCount}""") is not ("" or "0"),
            () => cluster.TryKubectlAsync("describe", "pod", "failing"));
        Assert.Equal("5", await cluster.FieldAsync("failing", """{.status.containerStatuses[?(@.name=="fails")].lastState.terminated.exitCode}"""));
        Assert.Equal("0true", await cluster.FieldAsync("failing", """{.status.containerStatuses[?(@.name=="lives")].restartCount}{.status.containerStatuses[?(@.name=="lives")].ready}"""));
    }

    [Fact]
    public async Task a_pod_is_resized_in_place()
    {
        await RunAsync("resized", """
            containers:
            - name: wasm
              image: skiff.test/guests:1
              command: [/sleep.wasm]
              resources: {requests: {memory: 64Mi, cpu: 50m}, limits: {memory: 64Mi, cpu: 100m}}
            """);
        await cluster.PodIsReadyAsync("resized");
        _ = await cluster.KubectlAsync(
            "patch", "pod", "resized", "--subresource", "resize", "--patch",
            """{"spec":{"containers":[{"name":"wasm","resources":{"requests":{"memory":"96Mi","cpu":"60m"},"limits":{"memory":"96Mi","cpu":"200m"}}}]}}""");
        await BecomesAsync("resized", "{.status.containerStatuses[0].resources.limits.memory} {.status.containerStatuses[0].resources.limits.cpu} {.status.containerStatuses[0].restartCount}", "96Mi 200m 0");
        var id = (await cluster.FieldAsync("resized", "{.status.containerStatuses[0].containerID}")).Split("//")[1];
        var where = await cluster.FieldAsync("resized", "{.spec.nodeName}");
        var node = cluster.Nodes.Single(n => n.Name == where);
        Assert.Equal($"{96 << 20}\n", await node.RunAsync("bash", "-c", $"cat /sys/fs/cgroup/memory/kubepods.slice/*/*/cri-containerd-{id}.scope/memory.limit_in_bytes"));
    }

    [Fact]
    public async Task processes_are_shared_and_memory_is_limited_where_the_pod_says_so()
    {
        await RunAsync("shared", """
            shareProcessNamespace: true
            containers:
            - {name: wasm, image: skiff.test/guests:1, command: [/sleep.wasm]}
            - {name: native, image: skiff.test/guests:1, command: [/sleep.native]}
            - {name: limited, image: skiff.test/guests:1, command: [/grow.wasm], resources: {limits: {memory: 256Mi}}}
            """, """{skiff.dev/max-memory: 1Gi, limited.skiff.dev/max-memory: 32Mi}""");
        await Cluster.UntilAsync(
            "it is refused memory",
            async () => (await cluster.LogAsync("shared", "limited")).Contains($"skiff.dev/max-memory allows {32 << 20}", StringComparison.Ordinal),
            () => cluster.TryKubectlAsync("describe", "pod", "shared"));
        Assert.Contains("/pause", await cluster.KubectlAsync("exec", "shared", "-c", "native", "--", "/show.native", "file:/proc/1/cmdline"), StringComparison.Ordinal);
        await EventComesAsync("shared", "limited", "WasmMemoryLimit", "allows 32Mi");
        Assert.DoesNotContain("OOMKilled", await cluster.KubectlAsync("get", "pod", "shared", "-o", "json"), StringComparison.Ordinal);
    }

    /// <summary>Waits for the one Event of a reason about a container; its note has to say all this.</summary>
    private async Task EventComesAsync(string pod, string container, string reason, params string[] said)
    {
        var uid = await cluster.FieldAsync(pod, "{.metadata.uid}");
        List<JsonNode> found = [];
        await Cluster.UntilAsync(
            $"{pod} has an event {reason}",
            async () =>
            {
                found = [.. (await cluster.EventsAsync(uid)).Where(e => (string)e["reason"]! == reason)];
                return found.Count > 0;
            },
            () => cluster.TryKubectlAsync("describe", "pod", pod));
        var one = Assert.Single(found);
        Assert.Equal($"spec.containers{{{container}}}", (string)one["regarding"]!["fieldPath"]!);
        Assert.All(said, text => Assert.Contains(text, (string)one["note"]!, StringComparison.Ordinal));
    }

    private protected async Task RunAsync(string name, string spec, string annotations = "{}", int grace = 5)
    {
        await cluster.BeInstalledBesideOthersAsync();
        await ApplyAsync($$"""
            apiVersion: v1
            kind: Pod
            metadata: {name: {{name}}, labels: {end-to-end: passing}, annotations: {{annotations}}}
            spec:
              runtimeClassName: skiff
              terminationGracePeriodSeconds: {{grace}}
              automountServiceAccountToken: false
              {{spec.ReplaceLineEndings("\n  ")}}
            """);
    }

    private async Task ApplyAsync(string yaml) => (await cluster.KubectlWithAsync(yaml, "apply", "-f", "-")).Demand();

    private protected Task BecomesAsync(string pod, string path, string value) => Cluster.UntilAsync(
        $"{path} of {pod} is {value}", async () => await cluster.FieldAsync(pod, path) == value, () => cluster.TryKubectlAsync("describe", "pod", pod));

    private protected Task SaysAsync(string pod, string container, string text) => Cluster.UntilAsync(
        $"{container} of {pod} says {text}",
        async () => await cluster.LogAsync(pod, container) == text,
        () => cluster.TryKubectlAsync("logs", pod, "-c", container));
}

[Collection("containerd 1.6")]
[Trait(Cluster.On, "1.6")]
public sealed class FeaturesOnContainerd16(ClusterOn16 cluster) : FeatureTests(cluster);

[Collection("containerd 2.4")]
[Trait(Cluster.On, "2.4")]
public sealed class FeaturesOnContainerd24(ClusterOn24 cluster) : FeatureTests(cluster)
{
    private const string RuncFolder = "/run/newer-runc";
    private const string DropInFolder = "/run/systemd/system/containerd.service.d";

    private readonly ClusterOn24 _cluster = cluster;

    [Fact]
    public async Task a_read_only_volume_is_read_only_all_the_way_down()
    {
        var node = _cluster.Nodes[1];
        _ = await node.RunAsync("bash", "-c", "mkdir -p /var/tmp/deep/below && mount -t tmpfs none /var/tmp/deep/below");
        try
        {
            await RunAsync("deep", $$$"""
                nodeName: {{{node.Name}}}
                restartPolicy: Never
                containers:
                - name: wasm
                  image: skiff.test/guests:1
                  command: [/show.wasm, "write:/usual/below/file=x", "write:/deep/below/no=x"]
                  volumeMounts:
                  - {name: host, mountPath: /usual, readOnly: true}
                  - {name: host, mountPath: /deep, readOnly: true, recursiveReadOnly: Enabled}
                volumes: [{name: host, hostPath: {path: /var/tmp/deep}}]
                """);
            await BecomesAsync("deep", "{.status.containerStatuses[0].state.terminated.exitCode}", "1");
            Assert.Equal("wrote /usual/below/file\n/deep/below/no: I/O error\n", await _cluster.KubectlAsync("logs", "deep"));
        }
        finally
        {
            _ = await node.RunAsync("bash", "-c", "umount /var/tmp/deep/below; rm -r /var/tmp/deep");
        }
    }

    /// <summary>On a node of this machine's own kernel: that of the virtual ones maps no owners of a <c>tmpfs</c>.</summary>
    [Fact]
    public async Task a_pod_with_users_of_its_own_has_its_volumes_and_its_root_is_nobody_on_the_node()
    {
        // A folder of the file system below: the node's own root is an overlay, which cannot be shown with mapped owners.
        const string Volume = "/var/lib/kubelet/users";
        await _cluster.BeInstalledBesideOthersAsync();
        var node = _cluster.Nodes[1];
        _ = await node.RunAsync("mkdir", Volume);
        await UseNewerRuncAsync(node);
        try
        {
            _ = await _cluster.KubectlAsync("create", "configmap", "users", "--from-literal=key=from the map");
            await RunAsync("users", $$$"""
                nodeName: {{{node.Name}}}
                hostUsers: false
                containers:
                - name: wasm
                  image: skiff.test/guests:1
                  command: [/show.wasm, "file:/config/key", "write:/scratch/new=text", "write:/host/new=text", "write:/own=x", stay]
                  volumeMounts: [{name: config, mountPath: /config}, {name: scratch, mountPath: /scratch}, {name: host, mountPath: /host}]
                - name: native
                  image: skiff.test/guests:1
                  command: [/show.native, "file:/proc/self/uid_map", stay]
                volumes: [{name: config, configMap: {name: users}}, {name: scratch, emptyDir: {}}, {name: host, hostPath: {path: {{{Volume}}}}}]
                """);
            await _cluster.PodIsReadyAsync("users");
            await SaysAsync("users", "wasm", "/config/key=from the map\nwrote /scratch/new\nwrote /host/new\nwrote /own\nstays\n");
            Assert.Equal("0", (await node.RunAsync("stat", "--format=%u", Volume + "/new")).Trim());
            Assert.Matches("uid_map= +0 +[1-9]", await _cluster.KubectlAsync("logs", "users", "-c", "native"));
            Assert.Equal("hello from wasm, 1 arguments\n", await _cluster.KubectlAsync("exec", "users", "-c", "wasm", "--", "/hello.wasm"));
        }
        finally
        {
            _ = await _cluster.KubectlAsync("delete", "pod/users", "configmap/users", "--ignore-not-found", "--timeout=180s");
            _ = await node.RunAsync("rm", "-r", Volume);
            await UseItsOwnRuncAsync(node);
        }
    }

    /// <summary>
    /// Gives a node's containerd the runc that it came with; the node's own is too old for user namespaces. All of it is below /run: what is
    /// on the node's disk is compared by the test of the uninstall.
    /// </summary>
    private async Task UseNewerRuncAsync(ClusterNode node)
    {
        var (binaries, _) = await ContainerdVersion.Named(_cluster.Containerd).LocateAsync();
        _ = Directory.CreateDirectory(node.Root + RuncFolder);
        File.Copy(Path.Combine(binaries!, "runc"), node.Root + RuncFolder + "/runc");
        _ = await node.RunAsync("mkdir", "-p", DropInFolder);
        await File.WriteAllTextAsync(
            $"{node.Root}{DropInFolder}/runc.conf", $"[Service]\nEnvironment=PATH={RuncFolder}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n");
        await OffersUsersAsync(node, true);
    }

    /// <summary>Takes that back.</summary>
    private async Task UseItsOwnRuncAsync(ClusterNode node)
    {
        _ = await node.RunAsync("rm", "-r", RuncFolder, DropInFolder);
        await OffersUsersAsync(node, false);
    }

    /// <summary>Restarts containerd, which asks its runtimes then what they can do, until the node says this of our handler.</summary>
    private async Task OffersUsersAsync(ClusterNode node, bool offered)
    {
        _ = await node.RunAsync("systemctl", "daemon-reload");
        _ = await node.RunAsync("systemctl", "restart", "containerd");
        await Cluster.UntilAsync(
            $"{node.Name} {(offered ? "offers" : "no longer offers")} user namespaces",
            async () => FieldTemplate.Apply(
                """{.status.runtimeHandlers[?(@.name=="skiff")].features.userNamespaces}""", await _cluster.FindAsync("api/v1/nodes/" + node.Name)) == (offered ? "true" : "false"),
            () => _cluster.TryKubectlAsync("get", "node", node.Name, "-o", "yaml"));
    }
}
