using System.Collections.Concurrent;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using Skiff.Kubernetes.Watching;
using Skiff.Testing;
using static Skiff.Kubernetes.Tests.Answers;

namespace Skiff.Kubernetes.Tests;

/// <summary>List and watch over a real connection, against a server that does everything an API server and a network may do.</summary>
public sealed class InformerTests
{
    private static readonly TimeSpan _patience = TimeSpan.FromSeconds(30);

    [Fact]
    public async Task what_is_listed_and_what_is_watched_is_there_and_reported_in_order()
    {
        await using var run = await Run.StartAsync(async c =>
        {
            if (!c.IsWatch())
            {
                await c.ListAsync(10, Item("a", 1), Item("b", 2));
                return;
            }

            Assert.Equal("10", c.Request.Query["resourceVersion"]);
            Assert.Equal("true", c.Request.Query["allowWatchBookmarks"]);
            await c.SendAsync(Event("ADDED", Item("c", 11)) + Event("MODIFIED", Item("a", 12, 7)) + Event("DELETED", Item("b", 13)));
            await c.HangAsync();
        });
        await run.SeesAsync("+a +b +c ~a7 -b");
        Assert.True(run.Informer.HasSynced);
        Assert.Equal(["a", "c"], run.Informer.List().Select(t => t.Metadata.Name).Order());
        Assert.Equal(7, run.Informer.Get(ObjectKey.Cluster("a"))!.Spec!.Size);
        Assert.Null(run.Informer.Get(ObjectKey.Cluster("b")));
        Assert.Null(run.Informer.LastError);
    }

