using System.Text.Json.Nodes;
using Microsoft.Extensions.Time.Testing;

namespace Skiff.Kubernetes.Tests;

public sealed class ClientTests
{
    private static readonly TimeSpan _patience = TimeSpan.FromSeconds(30);
    private static readonly ObjectKey _key = ObjectKey.Cluster("a");

    [Theory]
    [InlineData(404, "NotFound", ApiErrorKind.NotFound)]
    [InlineData(409, "AlreadyExists", ApiErrorKind.AlreadyExists)]
    [InlineData(409, "Conflict", ApiErrorKind.Conflict)]
    [InlineData(403, "Forbidden", ApiErrorKind.Forbidden)]
    [InlineData(401, "Unauthorized", ApiErrorKind.Unauthorized)]
    [InlineData(410, "Expired", ApiErrorKind.Gone)]
    [InlineData(422, "Invalid", ApiErrorKind.Invalid)]
    [InlineData(400, "BadRequest", ApiErrorKind.Invalid)]
    [InlineData(500, "InternalError", ApiErrorKind.Server)]
    [InlineData(503, "ServiceUnavailable", ApiErrorKind.Server)]
    public async Task a_status_becomes_an_error_that_says_what_was_asked_and_what_the_server_said(int code, string reason, ApiErrorKind kind)
    {
        await using var server = await ScriptedServer.StartAsync(
            c => c.JsonAsync(code, $$"""{"kind":"Status","message":"the server's words","reason":"{{reason}}","code":{{code}}}"""));
        using var client = server.Client();
        var error = (await client.GetAsync(Thing.Resource, _key, default)).Error!;
        Assert.Equal(kind, error.Kind);
        Assert.Equal($"GET apis/skiff.test/v1/things/a: the server's words ({code})", error.Message);
    }

