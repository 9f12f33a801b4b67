using System.Net;
using System.Text;
using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using Skiff.Kubernetes.Events;
using Skiff.Testing;

namespace Skiff.Kubernetes.Tests;

public sealed class EventRecorderTests : IAsyncLifetime
{
    private static readonly TimeSpan _patience = TimeSpan.FromSeconds(30);

    private readonly MemoryApiServer _server = new();
    private readonly FakeTimeProvider _time = new(new DateTimeOffset(2026, 2, 3, 4, 5, 6, TimeSpan.Zero));
    private readonly WaitCounter _waits;
    private readonly KubeClient _client;
    private readonly EventRecorder _recorder;

    public EventRecorderTests()
    {
        _waits = new WaitCounter(_time);
        _client = new KubeClient(_server, new Uri("http://api"), null, null, "test", _waits);
        _recorder = new EventRecorder(_client, "runtime.skiff.dev/skiff-operator", "pod-1", NullLogger.Instance, _waits);
    }

    public ValueTask InitializeAsync() => ValueTask.CompletedTask;

    public async ValueTask DisposeAsync()
    {
        await _recorder.DisposeAsync();
        _client.Dispose();
        _server.Dispose();
    }

    [Fact]
    public async Task an_event_has_all_that_the_server_demands()
    {
        _recorder.Record(Happened("it was so") with
        {
            Warning = true,
            Related = new ObjectReference { ApiVersion = "v1", Kind = "Node", Name = "node-1" },
        });
        var written = (await EventsAsync(1)).Single();
        Assert.StartsWith("p.", (string)written["metadata"]!["name"]!, StringComparison.Ordinal);
        ((JsonObject)written["metadata"]!).Clear();
        Assert.Equal(
            """{"metadata":{},"eventTime":"2026-02-03T04:05:06.000000Z","reportingController":"runtime.skiff.dev/skiff-operator","reportingInstance":"pod-1","action":"Install","reason":"Because","regarding":{"apiVersion":"v1","kind":"Pod","namespace":"ns","name":"p","uid":"u"},"related":{"apiVersion":"v1","kind":"Node","name":"node-1"},"note":"it was so","type":"Warning","apiVersion":"events.k8s.io/v1","kind":"Event"}""",
            written.ToJsonString());
    }

    [Fact]
    public async Task what_is_cluster_scoped_has_its_events_in_default()
    {
        _recorder.Record(Happened("x") with { Regarding = new ObjectReference { Kind = "Node", Name = "node-1" } });
        Assert.Equal("default", (string?)(await EventsAsync(1)).Single()["metadata"]!["namespace"]);
    }

    [Fact]
    public async Task repeats_are_counted_in_one_series_and_written_seldom()
    {
        for (var i = 0; i < 100; i++)
        {
            _recorder.Record(Happened("again"));
        }

        _ = await EventsAsync(1);
        await PassUntilWrittenAsync(2);
        Assert.Equal(100, (int)Find()["series"]!["count"]!);
        Assert.Equal(2, _recorder.Written);
        Assert.InRange(_time.GetUtcNow() - _time.Start, TimeSpan.FromSeconds(30), TimeSpan.FromSeconds(60));
        Assert.Equal(0, _recorder.Dropped);
    }

    [Fact]
    public async Task what_repeats_after_a_long_time_is_a_new_event()
    {
        _recorder.Record(Happened("again"));
        _ = await EventsAsync(1);
        _time.Advance(TimeSpan.FromMinutes(7));
        _recorder.Record(Happened("again"));
        _ = await EventsAsync(2);
    }

    [Fact]
    public async Task an_object_that_floods_is_cut_off_and_others_are_not()
    {
        for (var i = 0; i < 100; i++)
        {
            _recorder.Record(Happened($"{i}"));
        }

        _recorder.Record(Happened("other") with { Regarding = Happened("").Regarding with { Name = "q" } });
        _ = await EventsAsync(21);
        Assert.Equal(80, _recorder.Dropped);
        _time.Advance(TimeSpan.FromMinutes(2));
        for (var i = 0; i < 3; i++)
        {
            _recorder.Record(Happened($"later {i}"));
        }

        _ = await EventsAsync(23);
        await WaitAsync(() => _recorder.Dropped == 81);
    }

