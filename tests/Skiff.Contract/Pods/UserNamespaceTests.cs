using System.Text.Json.Nodes;
using Skiff.Linux.Files;
using Skiff.Testing;

namespace Skiff.Contract.Pods;

/// <summary>Pods with <c>hostUsers: false</c>, which containerd offers since 2.0 and runc since 1.2: root in them is nobody on the node.</summary>
public sealed class UserNamespaceTests
{
    private const uint FirstUser = 100000;
    private const uint FirstGroup = 200000;

    public static TheoryData<string> Versions => [.. ContainerdVersion.Tested.Where(v => v.Name == "2.4").Select(v => v.Name)];

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task root_in_a_pod_with_users_of_its_own_is_nobody_on_the_node(string version)
    {
        if (Repository.Missing is { } lacking)
        {
            Assert.Skip(lacking);
        }

        var (binaries, missing) = await ContainerdVersion.Named(version).LocateAsync();
        if ((missing ?? await CriTools.LocateAsync()) is { } absent)
        {
            Assert.Skip(absent);
        }

        await using var containerd = await PrivateContainerd.StartAsync(ContainerdVersion.Named(version), binaries!, cri: true, inMemory: true);
        await using (var pod = await Pod.RunAsync(containerd, OwnUsers(null)))
        {
            var pause = await pod.SandboxPidAsync();
            Assert.NotEqual(Pod.NamespaceOf(Environment.ProcessId, "user"), Pod.NamespaceOf(pause, "user"));
            foreach (var (kind, user) in (List<(string, uint)>)[(".wasm", 0), (".component.wasm", 0), (".native", 0), (".wasm", 1000)])
            {
                var id = await pod.StartAsync(OwnUsers(user), "/show" + kind, user == 0 ? "write:/tmp/new" : "list:/etc", "stay");
                await pod.SaysAsync(id, user == 0 ? "wrote /tmp/new\nstays" : "rootfs.txt");
                var pid = await pod.PidAsync(id);
                Assert.Equal(Pod.NamespaceOf(pause, "user"), Pod.NamespaceOf(pid, "user"));
                Assert.Equal((FirstUser + user, FirstGroup), Owner($"/proc/{pid}"));

                // Its root file system, from the image and new, and what CRI mounts.
                Assert.Equal((FirstUser, FirstGroup), Owner($"/proc/{pid}/root/etc/rootfs.txt"));
                Assert.Equal((FirstUser, FirstGroup), Owner($"/proc/{pid}/root/etc/hosts"));
                Assert.Equal(user == 0 ? (FirstUser, FirstGroup) : default, Owner($"/proc/{pid}/root/tmp/new"));

                var hello = await containerd.CrictlAsync("exec", "--sync", id, "/hello.wasm");
                Assert.Contains("hello from wasm", hello.Text, StringComparison.Ordinal);
                _ = (await containerd.CrictlAsync("stop", "--timeout", "10", id)).Demand();
            }

            // A limit of the container's kills it here as anywhere.
            var (status, _) = await pod.RunToEndAsync(OwnUsers(0, """{"memory_limit_in_bytes": 33554432}"""), "/grow.wasm");
            Assert.Equal("OOMKilled", status.GetProperty("reason").GetString());
        }

        await Containerds.NothingLeftAsync(containerd);
    }

    private static (uint User, uint Group) Owner(string path) => FileStatus.Of(path, followLink: true) is { } status ? (status.UserId, status.GroupId) : default;

    private static JsonObject OwnUsers(uint? user, string? resources = null)
    {
        var context = new JsonObject
        {
            ["namespace_options"] = new JsonObject
            {
                ["pid"] = 1,
                ["userns_options"] = new JsonObject { ["mode"] = 0, ["uids"] = Map(FirstUser), ["gids"] = Map(FirstGroup) },
            },
        };
        if (user is { } number)
        {
            context["run_as_user"] = new JsonObject { ["value"] = number };
        }

        return new JsonObject { ["linux"] = new JsonObject { ["security_context"] = context, ["resources"] = resources is null ? null : JsonNode.Parse(resources) } };
    }

    private static JsonArray Map(uint first) => [new JsonObject { ["host_id"] = first, ["container_id"] = 0, ["length"] = 65536 }];
}