    [Fact]
    public async Task a_missing_permission_is_named()
    {
        const string Words = "things.skiff.test is forbidden: User \\\"system:serviceaccount:s:x\\\" cannot list resource \\\"things\\\" in API group \\\"skiff.test\\\" at the cluster scope";
        await using var server = await ScriptedServer.StartAsync(c => c.JsonAsync(403, $$"""{"kind":"Status","message":"{{Words}}","reason":"Forbidden","code":403}"""));
        using var client = server.Client();
        var error = (await client.ListAsync(Thing.Resource, Selection.All, default)).Error!;
        Assert.Equal(ApiErrorKind.Forbidden, error.Kind);
        Assert.Contains("cannot list resource \"things\"", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task a_busy_server_says_how_long_to_wait()
    {
        await using var server = await ScriptedServer.StartAsync(c =>
        {
            c.Response.Headers.RetryAfter = "7";
            return c.JsonAsync(429, """{"kind":"Status","reason":"TooManyRequests","code":429}""");
        });
        using var client = server.Client();
        var error = (await client.GetAsync(Thing.Resource, _key, default)).Error!;
        Assert.Equal((ApiErrorKind.TooManyRequests, TimeSpan.FromSeconds(7)), (error.Kind, error.RetryAfter));
    }

    [Fact]
    public async Task a_proxys_page_is_quoted()
    {
        await using var server = await ScriptedServer.StartAsync(c => c.JsonAsync(502, "<html>bad gateway</html>"));
        using var client = server.Client();
        Assert.Contains("<html>bad gateway</html>", (await client.GetAsync(Thing.Resource, _key, default)).Error!.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task a_server_that_is_not_there_is_unreachable()
    {
        KubeClient client;
        await using (var server = await ScriptedServer.StartAsync(c => c.ListAsync(1)))
        {
            client = server.Client();
        }

        using (client)
        {
            Assert.Equal(ApiErrorKind.Unreachable, (await client.GetAsync(Thing.Resource, _key, default)).Error!.Kind);
        }
    }

    [Fact]
    public async Task a_server_that_never_answers_is_unreachable_after_the_limit()
    {
        var time = new FakeTimeProvider();
        var asked = new TaskCompletionSource();
        await using var server = await ScriptedServer.StartAsync(c =>
        {
            asked.SetResult();
            return c.HangAsync();
        });
        using var client = server.Client(time);
        var answer = client.GetAsync(Thing.Resource, _key, default);
        await asked.Task.WaitAsync(_patience);
        time.Advance(TimeSpan.FromSeconds(29));
        Assert.False(answer.IsCompleted);
        time.Advance(TimeSpan.FromSeconds(2));
        Assert.Equal(ApiErrorKind.Unreachable, (await answer.WaitAsync(_patience)).Error!.Kind);
    }

    [Fact]
    public async Task an_answer_that_breaks_off_is_unreachable()
    {
        await using var server = await ScriptedServer.StartAsync(async c =>
        {
            c.Response.ContentLength = 1000;
            await c.SendAsync("{\"metadata\":");
            c.Cut();
        });
        using var client = server.Client();
        Assert.Equal(ApiErrorKind.Unreachable, (await client.GetAsync(Thing.Resource, _key, default)).Error!.Kind);
    }

    [Theory]
    [InlineData("{\"spec\":{\"size\":1}}")]
    [InlineData("null")]
    [InlineData("[]")]
    [InlineData("{\"metadata\":{\"name\":\"a\"},\"spec\":{\"size\":\"text\"}}")]
    [InlineData("")]
    public async Task an_answer_that_is_no_such_object_is_malformed(string body)
    {
        await using var server = await ScriptedServer.StartAsync(c => c.JsonAsync(200, body));
        using var client = server.Client();
        Assert.Equal(ApiErrorKind.Malformed, (await client.GetAsync(Thing.Resource, _key, default)).Error!.Kind);
    }

    [Fact]
    public async Task a_list_is_read_to_its_last_page()
    {
        await using var server = await ScriptedServer.StartAsync(c => (string?)c.Request.Query["continue"] switch
        {
            null => c.JsonAsync(200, $$"""{"metadata":{"resourceVersion":"5","continue":"a/b+c"},"items":[{{Answers.Item("one", 1)}},{{Answers.Item("two", 2)}}]}"""),
            "a/b+c" => c.JsonAsync(200, $$"""{"items":[{{Answers.Item("three", 3)}}],"metadata":{"resourceVersion":"5","continue":""} }"""),
            var other => c.JsonAsync(400, $$"""{"message":"{{other}}"}"""),
        });
        using var client = server.Client();
        var list = (await client.ListAsync(Thing.Resource, Selection.All, default)).Value!;
        Assert.Equal(["one", "two", "three"], list.Items.Select(i => i.Metadata.Name));
        Assert.Equal("5", list.ResourceVersion);
    }

    [Fact]
    public async Task a_list_without_items_is_empty()
    {
        await using var server = await ScriptedServer.StartAsync(c => c.JsonAsync(200, """{"metadata":{"resourceVersion":"5"},"items":null}"""));
        using var client = server.Client();
        Assert.Empty((await client.ListAsync(Thing.Resource, Selection.All, default)).Value!.Items);
    }

    [Fact]
    public async Task requests_are_as_the_server_wants_them()
    {
        var seen = new List<string>();
        await using var server = await ScriptedServer.StartAsync(async c =>
        {
            using var reader = new StreamReader(c.Request.Body);
            seen.Add($"{c.Request.Method} {c.Request.Path}{Uri.UnescapeDataString(c.Request.QueryString.Value!)} {c.Request.ContentType} {await reader.ReadToEndAsync()}".TrimEnd());
            Assert.Equal("skiff-test/1.0", c.Request.Headers.UserAgent);
            Assert.Equal("application/json", c.Request.Headers.Accept);
            await c.JsonAsync(200, Answers.Item("a", 1));
        });
        using var client = server.Client();
        var thing = Thing.Named("a", 3);
        var inNamespace = thing with { Metadata = new ObjectMeta { Name = "a", Namespace = "n" } };
        _ = (await client.CreateAsync(Thing.Resource, thing, default)).Value!;
        _ = (await client.UpdateAsync(Thing.Resource, inNamespace, default)).Value!;
        _ = (await client.ApplyAsync(Thing.Resource, thing, "skiff", force: true, default)).Value!;
        _ = (await client.ApplyStatusAsync(Thing.Resource, thing with { Spec = null, Status = new ThingStatus { Phase = "On" } }, "skiff", force: false, default)).Value!;
        _ = (await client.MergePatchAsync(Thing.Resource, _key, new JsonObject { ["spec"] = new JsonObject { ["size"] = null } }, default)).Value!;
        _ = (await client.MergePatchStatusAsync(Thing.Resource, _key, new JsonObject { ["status"] = null }, default)).Value!;
        Assert.Null(await client.DeleteAsync(Thing.Resource, _key, new DeletePreconditions { Uid = "u" }, default));
        const string Object = """{"metadata":{"name":"a"},"spec":{"size":3},"apiVersion":"skiff.test/v1","kind":"Thing"}""";
        Assert.Equal(
            [
                $"POST /apis/skiff.test/v1/things application/json {Object}",
                """PUT /apis/skiff.test/v1/namespaces/n/things/a application/json {"metadata":{"name":"a","namespace":"n"},"spec":{"size":3},"apiVersion":"skiff.test/v1","kind":"Thing"}""",
                $"PATCH /apis/skiff.test/v1/things/a?fieldManager=skiff&force=true application/apply-patch+yaml {Object}",
                """PATCH /apis/skiff.test/v1/things/a/status?fieldManager=skiff&force=false application/apply-patch+yaml {"metadata":{"name":"a"},"status":{"phase":"On"},"apiVersion":"skiff.test/v1","kind":"Thing"}""",
                """PATCH /apis/skiff.test/v1/things/a application/merge-patch+json {"spec":{"size":null}}""",
                """PATCH /apis/skiff.test/v1/things/a/status application/merge-patch+json {"status":null}""",
                """DELETE /apis/skiff.test/v1/things/a application/json {"preconditions":{"uid":"u"}}""",
            ],
            seen);
    }

    [Fact]
    public async Task selectors_are_escaped()
    {
        string? query = null;
        await using var server = await ScriptedServer.StartAsync(c =>
        {
            query = c.Request.QueryString.Value;
            return c.ListAsync(1);
        });
        using var client = server.Client();
        _ = await client.ListPageAsync(Thing.Resource, new Selection { Labels = "a=b,c in (d, e)", Fields = "metadata.name=x" }, 0, null, "0", default);
        Assert.Equal("?labelSelector=a%3Db%2Cc%20in%20%28d%2C%20e%29&fieldSelector=metadata.name%3Dx&resourceVersion=0", query);
    }

    [Fact]
    public async Task a_delete_without_a_name_is_never_sent()
    {
        await using var server = await ScriptedServer.StartAsync(_ => throw new InvalidOperationException("this would have deleted everything"));
        using var client = server.Client();
        _ = await Assert.ThrowsAsync<ArgumentException>(() => client.DeleteAsync(Thing.Resource, ObjectKey.Cluster(""), null, default));
    }

    [Fact]
    public void a_json_context_that_would_write_nulls_is_refused() =>
        Assert.Throws<ArgumentException>(() => new ResourceKind<Thing>("skiff.test", "v1", "things", "Thing", ThingJsonWithNulls.Default.Thing));

    [Theory]
    [InlineData(null, "not found")]
    [InlineData("a: [", "")]
    [InlineData("apiVersion: v1\nkind: Config\n", "server")]
    [InlineData("apiVersion: v1\nkind: Config\ncurrent-context: x\ncontexts: [{name: x, context: {cluster: c, user: u}}]\nclusters: [{name: c, cluster: {server: 'https://127.0.0.1:1', certificate-authority-data: '!!'}}]\nusers: [{name: u, user: {token: t}}]\n", "Base-64")]
    public async Task a_kubeconfig_that_cannot_be_used_is_named_with_what_is_wrong(string? content, string problem)
    {
        var file = Path.Combine(Path.GetTempPath(), $"skiff-kubeconfig-{Guid.NewGuid():n}");
        if (content is not null)
        {
            await File.WriteAllTextAsync(file, content);
        }

        try
        {
            var error = KubeClient.Connect(file, "skiff-test/1.0", TimeProvider.System).Error!;
            Assert.Equal(ApiErrorKind.Configuration, error.Kind);
            Assert.StartsWith(file + ": ", error.Message, StringComparison.Ordinal);
            Assert.Contains(problem, error.Message, StringComparison.OrdinalIgnoreCase);
        }
        finally
        {
            File.Delete(file);
        }
    }

    [Fact]
    public async Task a_token_of_a_kubeconfig_is_sent()
    {
        string? authorization = null;
        await using var server = await ScriptedServer.StartAsync(c =>
        {
            authorization = c.Request.Headers.Authorization;
            return c.JsonAsync(200, Answers.Item("a", 1));
        });
        var file = Path.Combine(Path.GetTempPath(), $"skiff-kubeconfig-{Guid.NewGuid():n}");
        await File.WriteAllTextAsync(file, $$"""
            {apiVersion: v1, kind: Config, current-context: x,
             contexts: [{name: x, context: {cluster: c, user: u, namespace: here} }],
             clusters: [{name: c, cluster: {server: '{{server.Address}}'} }],
             users: [{name: u, user: {token: abc} }]}
            """);
        try
        {
            using var client = KubeClient.Connect(file, "skiff-test/1.0", TimeProvider.System).Value!;
            Assert.Equal("here", client.Namespace);
            _ = (await client.GetAsync(Thing.Resource, _key, default)).Value!;
            Assert.Equal("Bearer abc", authorization);
        }
        finally
        {
            File.Delete(file);
        }
    }
}
