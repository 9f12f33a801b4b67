using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using Skiff.Linux.Processes;
using Skiff.Testing;

namespace Skiff.Contract;

/// <summary>Where hack/engine takes Wasmtime's command from, which library it lets pass, and what it refuses.</summary>
[Trait(Containerds.Runs, Containerds.Once)]
[Trait(Containerds.Cgroup, Containerds.Any)]
public sealed class EngineScriptTests : IDisposable
{
    private const string Release = "wasmtime-v1.2.3-x86_64-linux";

    // A program that answers as the command does.
    private const string Program = """
        #include <stdio.h>
        #include <string.h>
        int main(int argc, char **argv) { if (argc == 2 && !strcmp(argv[1], "--version")) puts("wasmtime 1.2.3"); return argc < 2; }
        """;

    private readonly TemporaryFolder _folder = new("skiff-engine-");
    private readonly string _script;
    private readonly string _run;

    public EngineScriptTests()
    {
        // Away from what lies beside this checkout.
        _script = Path.Combine(Directory.CreateDirectory(Path.Combine(_folder.Path, "checkout", "hack")).FullName, "engine");
        File.Copy(Path.Combine(Repository.Root, "hack", "engine"), _script);
        File.Copy(Path.Combine(Repository.Root, "Directory.Packages.props"), Path.Combine(_folder.Path, "checkout", "Directory.Packages.props"));
        _run = Directory.CreateDirectory(Path.Combine(_folder.Path, "run")).FullName;
    }

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task a_command_that_is_given_is_taken_with_its_version_and_sum()
    {
        var (status, output) = await RunAsync("SKIFF_WASMTIME=" + await BuiltAsync());
        Assert.Equal((0u, "engine: wasmtime 1.2.3\n"), (status, output));
        Assert.Equal($"1.2.3 {Sum(await File.ReadAllBytesAsync(_run + "/wasmtime"))}\n", await File.ReadAllTextAsync(_run + "/WASMTIME"));
    }

    [Fact]
    public async Task what_is_given_and_no_command_is_refused()
    {
        Assert.Contains("is not a file", (await RunAsync("SKIFF_WASMTIME=/nowhere")).Output, StringComparison.Ordinal);
        Assert.Contains("not which Wasmtime it is", (await RunAsync("SKIFF_WASMTIME=/bin/echo")).Output, StringComparison.Ordinal);
        Assert.Contains("linked statically", (await RunAsync("SKIFF_WASMTIME=" + await BuiltAsync("-static"))).Output, StringComparison.Ordinal);
        Assert.Empty(Directory.EnumerateFileSystemEntries(_run));
    }

