using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Skiff.Containerd.Containers;
using Skiff.Testing;

namespace Skiff.Contract.Pods;

/// <summary>Components that answer HTTP requests, and ones that make them.</summary>
public sealed class HttpTests(Containerds containerds)
{
    private const int Port = 8080; // where a server listens unless an annotation says otherwise
    private const int Mebibyte = 1 << 20;

    [Theory]
    [MemberData(nameof(Containerds.Versions), MemberType = typeof(Containerds))]
    public async Task a_server_answers_with_its_environment_and_says_what_it_says_in_plain_lines(string version)
    {
        var containerd = await containerds.GetForPodsAsync(version);
        await using var pod = await Pod.RunAsync(containerd);
        var settings = NetworkTests.Component("web");
        settings["envs"] = new JsonArray(new JsonObject { ["key"] = "GREETING", ["value"] = "hello there" });
        var id = await ServeAsync(pod, settings, "/web.wasm");
        using var client = await ClientAsync(containerd, pod);
        Assert.Equal("hello\n", await client.GetStringAsync("/"));
        var environment = JsonDocument.Parse(await client.GetStringAsync("/environment")).RootElement.GetProperty("environment");
        Assert.Equal("hello there", environment.GetProperty("GREETING").GetString());
        Assert.Equal(HttpStatusCode.NotFound, (await client.GetAsync("/nowhere")).StatusCode);
        Assert.Equal("sent there and back", await (await client.PostAsync("/echo", new StringContent("sent there and back"))).Content.ReadAsStringAsync());
        Assert.Equal("logged\n", await client.GetStringAsync("/log"));
        await pod.SaysAsync(id, "\na line of errors\n");
        await pod.SaysAsync(id, "a line of output\n");

        // Each request has an instance of its own.
        Assert.Equal(["1\n", "1\n"], [await client.GetStringAsync("/answered"), await client.GetStringAsync("/answered")]);
    }

    [Theory]
    [MemberData(nameof(Containerds.Versions), MemberType = typeof(Containerds))]
    public async Task it_listens_where_an_annotation_says_and_an_instance_answers_as_often(string version)
    {
        var containerd = await containerds.GetForPodsAsync(version);
        await using var pod = await Pod.RunAsync(
            containerd, new JsonObject { ["annotations"] = new JsonObject { ["skiff.dev/http-listen"] = "0.0.0.0:81", ["skiff.dev/http-reuse"] = "2" } });
        _ = await ServeAsync(pod, NetworkTests.Component("web"), "/web.wasm");
        using var client = await ClientAsync(containerd, pod, 81);

        // What JavaScript's tools make answers once: a request to an instance that has answered fails in it. The engine drops an instance that
        // nobody asked for a second, so on a slow machine the first try may not find one.
        Assert.True(await Until.HoldsAsync(async () => (await client.GetAsync("/answered")).StatusCode == HttpStatusCode.InternalServerError, RunningContainer.Patience));
    }

    [Theory]
    [MemberData(nameof(Containerds.Versions), MemberType = typeof(Containerds))]
    public async Task it_finishes_what_it_has_begun_when_it_is_told_to_end(string version)
    {
        var containerd = await containerds.GetForPodsAsync(version);
        await using var pod = await Pod.RunAsync(containerd);
        var id = await ServeAsync(pod, NetworkTests.Component("web"), "/web.wasm");
        using var begun = await ConnectAsync(containerd, pod);
        Assert.StartsWith("HTTP/1.1 200 ", await SaidAsync(begun, "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nearly\r\n", "early"), StringComparison.Ordinal);

        var stop = containerd.CrictlAsync("stop", "--timeout", "60", id);
        Assert.True(await Until.HoldsAsync(() => IsRefusedAsync(containerd, pod), RunningContainer.Patience));
        Assert.EndsWith("late\r\n0\r\n\r\n", await SaidAsync(begun, "4\r\nlate\r\n0\r\n\r\n", "0\r\n\r\n"), StringComparison.Ordinal);
        _ = (await stop).Demand();
        Assert.Equal(0, (await pod.EndAsync(id)).GetProperty("exitCode").GetInt32());
    }