    [Fact]
    public async Task a_watch_whose_time_is_over_goes_on_from_the_last_bookmark()
    {
        var watches = 0;
        await using var run = await Run.StartAsync(async c =>
        {
            if (!c.IsWatch())
            {
                await c.ListAsync(10, Item("a", 1));
            }
            else if (++watches == 1)
            {
                await c.SendAsync(Event("MODIFIED", Item("a", 11, 1)) + Bookmark(20));
            }
            else
            {
                Assert.Equal("20", c.Request.Query["resourceVersion"]);
                await c.SendAsync(Event("MODIFIED", Item("a", 21, 2)));
                await c.HangAsync();
            }
        });
        await run.SeesAsync("+a ~a1 ~a2");
        Assert.Equal(1, run.Lists);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task gone_is_answered_by_a_new_list_and_only_the_difference_is_reported(bool asEvent)
    {
        await using var run = await Run.StartAsync(async (c, lists) =>
        {
            if (!c.IsWatch())
            {
                await (lists == 1 ? c.ListAsync(10, Item("a", 1), Item("b", 2)) : c.ListAsync(50, Item("a", 1), Item("c", 40)));
            }
            else if ((string?)c.Request.Query["resourceVersion"] == "50")
            {
                await c.SendAsync(Event("ADDED", Item("d", 51)));
                await c.HangAsync();
            }
            else if (asEvent)
            {
                await c.SendAsync(ErrorEvent(410, "Expired"));
            }
            else
            {
                await c.JsonAsync(410, """{"kind":"Status","reason":"Expired","message":"too old resource version","code":410}""");
            }
        });
        await run.SeesAsync("+a +b +c -b +d");
        Assert.Equal(2, run.Lists);
    }

    [Fact]
    public async Task a_connection_that_breaks_within_a_line_goes_on_from_the_event_before()
    {
        var watches = 0;
        var seen = new TaskCompletionSource();
        await using var run = await Run.StartAsync(async c =>
        {
            if (!c.IsWatch())
            {
                await c.ListAsync(10);
            }
            else if (++watches == 1)
            {
                await c.SendAsync(Event("ADDED", Item("a", 11)) + Event("ADDED", Item("b", 12))[..40]);
                await seen.Task.WaitAsync(_patience); // a reset may overtake what was sent
                c.Cut();
            }
            else
            {
                Assert.Equal("11", c.Request.Query["resourceVersion"]);
                await c.SendAsync(Event("ADDED", Item("b", 12)));
                await c.HangAsync();
            }
        });
        await run.SeesAsync("+a");
        seen.SetResult();
        await run.SeesAsync("+a +b");
        Assert.Equal(1, run.Lists);
    }

    [Fact]
    public async Task an_event_that_comes_byte_by_byte_is_one_event()
    {
        await using var run = await Run.StartAsync(async c =>
        {
            if (!c.IsWatch())
            {
                await c.ListAsync(10);
                return;
            }

            foreach (var b in Event("ADDED", Item("ä", 11)) + "\n" + Event("ADDED", Item("b", 12)))
            {
                await c.SendAsync(b.ToString());
            }

            await c.HangAsync();
        });
        await run.SeesAsync("+ä +b");
    }

    [Fact]
    public async Task an_event_whose_object_comes_before_its_type_is_read()
    {
        await using var run = await Run.StartAsync(async c =>
        {
            if (!c.IsWatch())
            {
                await c.ListAsync(10);
                return;
            }

            await c.SendAsync($$"""{"more":[{}],"object":{{Item("a", 11)}},"type":"ADDED"}""" + "\n");
            await c.HangAsync();
        });
        await run.SeesAsync("+a");
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task a_line_over_the_limit_is_an_error_and_leads_to_a_new_list(bool ends)
    {
        var huge = "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"" + new string('x', 200_000) + "\"}}}";
        await using var run = await Run.StartAsync(
            async (c, lists) =>
            {
                if (!c.IsWatch())
                {
                    await c.ListAsync(lists * 10, lists == 1 ? [] : [Item("a", 11)]);
                }
                else if (lists == 1)
                {
                    await c.SendAsync(huge + (ends ? "\n" : ""));
                    await c.HangAsync();
                }
                else
                {
                    await c.HangAsync();
                }
            },
            new InformerOptions<Thing> { LongestLine = 100_000 });
        await run.SeesAsync("+a");
    }

    [Theory]
    [InlineData("nonsense\n")]
    [InlineData("{\"type\":\"ADDED\"}\n")]
    [InlineData("{\"type\":\"WHAT\",\"object\":{\"metadata\":{\"name\":\"x\"}}}\n")]
    [InlineData("{\"type\":\"ADDED\",\"object\":{\"metadata\":{}}}\n")]
    [InlineData("{\"type\":\"ADDED\",\"object\":[1]}\n")]
    [InlineData("[]\n")]
    public async Task an_event_that_is_none_is_answered_by_a_new_list(string line)
    {
        await using var run = await Run.StartAsync(async (c, lists) =>
        {
            if (!c.IsWatch())
            {
                await c.ListAsync(lists * 10, lists == 1 ? [] : [Item("a", 11)]);
            }
            else if (lists == 1)
            {
                await c.SendAsync(line);
                await c.HangAsync();
            }
            else
            {
                await c.HangAsync();
            }
        });
        await run.SeesAsync("+a");
    }

    [Fact]
    public async Task lists_that_fail_are_tried_again_and_nothing_is_synced_meanwhile()
    {
        var looked = new TaskCompletionSource();
        await using var run = await Run.StartAsync(async (c, lists) =>
        {
            if (c.IsWatch())
            {
                await c.HangAsync();
            }
            else if (lists < 3)
            {
                await c.JsonAsync(403, """{"kind":"Status","reason":"Forbidden","message":"no","code":403}""");
            }
            else
            {
                await looked.Task.WaitAsync(_patience);
                await c.ListAsync(10, Item("a", 1));
            }
        });
        Assert.True(await Until.HoldsAsync(() => Task.FromResult(run.Informer.LastError is not null), _patience));
        Assert.Equal(ApiErrorKind.Forbidden, run.Informer.LastError!.Kind);
        Assert.False(run.Informer.HasSynced);
        looked.SetResult();
        await run.SeesAsync("+a");
        Assert.Equal(3, run.Lists);
    }

    [Fact]
    public async Task a_watch_that_is_silent_past_its_time_is_noticed()
    {
        var time = new FakeTimeProvider();
        var watches = new ConcurrentQueue<TimeSpan>();
        var over = new TaskCompletionSource();
        await using var run = await Run.StartAsync(
            async (c, lists) =>
            {
                if (!c.IsWatch())
                {
                    await c.ListAsync(10, Item("a", 1));
                    return;
                }

                watches.Enqueue(TimeSpan.FromSeconds(int.Parse(c.Request.Query["timeoutSeconds"]!)));
                if (watches.Count == 1)
                {
                    await c.SendAsync(Event("MODIFIED", Item("a", 11, 1)));
                    await over.Task.WaitAsync(_patience);
                    await c.SendAsync(Event("MODIFIED", Item("a", 12, 2)));
                }
                else
                {
                    Assert.Equal("12", c.Request.Query["resourceVersion"]);
                    await c.SendAsync(Event("MODIFIED", Item("a", 13, 3)));
                }

                await c.HangAsync();
            },
            time: time);

        // Who has seen an event has read the watch's head, for which the limit is shorter.
        await run.SeesAsync("+a ~a1");
        var length = watches.Single();
        Assert.InRange(length, TimeSpan.FromMinutes(5), TimeSpan.FromMinutes(10));
        time.Advance(length + TimeSpan.FromSeconds(29));
        over.SetResult();
        await run.SeesAsync("+a ~a1 ~a2");
        Assert.Single(watches);
        await WaitAsync(() =>
        {
            time.Advance(TimeSpan.FromSeconds(1));
            return watches.Count >= 2;
        });
        await run.SeesAsync("+a ~a1 ~a2 ~a3");
        Assert.Equal(1, run.Lists);
    }

    [Fact]
    public async Task a_watch_that_never_begins_is_given_up_sooner()
    {
        var time = new FakeTimeProvider();
        var watches = 0;
        await using var run = await Run.StartAsync(
            async c =>
            {
                if (!c.IsWatch())
                {
                    await c.ListAsync(10);
                    return;
                }

                _ = Interlocked.Increment(ref watches);
                await c.HangAsync();
            },
            time: time);
        await WaitAsync(() => Volatile.Read(ref watches) == 1);
        time.Advance(TimeSpan.FromSeconds(29));
        Assert.Equal(1, Volatile.Read(ref watches));
        await WaitAsync(() =>
        {
            time.Advance(TimeSpan.FromSeconds(1));
            return Volatile.Read(ref watches) >= 2;
        });
    }

    [Fact]
    public async Task a_watch_that_ends_at_once_again_and_again_is_no_busy_loop()
    {
        var time = new FakeTimeProvider();
        var watches = 0;
        await using var run = await Run.StartAsync(
            async c =>
            {
                if (c.IsWatch())
                {
                    _ = Interlocked.Increment(ref watches);
                }
                else
                {
                    await c.ListAsync(10);
                }
            },
            time: time);
        await WaitAsync(() => run.Informer.LastError is not null);
        Assert.Equal(1, Volatile.Read(ref watches));
        for (var seen = 1; seen < 5; seen++)
        {
            await WaitAsync(() =>
            {
                time.Advance(TimeSpan.FromMilliseconds(100));
                return Volatile.Read(ref watches) > seen;
            });
        }

        Assert.True(time.GetUtcNow() - time.Start > TimeSpan.FromSeconds(3), "four pauses that double come to 3.75 s at least");
    }

    [Fact]
    public async Task the_resync_reports_every_object_again()
    {
        var time = new FakeTimeProvider();
        await using var run = await Run.StartAsync(
            c => c.IsWatch() ? c.HangAsync() : c.ListAsync(10, Item("a", 1), Item("b", 2)),
            new InformerOptions<Thing> { Resync = TimeSpan.FromSeconds(10) },
            time);
        await run.SeesAsync("+a +b");
        await WaitAsync(() =>
        {
            time.Advance(TimeSpan.FromSeconds(10));
            return run.Seen.Count >= 4;
        });
        Assert.Equal("+a +b =a =b", string.Join(' ', run.Seen.Take(4)));
    }

    [Fact]
    public async Task only_what_the_trimming_leaves_is_kept()
    {
        await using var run = await Run.StartAsync(
            async c =>
            {
                if (!c.IsWatch())
                {
                    await c.ListAsync(10, Item("a", 1, 5));
                    return;
                }

                await c.SendAsync(Event("ADDED", Item("b", 11, 6)));
                await c.HangAsync();
            },
            new InformerOptions<Thing> { Trim = t => t with { Spec = null }, Selection = new Selection { Labels = "x=y" } });
        await run.SeesAsync("+a +b");
        Assert.All(run.Informer.List(), t => Assert.Null(t.Spec));
        Assert.All(run.Queries, q => Assert.Contains("labelSelector=x%3Dy", q, StringComparison.Ordinal));
    }

    [Fact]
    public async Task later_lists_ask_for_nothing_older_than_what_was_seen()
    {
        await using var run = await Run.StartAsync(async (c, lists) =>
        {
            if (!c.IsWatch())
            {
                await c.ListAsync(lists * 10, Item("a", lists * 10, lists));
            }
            else if (lists == 1)
            {
                await c.SendAsync(Bookmark(15) + ErrorEvent(410, "Expired"));
            }
            else
            {
                await c.HangAsync();
            }
        });
        await run.SeesAsync("+a1 ~a2");
        Assert.Equal(["?limit=500&resourceVersion=0", "?resourceVersion=15&resourceVersionMatch=NotOlderThan"], run.ListQueries);
    }

    [Theory]
    [InlineData(410, """{"kind":"Status","reason":"Expired","message":"The resourceVersion for the provided list is too old.","code":410}""")]
    [InlineData(504, """{"kind":"Status","reason":"Timeout","message":"Timeout: Too large resource version: 10, current: 7","details":{"causes":[{"reason":"ResourceVersionTooLarge","message":"Too large resource version"}],"retryAfterSeconds":1},"code":504}""")]
    [InlineData(400, """{"kind":"Status","reason":"BadRequest","message":"invalid resource version","code":400}""")]
    public async Task a_server_that_has_not_got_what_was_seen_is_asked_for_the_newest_state(int status, string answer)
    {
        await using var run = await Run.StartAsync(async (c, lists) =>
        {
            if (c.IsWatch())
            {
                await (lists == 1 ? c.SendAsync(ErrorEvent(410, "Expired")) : c.HangAsync());
            }
            else if (lists == 2)
            {
                await c.JsonAsync(status, answer);
            }
            else
            {
                await c.ListAsync(lists == 1 ? 10 : 7, Item("a", lists, lists));
            }
        });
        await run.SeesAsync("+a1 ~a3");
        Assert.Equal(["?limit=500&resourceVersion=0", "?resourceVersion=10&resourceVersionMatch=NotOlderThan", "?limit=500"], run.ListQueries);
    }

    [Theory]
    [InlineData(429, "TooManyRequests")]
    [InlineData(500, "InternalError")]
    [InlineData(503, "ServiceUnavailable")]
    [InlineData(504, "Timeout")]
    [InlineData(403, "Forbidden")]
    public async Task a_list_that_fails_for_another_reason_is_asked_for_again_as_it_was(int status, string reason)
    {
        await using var run = await Run.StartAsync(async (c, lists) =>
        {
            if (c.IsWatch())
            {
                await (lists == 1 ? c.SendAsync(ErrorEvent(410, "Expired")) : c.HangAsync());
            }
            else if (lists == 2)
            {
                await c.JsonAsync(status, $$"""{"kind":"Status","reason":"{{reason}}","message":"no","code":{{status}}}""");
            }
            else
            {
                await c.ListAsync(lists * 10, Item("a", lists, lists));
            }
        });
        await run.SeesAsync("+a1 ~a3");
        const string Again = "?resourceVersion=10&resourceVersionMatch=NotOlderThan";
        Assert.Equal(["?limit=500&resourceVersion=0", Again, Again], run.ListQueries);
    }

    private static async Task WaitAsync(Func<bool> condition) => Assert.True(await Until.HoldsAsync(() => Task.FromResult(condition()), _patience));

    private sealed class Run : IAsyncDisposable
    {
        private readonly CancellationTokenSource _stop = new();
        private ScriptedServer _server = null!;
        private KubeClient _client = null!;
        private Task _running = null!;
        private int _lists;

        public Informer<Thing> Informer { get; private set; } = null!;

        public ConcurrentQueue<string> Seen { get; } = new();

        public ConcurrentQueue<string> Queries { get; } = new();

        public IEnumerable<string> ListQueries => Queries.Where(q => !q.Contains("watch", StringComparison.Ordinal));

        public int Lists => Volatile.Read(ref _lists);

        public static Task<Run> StartAsync(Func<HttpContext, Task> answer, InformerOptions<Thing>? options = null, TimeProvider? time = null) =>
            StartAsync((c, _) => answer(c), options, time);

        public static async Task<Run> StartAsync(Func<HttpContext, int, Task> answer, InformerOptions<Thing>? options = null, TimeProvider? time = null)
        {
            var run = new Run();
            run._server = await ScriptedServer.StartAsync(c =>
            {
                run.Queries.Enqueue(c.Request.QueryString.Value!);
                return answer(c, c.IsWatch() ? run.Lists : Interlocked.Increment(ref run._lists));
            });
            run._client = run._server.Client(time);
            run.Informer = new Informer<Thing>(run._client, Thing.Resource, options ?? new(), NullLogger.Instance, time ?? TimeProvider.System);
            run.Informer.OnChange(change => run.Seen.Enqueue(change.Kind switch
            {
                ChangeKind.Added => "+",
                ChangeKind.Updated => "~",
                ChangeKind.Deleted => "-",
                _ => "=",
            } + change.Current.Metadata.Name + (change.Current.Spec is { Size: > 0 } spec && change.Kind != ChangeKind.Deleted ? $"{spec.Size}" : "")));
            run._running = run.Informer.RunAsync(run._stop.Token);
            return run;
        }

        public async Task SeesAsync(string changes)
        {
            _ = await Until.HoldsAsync(() => Task.FromResult(Seen.Count >= changes.Split(' ').Length || _running.IsCompleted), _patience);
            Assert.Equal(changes, string.Join(' ', Seen));
        }

        public async ValueTask DisposeAsync()
        {
            await _stop.CancelAsync();
            await _running.WaitAsync(_patience);
            _client.Dispose();
            await _server.DisposeAsync();
            _stop.Dispose();
        }
    }
}
