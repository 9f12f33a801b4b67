using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json.Nodes;
using Skiff.Linux.Processes;
using Skiff.Testing;

namespace Skiff.EndToEnd;

/// <summary>A component that serves HTTP, behind a Service (config/samples/http.yaml).</summary>
public abstract class ServiceTests(Cluster cluster, ITestOutputHelper output) : IAsyncDisposable
{
    private const string Manifest = "config/samples/http.yaml";
    private const string TcpManifest = "config/samples/tcp.yaml";

    private const string Image = "skiff.dev/web:1"; // the samples'
    private const string TcpImage = "skiff.dev/net:1";
    private const string ClientImage = "skiff.dev/fetch:1";
    private const string LoadImage = "skiff.test/wrk:1";
    private const string Client = "http-client";
    private const int Connections = 16;

    private static readonly TimeSpan _answerLimit = TimeSpan.FromMinutes(2);

    // A connection that is begun before the node knows the Service goes nowhere and stays so; the next one is let through.
    private static readonly TimeSpan _tryLimit = TimeSpan.FromSeconds(5);

    [Fact]
    public async Task three_replicas_answer_and_a_rollout_under_load_fails_no_request()
    {
        var address = await DeployAsync();
        using var stop = new CancellationTokenSource();
        ConcurrentQueue<string> failures = [];
        var answered = 0;
        var load = Enumerable.Range(0, Connections).Select(_ => RequestAsync(address, () => Interlocked.Increment(ref answered), failures.Enqueue, stop.Token)).ToList();
        await Cluster.UntilAsync("the load runs", () => Task.FromResult(answered > 10 * Connections), () => cluster.TryKubectlAsync("get", "pods", "-o", "wide"));
        var before = answered;
        _ = await cluster.KubectlAsync("rollout", "restart", "deployment/web");
        _ = await cluster.KubectlAsync("rollout", "status", "deployment/web", "--timeout=180s");

        // The last of the old ones are still ending.
        await Cluster.UntilAsync(
            "three pods are left",
            async () => (await cluster.KubectlAsync("get", "pods", "-l", "app=web", "-o", "name")).Split('\n', StringSplitOptions.RemoveEmptyEntries).Length == 3,
            () => cluster.TryKubectlAsync("get", "pods", "-o", "wide"));
        await stop.CancelAsync();
        await Task.WhenAll(load);
        output.WriteLine($"{answered} requests answered, {answered - before} of them since the rollout began");
        Assert.Equal([], failures);
        Assert.True(answered > before + (10 * Connections), $"{answered} requests answered, {before} before the rollout");
    }

    [Fact]
    public async Task another_pod_and_port_forward_reach_it_and_the_kubelet_knows_what_it_uses()
    {
        var address = await DeployAsync();
        await cluster.LoadAsync(new ImageArchive(ClientImage) { Entrypoint = "/fetch.wasm" }.File("fetch.wasm", await ComponentAsync("fetch")));
        await cluster.ApplyAsync(JsonNode.Parse($$"""
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "{{Client}}" }, "spec": {"runtimeClassName": "skiff", "restartPolicy": "Never",
             "containers": [{"name": "fetch", "image": "{{ClientImage}}", "args": ["http://{{address}}/"]}] } }
            """)!);
        await cluster.PodAsync(Client, "jsonpath={.status.phase}=Succeeded");
        Assert.Equal("200 hello\n\n", await cluster.LogAsync(Client, "fetch"));

        Assert.Equal("hello\n", await cluster.ForwardAsync("deployment/web", 8080, "curl --silent --max-time 60 http://127.0.0.1:$port/"));

        // What `kubectl top` shows comes from here.
        await Cluster.UntilAsync(
            "the kubelet has statistics of it",
            async () => (await Task.WhenAll(cluster.Nodes.Select(n => cluster.FindAsync($"api/v1/nodes/{n.Name}/proxy/stats/summary"))))
                .SelectMany(s => s?["pods"]?.AsArray() ?? [])
                .Where(p => ((string)p!["podRef"]!["name"]!).StartsWith("web-", StringComparison.Ordinal))
                .Any(p => p!["containers"]?[0] is { } c && (long?)c["memory"]?["workingSetBytes"] > 1 << 20 && (long?)c["cpu"]?["usageCoreNanoSeconds"] > 0),
            () => cluster.TryKubectlAsync("get", "pods", "-o", "wide"));
    }

    [Fact]
    public async Task a_sidecar_reaches_a_server_that_listens_for_its_pod_alone()
    {
        var address = await DeployAsync();
        await cluster.ApplyAsync(JsonNode.Parse($$"""
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "{{Client}}", "annotations": {"app.skiff.dev/http-listen": "127.0.0.1:8081"} },
             "spec": {"runtimeClassName": "skiff",
              "initContainers": [{"name": "proxy", "image": "{{Image}}", "restartPolicy": "Always", "startupProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1} }],
              "containers": [{"name": "app", "image": "{{Image}}"}] } }
            """)!);
        await cluster.PodIsReadyAsync(Client);
        foreach (var other in new[] { "127.0.0.1:8081", $"{address}" })
        {
            Assert.Equal("200 hello\n", await cluster.ForwardAsync($"pod/{Client}", 8080, $"curl --silent --max-time 60 \"http://127.0.0.1:$port/fetch?url=http://{other}/\""));
        }

        var pod = IPAddress.Parse(await cluster.FieldAsync(Client, "{.status.podIP}"));
        _ = await Assert.ThrowsAsync<SocketException>(() => ConnectAsync(new IPEndPoint(pod, 8081)));
    }

