using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;

namespace Skiff.Ttrpc.Tests;

public sealed class CallTests
{
    [Fact]
    public async Task five_hundred_calls_that_end_in_reverse_order_get_their_own_answers()
    {
        const int count = 500;
        var turns = Enumerable.Range(0, count + 1).Select(_ => new Signal()).ToArray();
        var ended = new List<int>();
        await using var server = TestServer.With("InTurn", async (text, _, cancellation) =>
        {
            var number = int.Parse(text);
            await turns[number + 1].WaitAsync(cancellation);
            lock (ended)
            {
                ended.Add(number);
            }

            turns[number].Set();
            return await TestServer.Text($"answer {text}");
        });
        using var caller = await server.CallerAsync();

        var calls = Enumerable.Range(0, count).Select(i => caller.CallAsync("InTurn", $"{i}")).ToArray();
        turns[count].Set();

        var answers = await Task.WhenAll(calls);
        Assert.Equal(Enumerable.Range(0, count).Select(i => $"answer {i}"), answers.Select(a => a.Value?.Value));
        Assert.Equal(Enumerable.Range(0, count).Reverse(), ended);
    }

    [Fact]
    public async Task two_names_of_one_service_answer_alike_and_the_handler_is_told_which()
    {
        await using var server = TestServer.With("Which", (_, context, _) => TestServer.Text($"{context.Service}/{context.Method}"));
        using var caller = await server.CallerAsync();
        Assert.Equal("skiff.test.Calls/Which", (await caller.CallAsync("Which")).Value?.Value);
        Assert.Equal("skiff.test.SameCalls/Which", (await caller.CallAsync("Which", service: TestServer.OtherName)).Value?.Value);
    }

    [Fact]
    public async Task an_empty_message_is_a_message()
    {
        await using var server = new TestServer();
        using var caller = await server.CallerAsync();
        Assert.Equal("", (await caller.CallAsync("Echo")).Value?.Value);
        Assert.Equal(ByteString.Empty, (await caller.Client.CallAsync(TestServer.Service, "Raw", ByteString.Empty)).Value);
        Assert.NotNull((await caller.Client.CallAsync(TestServer.Service, "Raw", new Empty(), Empty.Parser)).Value);
    }

    [Fact]
    public async Task a_message_of_nearly_four_mebibytes_makes_the_round_trip()
    {
        await using var server = new TestServer();
        using var caller = await server.CallerAsync();
        var payload = new byte[(4 << 20) - 200];
        new Random(1).NextBytes(payload);
        Assert.Equal(payload, (await caller.Client.CallAsync(TestServer.Service, "Raw", ByteString.CopyFrom(payload))).Value?.ToByteArray());
    }

    [Fact]
    public async Task metadata_keeps_its_order_and_keys_have_no_case()
    {
        await using var server = TestServer.With("Metadata", (key, context, _) => TestServer.Text(string.Join(',', context.MetadataValues(key))));
        using var caller = await server.CallerAsync();
        async Task<string?> ValuesAsync(string key) => (await caller.Client.CallAsync(
            TestServer.Service,
            "Metadata",
            new StringValue { Value = key },
            StringValue.Parser,
            timeout: null,
            [new("Namespace", "k8s.io"), new("trace", "2"), new("trace", "1")],
            TestContext.Current.CancellationToken)).Value?.Value;

        Assert.Equal("2,1", await ValuesAsync("trace"));
        Assert.Equal("k8s.io", await ValuesAsync("namespace"));
        Assert.Equal("k8s.io", await ValuesAsync("NAMESPACE"));
        Assert.Equal("", await ValuesAsync("absent"));
    }

    [Fact]
    public async Task a_deadline_is_answered_not_a_moment_early_for_a_handler_that_ignores_it_and_its_late_failure_is_logged()
    {
        var release = new Signal();
        var started = new Signal();
        await using var server = TestServer.With("Ignore", async (_, _, _) =>
        {
            started.Set();
            await release.WaitAsync(CancellationToken.None);
            throw new InvalidOperationException("too late to matter");
        });
        using var peer = await server.ConnectAsync();
        await peer.SendAsync(1, Peer.Request, 0, Peer.Call("Ignore", timeoutNano: 2_000_000_000));
        await started.WaitAsync(TestContext.Current.CancellationToken);
        server.Time.Advance(TimeSpan.FromMilliseconds(1999));
        await peer.SendAsync(3, Peer.Request, 0, Peer.Call("Echo"));
        Assert.Equal((3u, TtrpcCode.Ok), await peer.ReceiveCodeAsync());

        server.Time.Advance(TimeSpan.FromMilliseconds(1));
        Assert.Equal((1u, TtrpcCode.DeadlineExceeded), await peer.ReceiveCodeAsync());
        Assert.Empty(server.Log.All);

        release.Set();
        Assert.Contains("too late to matter", await server.Log.FirstAsync(), StringComparison.Ordinal);
        _ = Assert.Single(server.Log.All);
    }

