using Skiff.Testing;

namespace Skiff.Contract;

/// <summary>A module as people have them: 26 MB, compiled by somebody else, with a language in it.</summary>
public sealed class PythonTests(Containerds containerds)
{
    private const string Image = "skiff.test/python:1";

    [Theory]
    [MemberData(nameof(Containerds.Versions), MemberType = typeof(Containerds))]
    public async Task a_script_of_a_mounted_folder_runs_and_another_by_exec(string version)
    {
        var containerd = await containerds.GetAsync(version);
        var module = Path.Combine(Repository.Guests, "python", "python.wasm");
        Assert.True(File.Exists(module), $"no {module}: run hack/guests");
        var archive = Path.Combine(containerd.Folder, "python.tar");
        new ImageArchive(Image).File("python.wasm", await File.ReadAllBytesAsync(module)).Folder("scripts").Save(archive);
        _ = (await containerd.CtrAsync("images", "import", archive)).Demand();
        File.Delete(archive);

        var scripts = Directory.CreateDirectory(Path.Combine(containerd.Folder, "scripts")).FullName;
        await File.WriteAllTextAsync(scripts + "/first.py", """
            import json, sys, time
            with open("/scripts/words.json") as words:
                print(sum(len(word) for word in json.load(words)), sys.argv[1], flush=True)
            while True:
                time.sleep(1000)
            """);
        await File.WriteAllTextAsync(scripts + "/second.py", "import hashlib, sys\nprint(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())\nsys.exit(7)\n");
        await File.WriteAllTextAsync(scripts + "/words.json", """["a", "word", "or", "two"]""");
        var id = ProgramTests.Id();
        var (run, output) = containerd.InBackground(
            "run", "--rm", "--mount", $"type=bind,src={scripts},dst=/scripts,options=rbind:ro", "--runtime", Repository.Shim, Image, id, "/python.wasm", "/scripts/first.py", "argument");
        Assert.True(
            await Until.HoldsAsync(async () => (await File.ReadAllTextAsync(output)).EndsWith("10 argument\n", StringComparison.Ordinal), TimeSpan.FromMinutes(3)),
            await File.ReadAllTextAsync(output) + containerd.Log);

        var exec = await containerd.CtrAsync("hello"u8.ToArray(), "task", "exec", "--exec-id", "second", id, "/python.wasm", "/scripts/second.py");
        Assert.Equal((7u, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824\n"), (exec.Status, exec.Output));
        _ = (await containerd.CtrAsync("task", "kill", "--signal", "SIGTERM", id)).Demand();
        Assert.Equal(143u, (await run.Exit.WaitAsync(RunningContainer.Patience)).ShellCode);
    }
}