    [Fact]
    public async Task load_from_another_pod_fails_no_request()
    {
        var address = await DeployAsync();
        await cluster.LoadAsync(await LoadImageAsync());
        await cluster.ApplyAsync(JsonNode.Parse($$"""
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "{{Client}}" }, "spec": {"restartPolicy": "Never",
             "containers": [{"name": "wrk", "image": "{{LoadImage}}", "command": ["/ld.so", "--library-path", "/", "/wrk"],
                             "args": ["-t", "2", "-c", "64", "-d", "{{Repetitions.Of(5, 60)}}s", "--timeout", "30s", "--latency", "http://{{address}}/"]}] } }
            """)!);
        await cluster.PodAsync(Client, "jsonpath={.status.phase}=Succeeded");
        var log = await cluster.LogAsync(Client, "wrk");
        output.WriteLine(log);
        Assert.Matches(@"\n +[1-9]\d* requests in ", log);
        Assert.DoesNotContain("Socket errors", log, StringComparison.Ordinal);
        Assert.DoesNotContain("Non-2xx", log, StringComparison.Ordinal);
    }

    [Fact]
    public async Task a_request_that_eats_memory_ends_a_server_that_then_serves_again()
    {
        var address = await DeployAsync();
        using (var socket = await ConnectAsync(address))
        {
            Assert.Equal("", await AskAsync(socket, "/eat")); // the connection ends with its server
        }

        var pod = "";
        await Cluster.UntilAsync(
            "one has been killed and has come back",
            async () =>
            {
                var killed = (await cluster.KubectlAsync(
                    "get", "pods", "-l", "app=web", "-o", "jsonpath={range .items[?(@.status.containerStatuses[0].lastState.terminated.reason==\"OOMKilled\")]}{.metadata.name} {.status.containerStatuses[0].ready}{end}")).Split(' ');
                pod = killed[0];
                return killed is [_, "true"];
            },
            () => cluster.TryKubectlAsync("describe", "pods", "-l", "app=web"));
        var uid = await cluster.FieldAsync(pod, "{.metadata.uid}");
        await Cluster.UntilAsync(
            $"{pod} has its event", async () => (await cluster.EventsAsync(uid)).Any(e => (string)e["reason"]! == "OOMKilled"), () => cluster.TryKubectlAsync("describe", "pod", pod));
        using var again = await ConnectAsync(new IPEndPoint(IPAddress.Parse(await cluster.FieldAsync(pod, "{.status.podIP}")), 8080));
        Assert.StartsWith("HTTP/1.1 200 OK", await AskAsync(again, "/"), StringComparison.Ordinal);
    }

    [Fact]
    public async Task a_tcp_server_is_ready_by_its_port_and_reached_through_its_service()
    {
        await cluster.BeInstalledBesideOthersAsync();
        await cluster.LoadAsync(new ImageArchive(TcpImage) { Entrypoint = "/net.wasm" }.File("net.wasm", await ComponentAsync("net")));
        _ = await cluster.KubectlAsync("apply", "-f", TcpManifest);
        await cluster.PodIsReadyAsync("tcp-server");
        using var socket = await ConnectAsync(await ServiceAsync("tcp-server", 7000));
        await using var stream = new NetworkStream(socket);
        await stream.WriteAsync("from the node"u8.ToArray());
        socket.Shutdown(SocketShutdown.Send);
        using var reader = new StreamReader(stream);
        using var limit = new CancellationTokenSource(_answerLimit);
        Assert.Equal("you said from the node", await reader.ReadToEndAsync(limit.Token));
    }

    public async ValueTask DisposeAsync()
    {
        if (cluster.Nodes.Count > 0)
        {
            _ = await cluster.KubectlAsync("delete", "pod", Client, "--ignore-not-found");
            _ = await cluster.KubectlAsync("delete", "-f", Manifest, "-f", TcpManifest, "--ignore-not-found", "--cascade=foreground", "--timeout=180s");
        }

        GC.SuppressFinalize(this);
    }

    /// <returns>Where the Service is.</returns>
    private async Task<IPEndPoint> DeployAsync()
    {
        await cluster.BeInstalledBesideOthersAsync();
        await cluster.LoadAsync(new ImageArchive(Image) { Entrypoint = "/web.wasm" }.File("web.wasm", await ComponentAsync("web")));
        _ = await cluster.KubectlAsync("apply", "-f", Manifest);
        _ = await cluster.KubectlAsync("rollout", "status", "deployment/web", "--timeout=180s");
        return await ServiceAsync("web", 80);
    }