    [Fact]
    public async Task a_deadline_is_answered_for_a_handler_that_blocks_its_thread()
    {
        using var release = new ManualResetEventSlim();
        var started = new Signal();
        await using var server = TestServer.With("Block", (_, _, _) =>
        {
            started.Set();
            _ = release.Wait(TestServer.Patience, CancellationToken.None);
            return TestServer.Text("");
        });
        using var peer = await server.ConnectAsync();
        await peer.SendAsync(1, Peer.Request, 0, Peer.Call("Block", timeoutNano: 1));
        await started.WaitAsync(TestContext.Current.CancellationToken);
        server.Time.Advance(TimeSpan.FromMilliseconds(1));
        Assert.Equal((1u, TtrpcCode.DeadlineExceeded), await peer.ReceiveCodeAsync());
        release.Set();
    }

    [Fact]
    public async Task a_deadline_reaches_the_handler_and_what_it_throws_then_is_logged()
    {
        var (started, cancelled) = (new Signal(), new Signal());
        await using var server = TestServer.With("Hold", async (_, _, cancellation) =>
        {
            using var broken = cancellation.Register(() => throw new InvalidOperationException("cannot be cancelled"));
            using var told = cancellation.Register(cancelled.Set);
            started.Set();
            await new Signal().WaitAsync(CancellationToken.None); // goes on all the same
            return await TestServer.Text("");
        });
        using var peer = await server.ConnectAsync();
        await peer.SendAsync(1, Peer.Request, 0, Peer.Call("Hold", timeoutNano: 1_000_000));
        await started.WaitAsync(TestContext.Current.CancellationToken);
        server.Time.Advance(TimeSpan.FromMilliseconds(1));
        Assert.Equal((1u, TtrpcCode.DeadlineExceeded), await peer.ReceiveCodeAsync());
        await cancelled.WaitAsync(TestContext.Current.CancellationToken);
        Assert.Contains("cannot be cancelled", await server.Log.FirstAsync(), StringComparison.Ordinal);
        await peer.SendAsync(3, Peer.Request, 0, Peer.Call("Echo"));
        Assert.Equal((3u, TtrpcCode.Ok), await peer.ReceiveCodeAsync());
    }

    [Fact]
    public async Task a_deadline_in_the_past_is_answered_without_a_call_and_one_in_centuries_is_none()
    {
        await using var server = new TestServer();
        using var peer = await server.ConnectAsync();
        await peer.SendAsync(1, Peer.Request, 0, Peer.Call("Echo", timeoutNano: -1));
        Assert.Equal((1u, TtrpcCode.DeadlineExceeded), await peer.ReceiveCodeAsync());
        await peer.SendAsync(3, Peer.Request, 0, Peer.Call("Echo", timeoutNano: long.MaxValue));
        Assert.Equal((3u, TtrpcCode.Ok), await peer.ReceiveCodeAsync());
    }

    [Theory]
    [InlineData("no.such.Service", "Echo", "service no.such.Service is not served here")]
    [InlineData(TestServer.Service, "Nothing", "service skiff.test.Calls has no method Nothing")]
    [InlineData(TestServer.Service, "echo", "service skiff.test.Calls has no method echo")]
    public async Task an_unknown_service_or_method_is_unimplemented_by_name_and_the_connection_lives(string service, string method, string reason)
    {
        await using var server = new TestServer();
        using var caller = await server.CallerAsync();
        Assert.Equal(new TtrpcError(TtrpcCode.Unimplemented, reason), (await caller.CallAsync(method, service: service)).Error);
        await caller.AssertAliveAsync();
    }

    [Fact]
    public async Task a_message_that_cannot_be_decoded_is_refused_and_the_connection_lives()
    {
        await using var server = new TestServer();
        using var caller = await server.CallerAsync();
        var error = (await caller.Client.CallAsync(TestServer.Service, "Echo", ByteString.CopyFrom(0x0a, 0xff))).Error!;
        Assert.Equal(TtrpcCode.InvalidArgument, error.Code);
        Assert.StartsWith("skiff.test.Calls/Echo: the request cannot be decoded: ", error.Message, StringComparison.Ordinal);
        await caller.AssertAliveAsync();
    }

