using System.Formats.Tar;
using System.Text.Json.Nodes;
using Skiff.Testing;

namespace Skiff.Contract.Pods;

/// <summary>Images that are WebAssembly themselves, pulled through CRI from a registry.</summary>
public sealed class WasmImageTests(Containerds containerds)
{
    private const string OciConfig = "application/vnd.oci.image.config.v1+json";
    private const string CncfConfig = "application/vnd.wasm.config.v0+json";
    private const string CncfLayer = "application/wasm";
    private const string RunwasiLayer = "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm";

    // Earlier ones refuse images whose layers they do not know (containerd pull request 9142).
    public static TheoryData<string> Versions => [.. ContainerdVersion.Tested.Select(v => v.Name).Where(n => n != "1.6")];

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task a_module_that_is_a_layer_runs(string version)
    {
        var containerd = await containerds.GetForPodsAsync(version);
        using var registry = ImageRegistry.StartIn(containerd.Name);
        await using var pod = await Pod.RunAsync(containerd);
        foreach (var (name, configType, config, layer, guest) in (List<(string, string, JsonObject, string, string)>)[
            ("core", OciConfig, Config("wasip1", "wasm"), CncfLayer, "hello.wasm"),
            ("component", OciConfig, Config("wasip1", "wasm"), CncfLayer, "hello.component.wasm"),
            ("runwasi", OciConfig, Config("wasi", "wasm"), RunwasiLayer, "hello.wasm"),
            ("linux", OciConfig, Config("linux", "amd64"), CncfLayer, "hello.wasm"),
            ("cncf", CncfConfig, new JsonObject { ["author"] = ProgramTests.Id(), ["os"] = "wasip1", ["architecture"] = "wasm", ["layerDigests"] = new JsonArray() }, CncfLayer, "hello.component.wasm"),
        ])
        {
            var image = registry.Add(name, configType, config, [(layer, null, await GuestAsync(guest))]);
            var said = await RunAsync(containerd, pod, image, "/app.wasm", "one");
            Assert.True(said == "hello from wasm, 2 arguments\n", $"{name}: {said}");
        }
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task of_several_layers_the_title_chooses(string version)
    {
        var containerd = await containerds.GetForPodsAsync(version);
        using var registry = ImageRegistry.StartIn(containerd.Name);
        await using var pod = await Pod.RunAsync(containerd);
        var image = registry.Add(
            "both", OciConfig, Config("wasip1", "wasm"), [(CncfLayer, "exit.wasm", await GuestAsync("exit.wasm")), (CncfLayer, "hello.wasm", await GuestAsync("hello.wasm"))]);
        Assert.Equal("hello from wasm, 1 arguments\n", await RunAsync(containerd, pod, image, "/hello.wasm"));
        Assert.Contains("the image has 2 WebAssembly layers, and none has the title /app.wasm", await RunAsync(containerd, pod, image, "/app.wasm"), StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task a_layer_is_one_artifact_and_its_exec_runs_it_too(string version)
    {
        var containerd = await containerds.GetForPodsAsync(version);
        using var registry = ImageRegistry.StartIn(containerd.Name);
        await using var pod = await Pod.RunAsync(containerd);
        var image = registry.Add("sleeper", OciConfig, Config("wasip1", "wasm"), [(CncfLayer, null, await GuestAsync("sleep.wasm"))]);
        _ = (await containerd.CrictlAsync("pull", image)).Demand();
        var id = await pod.StartAsync(new JsonObject { ["image"] = new JsonObject { ["image"] = image } }, "/app.wasm");
        await pod.SaysAsync(id, "ready");
        var maps = await File.ReadAllTextAsync($"/proc/{await pod.PidAsync(id)}/maps");
        Assert.Contains("/artifact", maps, StringComparison.Ordinal);
        var exec = await containerd.CrictlAsync("exec", "--sync", "--timeout", "2", id, "/app.wasm");
        Assert.Contains("DeadlineExceeded", exec.Text.Replace(" ", "", StringComparison.Ordinal), StringComparison.OrdinalIgnoreCase); // it ran until it was ended
        Assert.Contains("no such file", (await containerd.CrictlAsync("exec", "--sync", id, "/other.wasm")).Text, StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task files_of_a_wasm_platform_run(string version)
    {
        var containerd = await containerds.GetForPodsAsync(version);
        using var registry = ImageRegistry.StartIn(containerd.Name);
        await using var pod = await Pod.RunAsync(containerd);
        using var tar = new MemoryStream();
        using (var writer = new TarWriter(tar, TarEntryFormat.Ustar, leaveOpen: true))
        {
            writer.WriteEntry(new UstarTarEntry(TarEntryType.RegularFile, "app.wasm") { Mode = (UnixFileMode)0x1ED, DataStream = new MemoryStream(await GuestAsync("hello.wasm")) });
        }

        foreach (var os in (string[])["wasi", "wasip1"])
        {
            var image = registry.Add("files-" + os, OciConfig, Config(os, "wasm"), [("tar", null, tar.ToArray())]);
            var said = await RunAsync(containerd, pod, image, "/app.wasm");
            Assert.True(said == "hello from wasm, 1 arguments\n", $"{os}: {said}");
        }
    }

    private static async Task<string> RunAsync(PrivateContainerd containerd, Pod pod, string image, params string[] command)
    {
        var pull = await containerd.CrictlAsync("pull", image);
        if (pull.Status != 0)
        {
            return pull.Text;
        }

        var created = await pod.TryCreateAsync(new JsonObject { ["image"] = new JsonObject { ["image"] = image } }, command);
        var started = created.Status == 0 ? await containerd.CrictlAsync("start", created.Output.Trim()) : created;
        if (started.Status != 0)
        {
            return started.Text;
        }

        _ = await pod.EndAsync(created.Output.Trim());
        return await pod.LogAsync(created.Output.Trim());
    }

    /// <remarks>Each is another, because to CRI images with equal configurations are one image.</remarks>
    private static JsonObject Config(string os, string architecture) => new()
    {
        ["author"] = ProgramTests.Id(),
        ["os"] = os,
        ["architecture"] = architecture,
        ["config"] = new JsonObject { ["Entrypoint"] = new JsonArray("/app.wasm") },
        ["rootfs"] = new JsonObject { ["type"] = "layers", ["diff_ids"] = new JsonArray() },
    };

    private static Task<byte[]> GuestAsync(string name) => File.ReadAllBytesAsync(Path.Combine(Repository.Guests, name));
}