    [Fact]
    public async Task a_server_that_hangs_holds_nobody_up_and_what_is_too_much_is_dropped_and_counted()
    {
        using var hang = new SemaphoreSlim(0);
        _server.Intercept = _ =>
        {
            hang.Wait();
            return null;
        };
        for (var i = 0; i < 1500; i++)
        {
            _recorder.Record(Happened($"{i}") with { Regarding = new ObjectReference { Kind = "Node", Name = $"n{i}" } });
        }

        Assert.InRange(_recorder.Dropped, 499, 500);
        _server.Intercept = null;
        _ = hang.Release();
        await WaitAsync(() => _recorder.Written + _recorder.Dropped == 1500);
    }

    [Fact]
    public async Task a_refused_event_is_dropped_and_an_unreachable_server_is_asked_once_more()
    {
        _server.Intercept = _ => MemoryApiServer.Status(HttpStatusCode.Forbidden, "Forbidden", "no");
        _recorder.Record(Happened("refused"));
        await WaitAsync(() => _recorder.Dropped == 1);
        Assert.Single(_server.Requests);
        var first = true;
        _server.Intercept = _ =>
        {
            var fails = first;
            first = false;
            return fails ? MemoryApiServer.Status(HttpStatusCode.ServiceUnavailable, "ServiceUnavailable", "soon") : null;
        };
        _recorder.Record(Happened("later"));
        await PassUntilWrittenAsync(1);
        Assert.Equal(3, _server.Requests.Count);
    }

    [Fact]
    public async Task a_long_note_is_cut_at_a_whole_character()
    {
        _recorder.Record(Happened(new string('ä', 2000)));
        var note = (string)(await EventsAsync(1)).Single()["note"]!;
        Assert.InRange(Encoding.UTF8.GetByteCount(note), 1022, 1024);
        Assert.Equal(new string('ä', 510) + "…", note);
    }

    [Fact]
    public async Task completing_writes_what_is_left_also_the_counts()
    {
        for (var i = 0; i < 3; i++)
        {
            _recorder.Record(Happened("again"));
        }

        await _recorder.CompleteAsync(_patience);
        Assert.Equal(3, (int)Find()["series"]!["count"]!);
        _recorder.Record(Happened("too late"));
        Assert.Equal(1, _recorder.Dropped);
    }

    private static KubeEvent Happened(string note) => new()
    {
        Regarding = new ObjectReference { ApiVersion = "v1", Kind = "Pod", Namespace = "ns", Name = "p", Uid = "u" },
        Reason = "Because",
        Action = "Install",
        Note = note,
    };

    private static async Task WaitAsync(Func<bool> condition) => Assert.True(await Until.HoldsAsync(() => Task.FromResult(condition()), _patience));

    private JsonObject Find() => _server.All("apis/events.k8s.io/v1").Single();

    /// <summary>Lets time pass, but only while the recorder waits for it: a write that is under way has a limit on the same clock.</summary>
    private async Task PassUntilWrittenAsync(int count)
    {
        for (var second = 0; second < 120 && _recorder.Written < count; second++)
        {
            await WaitAsync(() => _waits.Waits > 0 || _recorder.Written == count);
            if (_recorder.Written < count)
            {
                _time.Advance(TimeSpan.FromSeconds(1));
            }
        }

        Assert.Equal(count, _recorder.Written);
    }

    /// <summary>So many events, once the recorder knows that they are written: time that passes before would cancel the last write.</summary>
    private async Task<IReadOnlyList<JsonObject>> EventsAsync(int count)
    {
        await WaitAsync(() => _server.All("apis/events.k8s.io/v1").Count == count && _recorder.Written == count);
        return _server.All("apis/events.k8s.io/v1");
    }
}