    [Fact]
    [Trait(Containerds.Runs, Containerds.Once)]
    public async Task told_to_end_under_load_it_loses_no_request_of_a_connection_that_it_has_accepted()
    {
        var containerd = await containerds.GetForPodsAsync("1.6");
        await using var pod = await Pod.RunAsync(containerd);
        var id = await ServeAsync(pod, NetworkTests.Component("web"), "/web.wasm");
        var answered = 0;
        ConcurrentQueue<string> lost = [];
        var load = Enumerable.Range(0, 32).Select(_ => Task.Run(AskAsync)).ToList();
        Assert.True(await Until.HoldsAsync(() => Task.FromResult(answered > 320), RunningContainer.Patience));
        _ = (await containerd.CrictlAsync("stop", "--timeout", "60", id)).Demand();
        Assert.Equal(0, (await pod.EndAsync(id)).GetProperty("exitCode").GetInt32());
        await Task.WhenAll(load);
        Assert.Equal([], lost);

        async Task AskAsync()
        {
            while (await TryConnectAsync(containerd, pod) is { } connection)
            {
                using (connection)
                {
                    for (var asked = 0; ; asked++)
                    {
                        var answer = await AnswerAsync(connection, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "hello\n");
                        if (!answer.EndsWith("hello\n", StringComparison.Ordinal))
                        {
                            if (asked > 0 || answer.Length > 0) // else it was never accepted
                            {
                                lost.Enqueue($"request {asked} of a connection: \"{answer}\"");
                            }

                            break;
                        }

                        _ = Interlocked.Increment(ref answered);
                        if (answer.Contains("connection: close", StringComparison.Ordinal))
                        {
                            break;
                        }
                    }
                }
            }
        }
    }

    [Theory]
    [MemberData(nameof(Containerds.Versions), MemberType = typeof(Containerds))]
    public async Task a_request_that_traps_is_a_500_and_an_event_and_the_server_goes_on(string version)
    {
        var containerd = await containerds.GetForPodsAsync(version);
        using var watch = new ContainerWatch("/", containerd.Socket);
        using var stop = new CancellationTokenSource();
        ConcurrentQueue<ContainerEvent> events = [];
        var following = watch.FollowAsync(events.Enqueue, stop.Token);
        await using (var pod = await Pod.RunAsync(containerd))
        {
            var id = await ServeAsync(pod, NetworkTests.Component("http-trap"), "/http-trap.wasm");
            using var client = await ClientAsync(containerd, pod);
            for (var i = 0; i < 3; i++)
            {
                Assert.Equal(HttpStatusCode.InternalServerError, (await client.GetAsync("/")).StatusCode);
            }

            await pod.SaysAsync(id, "wasm trap: wasm `unreachable` instruction executed");
            Assert.True(await Until.HoldsAsync(() => Task.FromResult(events.OfType<GuestTrapped>().Any(e => e.ContainerId == id)), RunningContainer.Patience));
            Assert.Equal(new GuestTrapped(id, IsExec: false, 9, "wasm trap: wasm `unreachable` instruction executed", Requests: 1), events.OfType<GuestTrapped>().First(e => e.ContainerId == id));
        }

        await stop.CancelAsync();
        _ = await Assert.ThrowsAsync<OperationCanceledException>(() => following);
    }

    [Fact]
    [Trait(Containerds.Runs, Containerds.Once)]
    public async Task a_server_of_wasi_0_3_answers_and_its_instances_answer_many()
    {
        var containerd = await containerds.GetForPodsAsync("1.6");
        await using var pod = await Pod.RunAsync(containerd);
        _ = await ServeAsync(pod, NetworkTests.Component("http-0-3"), "/http-0-3.wasm");
        using var client = await ClientAsync(containerd, pod);

        // The engine drops an instance that nobody asked for a second, and then there is a new one, which begins with 200.
        var status = 0;
        Assert.True(await Until.HoldsAsync(async () => (status = (int)(await client.GetAsync("/")).StatusCode) >= 203, RunningContainer.Patience), $"last {status}");
    }