    /// <summary>Where a Service is, once the first node lets connections through to it.</summary>
    private async Task<IPEndPoint> ServiceAsync(string name, int port)
    {
        var address = new IPEndPoint(IPAddress.Parse(await cluster.KubectlAsync("get", "service", name, "-o", "jsonpath={.spec.clusterIP}")), port);
        var tries = 0;
        await Cluster.UntilAsync(
            $"the Service {name} takes connections",
            async () =>
            {
                tries++;
                try
                {
                    (await ConnectAsync(address, _tryLimit)).Dispose();
                    return true;
                }
                catch (Exception e) when (e is SocketException or OperationCanceledException)
                {
                    return false;
                }
            },
            () => cluster.TryKubectlAsync("get", "endpointslices", "-o", "yaml"));
        output.WriteLine($"the Service {name} took connection {tries}");
        return address;
    }

    private static async Task<byte[]> ComponentAsync(string name)
    {
        var path = Path.Combine(Repository.Guests, "components", name + ".wasm");
        if (!File.Exists(path))
        {
            Assert.Skip($"no {path}: hack/guests makes it with tools from beside this repository");
        }

        return await File.ReadAllBytesAsync(path);
    }

    /// <summary>This machine's wrk, with the libraries that it names.</summary>
    private static async Task<ImageArchive> LoadImageAsync()
    {
        const string program = "/usr/bin/wrk";
        var image = new ImageArchive(LoadImage).File("wrk", await File.ReadAllBytesAsync(program));
        var named = (await Command.RunAsync(new SpawnRequest { Path = "/usr/bin/ldd", Arguments = ["ldd", program], Environment = ["PATH=/usr/bin:/bin"] }, _answerLimit)).OutputText;
        foreach (var words in named.Split('\n').Select(l => l.Split(' ', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)))
        {
            _ = words switch
            {
                [var name, "=>", ['/', ..] path, ..] => image.File(name, await File.ReadAllBytesAsync(path)),
                [['/', ..] loader, _] => image.File("ld.so", await File.ReadAllBytesAsync(loader)),
                _ => image,
            };
        }

        return image;
    }

    /// <summary>Asks again and again on one connection, as a client does that keeps them: another one only once an answer says that this one closes.</summary>
    private static async Task RequestAsync(IPEndPoint address, Action answered, Action<string> failed, CancellationToken cancellation)
    {
        Socket? socket = null;
        while (!cancellation.IsCancellationRequested)
        {
            try
            {
                socket ??= await ConnectAsync(address);
                var answer = await AskAsync(socket, "/");
                if (!answer.StartsWith("HTTP/1.1 200 OK\r\n", StringComparison.Ordinal))
                {
                    failed(answer.Length == 0 ? "the connection was closed" : answer);
                    return;
                }

                answered();
                if (answer.Contains("\r\nconnection: close\r\n", StringComparison.OrdinalIgnoreCase))
                {
                    socket.Dispose();
                    socket = null;
                }
            }
            catch (Exception e) when (e is SocketException or OperationCanceledException)
            {
                failed(e.Message);
                return;
            }
        }

        socket?.Dispose();
    }

    private static async Task<Socket> ConnectAsync(IPEndPoint address, TimeSpan? atMost = null)
    {
        using var limit = new CancellationTokenSource(atMost ?? _answerLimit);
        return await NetworkNamespace.ConnectAsync("kn1", address, limit.Token); // from the first node
    }

    /// <returns>The answer, of which its head says the length; empty when the connection is closed instead.</returns>
    private static async Task<string> AskAsync(Socket socket, string path)
    {
        using var limit = new CancellationTokenSource(_answerLimit);
        _ = await socket.SendAsync(Encoding.ASCII.GetBytes($"GET {path} HTTP/1.1\r\nHost: web\r\n\r\n"), limit.Token);
        var buffer = new byte[4096];
        var text = "";
        while (true)
        {
            int count;
            try
            {
                count = await socket.ReceiveAsync(buffer, limit.Token);
            }
            catch (SocketException e) when (e.SocketErrorCode == SocketError.ConnectionReset)
            {
                return "";
            }

            if (count == 0)
            {
                return "";
            }

            text += Encoding.ASCII.GetString(buffer, 0, count);
            var end = text.IndexOf("\r\n\r\n", StringComparison.Ordinal);
            var length = text.IndexOf("content-length: ", StringComparison.OrdinalIgnoreCase);
            if (end >= 0 && (length < 0 || text.Length >= end + 4 + int.Parse(text[(length + 16)..].Split('\r')[0], System.Globalization.CultureInfo.InvariantCulture)))
            {
                return text;
            }
        }
    }
}

[Collection("containerd 1.6")]
[Trait(Cluster.On, "1.6")]
public sealed class ServicesOnContainerd16(ClusterOn16 cluster, ITestOutputHelper output) : ServiceTests(cluster, output);

[Collection("containerd 2.4")]
[Trait(Cluster.On, "2.4")]
public sealed class ServicesOnContainerd24(ClusterOn24 cluster, ITestOutputHelper output) : ServiceTests(cluster, output);
