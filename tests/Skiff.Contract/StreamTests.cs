using System.Security.Cryptography;
using Microsoft.Win32.SafeHandles;
using Skiff.Linux.Files;
using Skiff.Testing;

namespace Skiff.Contract;

/// <summary>Much data, slow readers, and a containerd that goes away meanwhile.</summary>
public sealed class StreamTests(Containerds containerds)
{
    private const int Mebibyte = 1 << 20;

    public static TheoryData<string, string> Kinds =>
        [.. ContainerdVersion.Tested.Select(v => (v.Name, v.Name is "1.6" or "2.1" ? ".native" : ".wasm"))];

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task a_hundred_mebibytes_arrive_whole_although_the_reader_is_slow_and_goes_away_and_containerd_too(string version, string kind)
    {
        const int size = 100;
        var containerd = await containerds.GetAsync(version);
        var folder = Directory.CreateDirectory(Path.Combine(containerd.Folder, "flood-" + ProgramTests.Id())).FullName;

        // It begins when ctr, which starts it, has gone and reads no more.
        await using var container = await RunningContainer.StartAsync(
            containerd, ["--fifo-dir", folder + "/fifo", "--mount", $"type=bind,src={folder},dst=/rw,options=rbind:rw"], "/flood" + kind, $"{size}", "/rw/go");
        var fifo = Assert.Single(Directory.GetFiles(folder + "/fifo", "*-stdout", SearchOption.AllDirectories));
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var total = 0L;
        using (var reader = Fifo.OpenReadNonBlocking(fifo)!)
        {
            await File.WriteAllTextAsync(folder + "/go", "");
            total += await ReadAsync(reader, hash, 2 * Mebibyte, slowly: true);
        }

        await containerd.KillAsync();
        using (var reader = Fifo.OpenReadNonBlocking(fifo)!)
        {
            total += await ReadAsync(reader, hash, 10 * Mebibyte, slowly: false);
            await containerd.StartAgainAsync();
            total += await ReadAsync(reader, hash, long.MaxValue, slowly: false);
        }

        Assert.Equal(size * (long)Mebibyte, total);
        Assert.Equal(Flood(size), Convert.ToHexString(hash.GetHashAndReset()));
        Assert.True(await container.BecomesAsync("STOPPED"));
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task sixty_four_mebibytes_of_input_arrive_whole(string version, string kind)
    {
        var containerd = await containerds.GetAsync(version);
        await using var container = await RunningContainer.StartAsync(containerd, [], "/sleep" + kind);
        var path = Path.Combine(containerd.Folder, "input-" + ProgramTests.Id());
        var content = new byte[64 * Mebibyte];
        new Random(6).NextBytes(content);
        await File.WriteAllBytesAsync(path, content);
        using var input = File.OpenHandle(path);
        var (ctr, output) = containerd.InBackground(input, "task", "exec", "--exec-id", "cat", container.Id, "/cat" + kind);
        Assert.Equal(0u, (await ctr.Exit.WaitAsync(RunningContainer.Patience)).ShellCode);
        var arrived = await File.ReadAllBytesAsync(output);
        if (arrived.Length > content.Length)
        {
            arrived = arrived[^content.Length..]; // ctr 2.4 warns first
        }

        Assert.Equal(Convert.ToHexString(SHA256.HashData(content)), Convert.ToHexString(SHA256.HashData(arrived)));
    }

    [Theory]
    [MemberData(nameof(Containerds.Versions), MemberType = typeof(Containerds))]
    public async Task output_goes_to_the_end_of_a_file_or_to_a_logger(string version)
    {
        var containerd = await containerds.GetAsync(version);
        var file = Path.Combine(containerd.Folder, "logs", ProgramTests.Id() + ".log");
        for (var i = 0; i < 2; i++)
        {
            await RunWithLogAsync(containerd, "file://" + file, "/hello.wasm");
        }

        Assert.Equal("hello from wasm, 1 arguments\nhello from wasm, 1 arguments\n", await File.ReadAllTextAsync(file));

        var logger = Path.Combine(containerd.Folder, "logger-" + ProgramTests.Id());
        await File.WriteAllTextAsync(logger, $"#!/bin/sh\nexec 5>&-\necho \"$CONTAINER_NAMESPACE $CONTAINER_ID $*\" > {logger}.log\n/bin/cat <&3 >> {logger}.log\necho end >> {logger}.log\n");
        File.SetUnixFileMode(logger, (UnixFileMode)0x1ED);
        var id = await RunWithLogAsync(containerd, $"binary://{logger}?a=b&c=d%20e", "/hello.native");
        Assert.Equal($"{containerd.Namespace} {id} a b c d e\nhello from native, 1 arguments\nend\n", await File.ReadAllTextAsync(logger + ".log"));
        Assert.Contains("file://, binary:// and binary-v2:// are known", (await RunAsync(containerd, ProgramTests.Id(), "pigeon:///x", "/hello.native")).Error, StringComparison.Ordinal);
    }

    /// <summary>Runs a program to its end and deletes it, which waits for a logger's end.</summary>
    private static async Task<string> RunWithLogAsync(PrivateContainerd containerd, string log, string program)
    {
        var id = ProgramTests.Id();
        _ = (await RunAsync(containerd, id, log, program)).Demand();
        Assert.True(await Until.HoldsAsync(
            async () => (await containerd.TaskAsync(id)).Status == "STOPPED", RunningContainer.Patience));
        _ = (await containerd.CtrAsync("task", "rm", id)).Demand();
        _ = (await containerd.CtrAsync("container", "rm", id)).Demand();
        return id;
    }

    private static async Task<CtrResult> RunAsync(PrivateContainerd containerd, string id, string log, string program)
    {
        var result = await containerd.CtrAsync("run", "--detach", "--log-uri", log, "--runtime", Repository.Shim, PrivateContainerd.Image, id, program);
        if (result.Status != 0)
        {
            _ = await containerd.CtrAsync("container", "rm", id);
        }

        return result;
    }

    /// <summary>Reads until there is so much, or the end.</summary>
    private static async Task<long> ReadAsync(SafeFileHandle reader, IncrementalHash hash, long limit, bool slowly)
    {
        var buffer = new byte[slowly ? 4096 : 65536];
        using var stop = new CancellationTokenSource(RunningContainer.Patience);
        long total = 0;
        while (total < limit)
        {
            switch (OpenDescriptor.TryRead(reader, buffer))
            {
                case null:
                    await Readiness.ReadableAsync(reader, stop.Token);
                    break;
                case 0:
                    return total;
                case { } count:
                    hash.AppendData(buffer, 0, count);
                    total += count;
                    if (slowly)
                    {
                        await Task.Yield();
                    }

                    break;
            }
        }

        return total;
    }

    /// <summary>The hash of what tests/guests/flood.c writes.</summary>
    private static string Flood(int mebibytes)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var block = new byte[Mebibyte];
        uint x = 1;
        for (var i = 0; i < mebibytes; i++)
        {
            for (var j = 0; j < block.Length; j++)
            {
                x = unchecked((x * 1103515245) + 12345);
                block[j] = (byte)(x >> 16);
            }

            hash.AppendData(block);
        }

        return Convert.ToHexString(hash.GetHashAndReset());
    }
}