    [Fact]
    [Trait(Containerds.Runs, Containerds.Once)]
    public async Task bodies_stream_both_ways_at_once_however_large_in_the_memory_that_the_container_has()
    {
        var containerd = await containerds.GetForPodsAsync("1.6");
        await using var pod = await Pod.RunAsync(containerd);
        _ = await ServeAsync(pod, Limited(NetworkTests.Component("web")), "/web.wasm");
        using var connection = await ConnectAsync(containerd, pod);
        using var limit = new CancellationTokenSource(RunningContainer.Patience);
        var block = new byte[Mebibyte];
        var sending = Task.Run(
            async () =>
            {
                await SendAsync("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"u8.ToArray());
                for (var i = 0; i < 100; i++)
                {
                    await SendAsync([.. "100000\r\n"u8, .. block, .. "\r\n"u8]);
                }

                await SendAsync("0\r\n\r\n"u8.ToArray());
            },
            limit.Token);
        var answer = new byte[Mebibyte];
        var end = "";
        long received = 0;
        while (!end.EndsWith("\r\n0\r\n\r\n", StringComparison.Ordinal))
        {
            var count = await connection.ReceiveAsync(answer, limit.Token);
            Assert.True(count > 0, $"the connection was closed after {received} bytes");
            received += answer.AsSpan(0, count).Count((byte)0);
            end += Encoding.ASCII.GetString(answer, Math.Max(0, count - 16), Math.Min(16, count));
            end = end[^Math.Min(16, end.Length)..];
        }

        await sending;
        Assert.Equal(100L * Mebibyte, received);

        async Task SendAsync(byte[] bytes)
        {
            for (var sent = 0; sent < bytes.Length;)
            {
                sent += await connection.SendAsync(bytes.AsMemory(sent), limit.Token);
            }
        }
    }

    [Fact]
    [Trait(Containerds.Runs, Containerds.Once)]
    public async Task what_bad_clients_do_is_bounded_and_the_server_goes_on()
    {
        var containerd = await containerds.GetForPodsAsync("1.6");
        await using var pod = await Pod.RunAsync(containerd);
        var id = await ServeAsync(pod, Limited(NetworkTests.Component("web")), "/web.wasm");
        using var client = await ClientAsync(containerd, pod);

        // A head that is too long, a body that nobody reads and that does not end, answers that their clients do not read.
        using (var head = await ConnectAsync(containerd, pod))
        {
            Assert.StartsWith("HTTP/1.1 431 ", await SaidAsync(head, $"GET / HTTP/1.1\r\nHost: a\r\nX: {new string('x', Mebibyte)}\r\n\r\n", "\r\n"), StringComparison.Ordinal);
        }

        using var body = await ConnectAsync(containerd, pod);
        Assert.StartsWith("HTTP/1.1 200 ", await SaidAsync(body, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + $"100000\r\n{new string('x', Mebibyte)}\r\n", "\r\n"), StringComparison.Ordinal);
        List<Socket> silent = [];
        for (var i = 0; i < 4; i++)
        {
            silent.Add(await ConnectAsync(containerd, pod));
            _ = await silent[i].SendAsync("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n"u8.ToArray());
        }

        // What one reads comes, however much it is, in the memory that the container has.
        using (var stream = await client.GetStreamAsync("/endless"))
        {
            await stream.ReadExactlyAsync(new byte[100 * Mebibyte]);
        }

        Assert.Equal("hello\n", await client.GetStringAsync("/"));
        silent.ForEach(s => s.Dispose());
        Assert.Equal("CONTAINER_RUNNING", (await pod.StatusAsync(id)).GetProperty("state").GetString());

        // The port is taken.
        var second = await pod.RunToEndAsync(NetworkTests.Component("http-trap"), "/http-trap.wasm");
        Assert.Equal(1, second.Status.GetProperty("exitCode").GetInt32());
        Assert.Contains("Address already in use", second.Log, StringComparison.Ordinal);
    }

