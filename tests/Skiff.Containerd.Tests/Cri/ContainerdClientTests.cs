using System.Net.Sockets;
using Skiff.Containerd.Cri;
using Skiff.Testing;

namespace Skiff.Containerd.Tests.Cri;

public sealed class ContainerdClientTests : IDisposable
{
    private static readonly TimeSpan _timeout = TimeSpan.FromSeconds(90);

    private readonly string _folder = Directory.CreateTempSubdirectory("skiff-socket-").FullName;

    public static TheoryData<string> Versions => [.. ContainerdVersion.Tested.Select(v => v.Name)];

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [MemberData(nameof(Versions))]
    public async ValueTask a_real_containerd_tells_its_version_and_its_handlers(string version)
    {
        await using var containerd = await CriContainerd.StartAsync(version);
        using var client = new ContainerdClient("/", containerd.Socket, _timeout);
        var (text, failure) = await client.VersionAsync(TestContext.Current.CancellationToken);
        Assert.Null(failure);
        Assert.Equal(version, ContainerdRelease.Parse(text!)!.ToString(2));
        foreach (var (handler, known) in new Dictionary<string, bool> { ["runc"] = true, ["skiff"] = true, ["skif"] = false })
        {
            Assert.Equal((known, null), await client.HasHandlerAsync(handler, TestContext.Current.CancellationToken));
        }
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public async ValueTask a_sandbox_runs_is_found_by_its_label_and_goes_again(string version)
    {
        var cancellation = TestContext.Current.CancellationToken;
        await using var containerd = await CriContainerd.StartAsync(version);
        using var client = new ContainerdClient("/", containerd.Socket, _timeout);
        var labels = new Dictionary<string, string> { ["skiff.dev/self-test"] = "yes" };
        var (id, failure) = await client.RunPodSandboxAsync(new SandboxRequest("test", "skiff-system", "u-1", "runc") { Labels = labels }, cancellation);
        Assert.Null(failure);
        try
        {
            Assert.Equal((true, null), await client.PodSandboxReadyAsync(id!, cancellation));
            Assert.Equal([new Sandbox(id!, "test", "skiff-system", "runc", true)], (await client.ListPodSandboxesAsync(labels, cancellation)).Sandboxes!);
            labels["skiff.dev/self-test"] = "no";
            Assert.Empty((await client.ListPodSandboxesAsync(labels, cancellation)).Sandboxes!);
        }
        finally
        {
            Assert.Null(await client.RemovePodSandboxAsync(id!, cancellation));
        }

        Assert.Equal(ContainerdError.NotFound, (await client.PodSandboxReadyAsync(id!, cancellation)).Failure!.Error);
        Assert.Null(await client.RemovePodSandboxAsync(id!, cancellation));
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public async ValueTask a_handler_that_containerd_does_not_have_fails_with_its_words(string version)
    {
        await using var containerd = await CriContainerd.StartAsync(version);
        using var client = new ContainerdClient("/", containerd.Socket, _timeout);
        var (_, failure) = await client.RunPodSandboxAsync(new SandboxRequest("test", "skiff-system", "u-1", "nosuch"), TestContext.Current.CancellationToken);
        Assert.Equal(ContainerdError.Failed, failure!.Error);
        Assert.Contains("\"nosuch\"", failure.Message, StringComparison.Ordinal);
        Assert.Contains(containerd.Socket, failure.Message, StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public async ValueTask a_client_outlives_a_restart_of_containerd(string version)
    {
        var cancellation = TestContext.Current.CancellationToken;
        await using var containerd = await CriContainerd.StartAsync(version);
        using var client = new ContainerdClient("/", containerd.Socket, _timeout);
        Assert.Null((await client.VersionAsync(cancellation)).Failure);
        await containerd.RestartAsync();
        Assert.True(await Until.HoldsAsync(async () => (await client.HasHandlerAsync("skiff", cancellation)).Known == true, _timeout));
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public async ValueTask a_containerd_without_cri_is_told_from_one_that_is_away(string version)
    {
        await using var containerd = await CriContainerd.StartAsync(version, cri: false);
        using var client = new ContainerdClient("/", containerd.Socket, _timeout);
        var (_, failure) = await client.HasHandlerAsync("skiff", TestContext.Current.CancellationToken);
        Assert.Equal(ContainerdError.NoCri, failure!.Error);
        Assert.Contains("disabled_plugins", failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async ValueTask a_socket_far_down_behind_absolute_links_is_reached_below_the_hosts_root()
    {
        await using var containerd = await CriContainerd.StartAsync("1.6");

        // A host's root with the socket's folder mounted nowhere but reached through a link that only means something below that root.
        var root = containerd.Folder;
        var deep = string.Concat(Enumerable.Repeat("/a-folder-with-a-name-of-some-length", 5));
        _ = Directory.CreateDirectory(root + deep);
        _ = File.CreateSymbolicLink($"{root}{deep}/containerd.sock", "/c.sock");
        using var client = new ContainerdClient($"/proc/self/root{root}", deep + "/containerd.sock", _timeout);
        Assert.Null((await client.VersionAsync(TestContext.Current.CancellationToken)).Failure);
    }

    [Fact]
    public async ValueTask a_socket_that_is_not_there_or_has_no_listener_is_unavailable()
    {
        File.WriteAllText(_folder + "/file", "");
        using (var dead = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified))
        {
            dead.Bind(new UnixDomainSocketEndPoint(_folder + "/dead"));
        }

        foreach (var name in (string[])["/missing", "/dead", "/file"])
        {
            using var client = new ContainerdClient(_folder, name, _timeout);
            var (_, failure) = await client.VersionAsync(TestContext.Current.CancellationToken);
            Assert.Equal((ContainerdError.Unavailable, name), (failure!.Error, name));
            Assert.Contains($"containerd at {name}", failure.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async ValueTask a_listener_that_never_answers_costs_no_more_than_the_time_limit()
    {
        using var silent = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        silent.Bind(new UnixDomainSocketEndPoint(_folder + "/silent"));
        silent.Listen();
        using var client = new ContainerdClient(_folder, "/silent", TimeSpan.FromMilliseconds(200));
        var (_, failure) = await client.VersionAsync(TestContext.Current.CancellationToken);
        Assert.Equal(ContainerdError.TimedOut, failure!.Error);
        Assert.Contains("no answer within 0.2 s", failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async ValueTask a_call_that_the_caller_gives_up_throws_as_cancelled()
    {
        using var silent = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        silent.Bind(new UnixDomainSocketEndPoint(_folder + "/silent"));
        silent.Listen();
        using var client = new ContainerdClient(_folder, "/silent", _timeout);
        using var cancellation = new CancellationTokenSource();
        var call = client.VersionAsync(cancellation.Token);
        await cancellation.CancelAsync();
        _ = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => call);
    }
}
