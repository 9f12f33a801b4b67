using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json.Nodes;
using Skiff.Testing;

namespace Skiff.Contract.Pods;

/// <summary>A component has the network of its pod, as any container has.</summary>
public sealed class NetworkTests(Containerds containerds)
{
    private const string Gateway = "10.89.0.1"; // PrivateContainerd's bridge

    [Theory]
    [MemberData(nameof(Containerds.Versions), MemberType = typeof(Containerds))]
    public async Task components_reach_each_other_by_tcp_and_udp_within_a_pod_and_from_pod_to_pod(string version)
    {
        var containerd = await containerds.GetForPodsAsync(version);
        await using var server = await Pod.RunAsync(containerd);
        var tcp = await server.StartAsync(Component("net"), "/net.wasm", "listen", "0.0.0.0:7000");
        var udp = await server.StartAsync(Component("net"), "/net.wasm", "udp-listen", "0.0.0.0:7000");
        var tcp6 = await server.StartAsync(Component("net"), "/net.wasm", "listen", "[::1]:7001");
        foreach (var id in (string[])[tcp, udp, tcp6])
        {
            await server.SaysAsync(id, "listens on");
        }

        await using var client = await Pod.RunAsync(containerd);
        var address = await server.AddressAsync();
        Assert.Equal("you said from another pod\n", await OutputAsync(client, "dial", $"{address}:7000", "from another pod"));
        Assert.Equal("you said a datagram\n", await OutputAsync(client, "udp-send", $"{address}:7000", "a datagram"));
        Assert.Equal("you said from a neighbour\n", await OutputAsync(server, "dial", "[::1]:7001", "from a neighbour"));
        Assert.Equal("ConnectionRefused\n", await OutputAsync(client, "dial", $"{address}:7002", "nobody is there"));
    }

    [Theory]
    [MemberData(nameof(Containerds.Versions), MemberType = typeof(Containerds))]
    public async Task names_are_looked_up_in_the_hosts_file_and_by_the_pods_dns_server_and_no_image_has_to_help(string version)
    {
        var containerd = await containerds.GetForPodsAsync(version);
        var hosts = Path.Combine(containerd.Folder, "hosts-" + ProgramTests.Id());
        await File.WriteAllTextAsync(hosts, "127.0.0.1 localhost\n10.1.2.3 named.here\n");
        await using var pod = await Pod.RunAsync(containerd, new JsonObject { ["dns_config"] = new JsonObject { ["servers"] = new JsonArray(Gateway), ["searches"] = new JsonArray("pods.test") } });
        using var server = NetworkNamespace.Inside(containerd.Name, () =>
        {
            var socket = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
            socket.Bind(new IPEndPoint(IPAddress.Parse(Gateway), 53));
            return socket;
        });
        using var stop = new CancellationTokenSource();
        var answering = AnswerAsync(server, stop.Token);
        foreach (var (name, outcome) in ((string, string)[])[("named.here", "10.1.2.3"), ("served.pods.test", "10.4.5.6"), ("served", "10.4.5.6")])
        {
            var settings = Component("net");
            settings["mounts"]!.AsArray().Add((JsonNode)new JsonObject { ["container_path"] = "/etc/hosts", ["host_path"] = hosts, ["readonly"] = true });
            Assert.Equal(outcome + "\n", (await pod.RunToEndAsync(settings, "/net.wasm", "lookup", name)).Log);
        }

        var (status, log) = await pod.RunToEndAsync(Component("net"), "/net.wasm", "lookup", "nowhere.test");
        Assert.Equal(1, status.GetProperty("exitCode").GetInt32());
        Assert.Contains("Name", log, StringComparison.OrdinalIgnoreCase);
        await stop.CancelAsync();
        await answering;
    }

    [Theory]
    [MemberData(nameof(Containerds.Versions), MemberType = typeof(Containerds))]
    public async Task a_container_without_network_gets_the_ordinary_error_and_its_neighbour_goes_on(string version)
    {
        var containerd = await containerds.GetForPodsAsync(version);
        await using var pod = await Pod.RunAsync(containerd, new JsonObject { ["annotations"] = new JsonObject { ["closed.skiff.dev/network"] = "none" } });
        var open = await pod.StartAsync(Component("net"), "/net.wasm", "listen", "0.0.0.0:7000");
        await pod.SaysAsync(open, "listens on");
        foreach (var command in (string[][])[["dial", "127.0.0.1:7000", "x"], ["listen", "0.0.0.0:7003"], ["udp-send", "127.0.0.1:7000", "x"]])
        {
            var (status, log) = await pod.RunToEndAsync(Named("closed", Component("net")), ["/net.wasm", .. command]);
            Assert.Equal(1, status.GetProperty("exitCode").GetInt32());
            Assert.StartsWith("PermissionDenied\n", log, StringComparison.Ordinal);
        }

        // A native program has none either: it is the container's, not the engine's alone.
        Assert.DoesNotContain("eth0", (await pod.RunToEndAsync(Named("closed", []), "/cat.native", "/proc/net/dev")).Log, StringComparison.Ordinal);
        Assert.Equal("you said still there\n", await OutputAsync(pod, "dial", "127.0.0.1:7000", "still there"));
    }

    /// <summary>A container with a component of artifacts/guests/components mounted into its root.</summary>
    internal static JsonObject Component(string name)
    {
        var path = Path.Combine(Repository.Guests, "components", name + ".wasm");
        if (!File.Exists(path))
        {
            Assert.Skip($"no {path}: hack/guests makes it with tools from beside this repository");
        }

        return new JsonObject
        {
            ["mounts"] = new JsonArray(new JsonObject { ["container_path"] = $"/{name}.wasm", ["host_path"] = path, ["readonly"] = true }),
        };
    }

    private static JsonObject Named(string name, JsonObject settings)
    {
        settings["metadata"] = new JsonObject { ["name"] = name, ["attempt"] = Random.Shared.Next() };
        return settings;
    }

    private static async Task<string> OutputAsync(Pod pod, params string[] words)
    {
        var id = await pod.StartAsync(Component("net"), ["/net.wasm", .. words]);
        _ = await pod.EndAsync(id);
        return (await pod.LogAsync(id)).Split("\n")[0] + "\n";
    }

    /// <summary>A DNS server that knows one name (RFC 1035, section 4).</summary>
    private static async Task AnswerAsync(Socket socket, CancellationToken cancellation)
    {
        var buffer = new byte[512];
        try
        {
            while (true)
            {
                var query = await socket.ReceiveFromAsync(buffer, SocketFlags.None, new IPEndPoint(IPAddress.Any, 0), cancellation);
                var end = Array.IndexOf(buffer, (byte)0, 12) + 5; // of the question: name, type, class
                var isServed = Encoding.ASCII.GetString(buffer, 12, end - 12).StartsWith("\u0006served\u0004pods\u0004test\0", StringComparison.Ordinal);
                var hasAnswer = isServed && buffer[end - 3] == 1; // an A record
                byte[] answer =
                [
                    buffer[0], buffer[1], 0x81, (byte)(isServed ? 0x80 : 0x83), 0, 1, 0, (byte)(hasAnswer ? 1 : 0), 0, 0, 0, 0, .. buffer[12..end],
                    .. hasAnswer ? (byte[])[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 4, 5, 6] : [],
                ];
                _ = await socket.SendToAsync(answer, SocketFlags.None, query.RemoteEndPoint, cancellation);
            }
        }
        catch (OperationCanceledException)
        {
        }
    }
}