    [Fact]
    [Trait(Containerds.Runs, Containerds.Once)]
    public async Task a_command_calls_out_by_http()
    {
        var containerd = await containerds.GetForPodsAsync("1.6");
        await using var server = await Pod.RunAsync(containerd);
        _ = await ServeAsync(server, NetworkTests.Component("web"), "/web.wasm");
        await using var pod = await Pod.RunAsync(containerd, new JsonObject { ["annotations"] = new JsonObject { ["closed.skiff.dev/network"] = "none" } });
        var url = $"http://{await server.AddressAsync()}:{Port}/";
        var (status, log) = await pod.RunToEndAsync(NetworkTests.Component("fetch"), "/fetch.wasm", url);
        Assert.Equal((0, "200 hello\n\n"), (status.GetProperty("exitCode").GetInt32(), log));

        var closed = NetworkTests.Component("fetch");
        closed["metadata"] = new JsonObject { ["name"] = "closed", ["attempt"] = 1 };
        (status, log) = await pod.RunToEndAsync(closed, "/fetch.wasm", url);
        Assert.Equal(1, status.GetProperty("exitCode").GetInt32());
        Assert.StartsWith("failed: ", log, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("http-unused", 0, "")]
    [InlineData("run-0-3", 0, "")]
    [InlineData("no-entry", 128, "has no entry: it exports example:sums/adder@1.0.0")]
    [Trait(Containerds.Runs, Containerds.Once)]
    public async Task what_runs_a_component_follows_from_what_it_imports_and_exports(string name, int status, string says)
    {
        var containerd = await containerds.GetForPodsAsync("1.6");
        await using var pod = await Pod.RunAsync(containerd);
        var created = await pod.TryCreateAsync(NetworkTests.Component(name), $"/{name}.wasm");
        if (says.Length > 0)
        {
            var started = await containerd.CrictlAsync("start", created.Demand().Output.Trim());
            Assert.NotEqual(0u, started.Status);
            Assert.Contains(says, started.Text, StringComparison.Ordinal);
            return;
        }

        _ = (await containerd.CrictlAsync("start", created.Demand().Output.Trim())).Demand();
        var ended = await pod.EndAsync(created.Output.Trim());
        Assert.Equal(status, ended.GetProperty("exitCode").GetInt32());
    }

    private static async Task<string> ServeAsync(Pod pod, JsonObject settings, params string[] command)
    {
        var id = await pod.StartAsync(settings, command);
        await pod.SaysAsync(id, "Serving HTTP on");
        return id;
    }

    private static JsonObject Limited(JsonObject settings)
    {
        settings["linux"] = new JsonObject { ["resources"] = new JsonObject { ["memory_limit_in_bytes"] = 128 * Mebibyte } };
        return settings;
    }

    /// <summary>A client in the network of the containerd's pods.</summary>
    private static async Task<HttpClient> ClientAsync(PrivateContainerd containerd, Pod pod, int port = Port)
    {
        var address = new IPEndPoint(IPAddress.Parse(await pod.AddressAsync()), port);
        return new HttpClient(new SocketsHttpHandler
        {
            ConnectCallback = async (_, cancellation) => new NetworkStream(await NetworkNamespace.ConnectAsync(containerd.Name, address, cancellation), ownsSocket: true),
        })
        {
            BaseAddress = new Uri("http://pod/"),
            Timeout = RunningContainer.Patience,
        };
    }

    private static async Task<Socket> ConnectAsync(PrivateContainerd containerd, Pod pod) =>
        await NetworkNamespace.ConnectAsync(containerd.Name, new IPEndPoint(IPAddress.Parse(await pod.AddressAsync()), Port), CancellationToken.None);

    /// <summary>Whether new connections are refused.</summary>
    private static async Task<bool> IsRefusedAsync(PrivateContainerd containerd, Pod pod)
    {
        using var connection = await TryConnectAsync(containerd, pod);
        return connection is null;
    }

    /// <returns>Null when it is refused.</returns>
    private static async Task<Socket?> TryConnectAsync(PrivateContainerd containerd, Pod pod)
    {
        try
        {
            return await ConnectAsync(containerd, pod);
        }
        catch (SocketException)
        {
            return null;
        }
    }

    /// <summary>What is said in answer to a request, to where it says something.</summary>
    private static async Task<string> SaidAsync(Socket socket, string request, string something)
    {
        var text = await AnswerAsync(socket, request, something);
        Assert.True(text.Contains(something, StringComparison.Ordinal), $"the connection was closed after \"{text}\"");
        return text;
    }

    /// <summary>What is said in answer to a request, to where it says something or the connection ends.</summary>
    private static async Task<string> AnswerAsync(Socket socket, string request, string something)
    {
        using var limit = new CancellationTokenSource(RunningContainer.Patience);
        var sending = socket.SendAsync(Encoding.ASCII.GetBytes(request), limit.Token).AsTask();
        var buffer = new byte[1024];
        var text = "";
        try
        {
            for (int length; !text.Contains(something, StringComparison.Ordinal) && (length = await socket.ReceiveAsync(buffer, limit.Token)) > 0;)
            {
                text += Encoding.ASCII.GetString(buffer, 0, length);
            }

            _ = await sending;
        }
        catch (SocketException)
        {
            // It did not want all of it, or is gone.
        }

        return text;
    }
}