    [Fact]
    public async Task a_handler_that_throws_is_logged_with_its_exception_and_the_connection_lives()
    {
        await using var server = new TestServer(methods:
        [
            ("Throw", (_, _, _) => throw new InvalidOperationException("broke at once")),
            ("ThrowLater", async (_, _, _) =>
            {
                await Task.Yield();
                throw new InvalidOperationException("broke later");
            }),
            ("OtherCancellation", (_, _, _) => throw new OperationCanceledException("of something else")),
            ("Nothing", (_, _, _) => Task.FromResult(default(TtrpcResult<StringValue>))),
        ]);
        using var caller = await server.CallerAsync();
        foreach (var (method, reason) in new[]
        {
            ("Throw", "broke at once"), ("ThrowLater", "broke later"), ("OtherCancellation", "of something else"), ("Nothing", "neither a message nor an error"),
        })
        {
            var error = (await caller.CallAsync(method)).Error!;
            Assert.Equal(TtrpcCode.Unknown, error.Code);
            Assert.Contains(reason, error.Message, StringComparison.Ordinal);
            Assert.Contains(server.Log.All, entry => entry.Contains($"method={method} ", StringComparison.Ordinal) && entry.Contains(reason, StringComparison.Ordinal));
        }

        await caller.AssertAliveAsync();
    }

    [Fact]
    public async Task every_code_and_message_arrives_as_the_handler_gave_it()
    {
        await using var server = TestServer.With("Fail", (text, _, _) =>
            Task.FromResult<TtrpcResult<StringValue>>(new TtrpcError((TtrpcCode)int.Parse(text), $"container ä has code {text}")));
        using var caller = await server.CallerAsync();
        foreach (var code in System.Enum.GetValues<TtrpcCode>().Where(c => c != TtrpcCode.Ok))
        {
            Assert.Equal(new TtrpcError(code, $"container ä has code {(int)code}"), (await caller.CallAsync("Fail", $"{(int)code}")).Error);
        }

        Assert.Equal(TtrpcCode.Unknown, (await caller.CallAsync("Fail", "0")).Error?.Code); // an error without a code is still no success
    }

    [Fact]
    public async Task an_answer_over_the_limit_is_an_error_and_the_connection_lives()
    {
        await using var server = new TestServer(methods:
        [
            ("Large", (_, _, _) => TestServer.Text(new string('x', (4 << 20) + 1))),
            ("LargeError", (_, _, _) => Task.FromResult<TtrpcResult<StringValue>>(new TtrpcError(TtrpcCode.NotFound, new string('x', (4 << 20) + 1)))),
        ]);
        using var caller = await server.CallerAsync();
        var error = (await caller.CallAsync("Large")).Error!;
        Assert.Equal(TtrpcCode.ResourceExhausted, error.Code);
        Assert.EndsWith("the limit is 4194304", error.Message, StringComparison.Ordinal);
        error = (await caller.CallAsync("LargeError")).Error!;
        Assert.Equal(TtrpcCode.NotFound, error.Code); // a message can be cut, a code cannot
        Assert.InRange(error.Message.Length, 1000, 100_000);
        await caller.AssertAliveAsync();
    }

    [Fact]
    public async Task a_peer_of_another_user_is_refused_and_logged()
    {
        var expected = TestServer.EffectiveUser() + 1;
        await using var server = new TestServer(expected);
        using var peer = await server.ConnectAsync();
        Assert.Equal(0, await peer.ReadToEndAsync());
        Assert.Equal([$"Warning Refused a connection of another user: user={expected - 1} expected={expected}"], server.Log.All);
    }

    [Fact]
    public async Task a_service_is_registered_before_the_start_and_under_one_name_once()
    {
        await using var server = new TestServer();
        _ = Assert.Throws<InvalidOperationException>(() => server.Server.Register("late", new TtrpcService()));
        var service = new TtrpcService().Add("Twice", (payload, _, _) => Task.FromResult<TtrpcResult<ByteString>>(payload));
        _ = Assert.Throws<ArgumentException>(() => service.Add("Twice", (payload, _, _) => Task.FromResult<TtrpcResult<ByteString>>(payload)));
    }
}