    [Fact]
    public async Task without_any_all_else_is_built_and_a_line_says_what_will_not_run()
    {
        var (status, output) = await RunAsync();
        Assert.Equal(3u, status);
        Assert.Contains("engine: no Wasmtime command: pods that serve HTTP or are for WASI 0.3 will not run", output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task a_release_is_downloaded_and_taken_only_whole_and_with_the_sum_that_was_given()
    {
        var archive = await ArchiveAsync();
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        using var stop = new CancellationTokenSource();
        var served = archive.Length;
        var serving = ServeAsync(listener, path => path == $"/v1.2.3/{Release}.tar.xz" ? archive : null, () => served, stop.Token);
        string[] given = [$"SKIFF_WASMTIME_URL=http://{listener.LocalEndpoint}", "SKIFF_WASMTIME_SHA256=" + Sum(archive)];

        var (status, output) = await RunAsync([.. given, "SKIFF_WASMTIME_VERSION=1.2.4"]);
        Assert.Equal(1u, status);
        Assert.Contains("404", output, StringComparison.Ordinal);
        Assert.Contains("cannot be fetched (see above); is there a release 1.2.4", output, StringComparison.Ordinal);

        served = archive.Length - 100;
        (status, output) = await RunAsync([.. given, "SKIFF_WASMTIME_VERSION=1.2.3"]);
        Assert.Equal(1u, status);
        Assert.Contains("cannot be fetched", output, StringComparison.Ordinal);

        served = archive.Length;
        (status, output) = await RunAsync([given[0], "SKIFF_WASMTIME_SHA256=" + new string('0', 64), "SKIFF_WASMTIME_VERSION=1.2.3"]);
        Assert.Equal(1u, status);
        Assert.Contains($"has the sha256 {Sum(archive)} and should have 0000", output, StringComparison.Ordinal);
        Assert.Contains("is not a sha256", (await RunAsync([given[0], "SKIFF_WASMTIME_SHA256=abc"])).Output, StringComparison.Ordinal);
        Assert.Empty(Directory.EnumerateFileSystemEntries(_run));

        (status, output) = await RunAsync([.. given, "SKIFF_WASMTIME_VERSION=1.2.3"]);
        Assert.Equal((0u, "engine: wasmtime 1.2.3\n"), (status, output));
        await stop.CancelAsync();
        await serving;
    }

    [Fact]
    public async Task a_library_that_fits_is_recorded_and_the_runner_takes_no_other()
    {
        CopyRunner();
        var (status, output) = await LibraryAsync();
        Assert.Equal(0u, status);
        Assert.Matches(@"^engine: library 50\.0\.\d+\n$", output);
        var record = (await File.ReadAllTextAsync(_run + "/ENGINE")).Split(' ');
        Assert.Equal(($"engine: library {record[0]}\n", 3), (output, record.Length));

        var module = Path.Combine(Repository.Guests, "hello.wasm");
        Assert.Equal((0u, "hello from wasm, 1 arguments\n"), await RunnerAsync($"run --module {module} -- hello"));
        Assert.Contains($"(wasmtime {record[0]})", (await RunnerAsync("--version")).Output, StringComparison.Ordinal);
        await using (var library = File.OpenWrite(_run + "/libwasmtime.so"))
        {
            library.SetLength(library.Length + 1);
        }

        foreach (var words in (string[])[$"run --module {module} -- hello", $"compile < {module}"])
        {
            (status, output) = await RunnerAsync(words);
            Assert.Equal(124u, status);
            Assert.Contains("/libwasmtime.so has ", output, StringComparison.Ordinal);
            Assert.Contains("; install Skiff again", output, StringComparison.Ordinal);
        }

        File.Delete(_run + "/libwasmtime.so");
        (status, output) = await RunnerAsync($"run --module {module} -- hello");
        Assert.Equal(124u, status);
        Assert.Contains("/libwasmtime.so cannot be used: ", output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task a_library_that_does_not_fit_is_refused()
    {
        CopyRunner();
        await File.WriteAllTextAsync(_run + "/libwasmtime.so", "text");
        await RefusesAsync("is not a shared library");

        await File.WriteAllTextAsync(Path.Combine(_folder.Path, "other.c"), "int wasmtime_engine_new(void) { return 0; }");
        Assert.Equal((0u, ""), await BashAsync([], $"gcc -shared -o {_run}/libwasmtime.so {_folder.Path}/other.c"));
        await RefusesAsync(@"has no wasi_\w+ and \d+ more of the functions that skiff-run calls");

        var unpack = Path.Combine(Repository.Shared, "engines", "wasmtime", "unpack.sh");
        Assert.SkipUnless(File.Exists(unpack), $"no {unpack}: it gives the library of another release");
        Assert.Equal(0u, (await BashAsync([], $"{unpack} {_folder.Path}/other && cp {_folder.Path}/other/libwasmtime.so {_run}/")).Status);
        await RefusesAsync(@"is of Wasmtime \d+, and skiff-run is made for \d+: another patch release of \d+ is wanted");

        async Task RefusesAsync(string reason)
        {
            var (status, output) = await LibraryAsync();
            Assert.Equal(1u, status);
            Assert.Matches(@$"^engine: libwasmtime\.so \(/given\) {reason}", output);
            Assert.False(File.Exists(_run + "/ENGINE"));
        }
    }

    private static string Sum(byte[] content) => Convert.ToHexStringLower(SHA256.HashData(content));

    /// <summary>The runner's folder as it was built, without what the check makes of it.</summary>
    private void CopyRunner()
    {
        foreach (var file in Directory.EnumerateFiles(Path.Combine(Repository.Out, "run")))
        {
            File.Copy(file, Path.Combine(_run, Path.GetFileName(file)));
        }

        File.Delete(_run + "/ENGINE");
    }

    private Task<(uint Status, string Output)> LibraryAsync() => BashAsync(["SKIFF_LIBWASMTIME=/given"], $"bash {_script} --library {_run} 2>&1");

    private Task<(uint Status, string Output)> RunnerAsync(string words) => BashAsync([], $"{_run}/ld-linux-*.so.* --library-path {_run} {_run}/skiff-run {words} 2>&1");

    private async Task<string> BuiltAsync(params string[] options)
    {
        var source = Path.Combine(_folder.Path, "wasmtime.c");
        await File.WriteAllTextAsync(source, Program);
        var made = Path.Combine(_folder.Path, "wasmtime");
        Assert.Equal((0u, ""), await BashAsync([], $"gcc {string.Join(' ', options)} -o {made} {source}"));
        return made;
    }

    private async Task<byte[]> ArchiveAsync()
    {
        var folder = Directory.CreateDirectory(Path.Combine(_folder.Path, Release)).FullName;
        File.Copy(await BuiltAsync(), folder + "/wasmtime");
        Assert.Equal((0u, ""), await BashAsync([], $"cd {_folder.Path} && tar -cJf release.tar.xz {Release}"));
        return await File.ReadAllBytesAsync(Path.Combine(_folder.Path, "release.tar.xz"));
    }

    private Task<(uint Status, string Output)> RunAsync(params string[] environment) => BashAsync(environment, $"bash {_script} {_run} 2>&1");

    private static async Task<(uint Status, string Output)> BashAsync(string[] environment, string line)
    {
        var result = await Command.RunAsync(
            new SpawnRequest { Path = "/bin/bash", Arguments = ["bash", "-c", line], Environment = ["PATH=/usr/bin:/bin", .. environment] }, TimeSpan.FromMinutes(3));
        return (result.Exit.ShellCode, result.OutputText + result.Error);
    }

    /// <summary>Answers requests one after another; what is served may be less than what is promised.</summary>
    private static async Task ServeAsync(TcpListener listener, Func<string, byte[]?> find, Func<int> served, CancellationToken cancellation)
    {
        try
        {
            while (true)
            {
                using var client = await listener.AcceptTcpClientAsync(cancellation);
                var stream = client.GetStream();
                using var reader = new StreamReader(stream, Encoding.ASCII, leaveOpen: true);
                var path = (await reader.ReadLineAsync(cancellation))!.Split(' ')[1];
                while (await reader.ReadLineAsync(cancellation) is { Length: > 0 })
                {
                }

                var body = find(path);
                await stream.WriteAsync(
                    Encoding.ASCII.GetBytes($"HTTP/1.1 {(body is null ? "404 Not Found" : "200 OK")}\r\nConnection: close\r\nContent-Length: {body?.Length ?? 0}\r\n\r\n"), cancellation);
                await stream.WriteAsync(body.AsMemory(0, body is null ? 0 : served()), cancellation);
            }
        }
        catch (OperationCanceledException)
        {
        }
    }
}
