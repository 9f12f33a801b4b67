using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Skiff.Testing;

namespace Skiff.Contract.Pods;

/// <summary>A pod as the kubelet makes one, through CRI.</summary>
internal sealed class Pod : IAsyncDisposable
{
    private readonly PrivateContainerd _containerd;
    private readonly string _folder;
    private readonly string _config;
    private int _containers;

    private Pod(PrivateContainerd containerd, string folder, string id)
    {
        _containerd = containerd;
        _folder = folder;
        _config = Path.Combine(folder, "pod.json");
        Id = id;
    }

    public string Id { get; }

    /// <summary>Runs a sandbox.</summary>
    /// <param name="containerd">Where.</param>
    /// <param name="settings">What is set beyond its names, as CRI's PodSandboxConfig has it.</param>
    /// <param name="handler">Through which runtime handler.</param>
    public static async Task<Pod> RunAsync(PrivateContainerd containerd, JsonObject? settings = null, string handler = "skiff")
    {
        var name = ProgramTests.Id();
        var folder = Directory.CreateDirectory(Path.Combine(containerd.Folder, "pods", name)).FullName;
        var config = settings ?? [];
        config["metadata"] = new JsonObject { ["name"] = name, ["namespace"] = "skiff", ["uid"] = name, ["attempt"] = 1 };
        config["log_directory"] = folder;
        config["linux"] ??= new JsonObject();
        config["linux"]!["cgroup_parent"] ??= "/" + containerd.Name;

        Isolate(config);
        await File.WriteAllTextAsync(Path.Combine(folder, "pod.json"), config.ToJsonString());
        var id = (await containerd.CrictlAsync("runp", "--runtime", handler, Path.Combine(folder, "pod.json"))).Demand().Output.Trim();
        return new Pod(containerd, folder, id);
    }

    /// <summary>Creates a container in it.</summary>
    /// <param name="settings">What is set beyond name, image and command, as CRI's ContainerConfig has it.</param>
    /// <param name="command">What it runs.</param>
    /// <returns>Its id.</returns>
    public async Task<string> CreateAsync(JsonObject? settings, params string[] command) => (await TryCreateAsync(settings, command)).Demand().Output.Trim();

    public async Task<CtrResult> TryCreateAsync(JsonObject? settings, params string[] command)
    {
        var number = Interlocked.Increment(ref _containers);
        var config = settings ?? [];
        config["metadata"] ??= new JsonObject { ["name"] = $"c{number}", ["attempt"] = number };
        config["image"] ??= new JsonObject { ["image"] = PrivateContainerd.Image };
        if (command.Length > 0)
        {
            config["command"] = new JsonArray([.. command.Select(w => (JsonNode)w)]);
        }

        config["linux"] ??= new JsonObject();
        Isolate(config);
        config["log_path"] = $"{number}.log";
        var path = Path.Combine(_folder, $"{number}.json");
        await File.WriteAllTextAsync(path, config.ToJsonString());
        return await _containerd.CrictlAsync("create", Id, path, _config);
    }

    /// <summary>Creates and starts a container.</summary>
    /// <returns>Its id.</returns>
    public async Task<string> StartAsync(JsonObject? settings, params string[] command)
    {
        var id = await CreateAsync(settings, command);
        _ = (await _containerd.CrictlAsync("start", id)).Demand();
        return id;
    }

    /// <summary>Runs a container to its end.</summary>
    /// <returns>Its status, and what it wrote.</returns>
    public async Task<(JsonElement Status, string Log)> RunToEndAsync(JsonObject? settings, params string[] command)
    {
        var id = await StartAsync(settings, command);
        return (await EndAsync(id), await LogAsync(id));
    }

    /// <summary>Waits for its end.</summary>
    /// <returns>Its status, as crictl inspect shows it.</returns>
    public async Task<JsonElement> EndAsync(string id)
    {
        Assert.True(await Until.HoldsAsync(() => _containerd.HasEndedAsync(id), RunningContainer.Patience), $"{id} still runs: {await StatusAsync(id)}");
        return await StatusAsync(id);
    }

    public async Task<JsonElement> StatusAsync(string id) => (await InspectAsync(id)).GetProperty("status");

    /// <summary>The process of a container's init.</summary>
    public async Task<int> PidAsync(string id) => (await InspectAsync(id)).GetProperty("info").GetProperty("pid").GetInt32();

    /// <summary>The pause process.</summary>
    public async Task<int> SandboxPidAsync() =>
        JsonDocument.Parse((await _containerd.CrictlAsync("inspectp", "-o", "json", Id)).Demand().Output).RootElement.GetProperty("info").GetProperty("pid").GetInt32();

    /// <summary>The IPv4 address that it has behind its containerd's bridge.</summary>
    public async Task<string> AddressAsync() => JsonDocument.Parse((await _containerd.CrictlAsync("inspectp", "-o", "json", Id)).Demand().Output)
        .RootElement.GetProperty("status").GetProperty("network").GetProperty("ip").GetString()!;

    /// <summary>Its log, as crictl shows it.</summary>
    public async Task<string> LogAsync(string id) => (await _containerd.CrictlAsync("logs", id)).Demand().Text;

    /// <summary>Waits until its log holds a text. It is asked for when the file of the log has changed.</summary>
    public async Task SaysAsync(string id, string text)
    {
        var (log, length) = ("", 0L);
        Assert.True(
            await Until.HoldsAsync(
                async () =>
                {
                    var now = new DirectoryInfo(_folder).EnumerateFiles("*.log").Sum(f => f.Length);
                    if (now != length)
                    {
                        length = now;
                        log = await LogAsync(id);
                    }

                    return log.Contains(text, StringComparison.Ordinal);
                },
                RunningContainer.Patience),
            log);
    }

    /// <summary>Stops and removes it, as the kubelet does.</summary>
    public async ValueTask DisposeAsync()
    {
        _ = (await _containerd.CrictlAsync("stopp", Id)).Demand();
        _ = (await _containerd.CrictlAsync("rmp", Id)).Demand();
    }

    /// <summary>The number in a namespace's link, which is the same for processes that share it.</summary>
    public static string NamespaceOf(int pid, string kind) =>
        File.ResolveLinkTarget(string.Create(CultureInfo.InvariantCulture, $"/proc/{pid}/ns/{kind}"), returnFinalTarget: false)!.Name;

    /// <summary>What the kubelet asks for unless the pod says otherwise: each container its own PID namespace.</summary>
    private static void Isolate(JsonObject config) =>
        config["linux"]!["security_context"] ??= new JsonObject { ["namespace_options"] = new JsonObject { ["pid"] = 1 } };

    private async Task<JsonElement> InspectAsync(string id) =>
        JsonDocument.Parse((await _containerd.CrictlAsync("inspect", "-o", "json", id)).Demand().Output).RootElement;
}
