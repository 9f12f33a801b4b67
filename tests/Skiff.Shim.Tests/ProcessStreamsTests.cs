using Microsoft.Extensions.Logging.Abstractions;
using Skiff.Linux.Files;
using Skiff.Shim.Stdio;

namespace Skiff.Shim.Tests;

public sealed class ProcessStreamsTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("skiff-streams-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task input_ends_also_when_the_client_was_done_before_all_was_open()
    {
        for (var i = 0; i < 300; i++)
        {
            var path = Path.Combine(_folder, $"{i}");
            Fifo.Create(path, 0x180);
            var client = new Thread(() =>
            {
                using var file = new FileStream(path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite, bufferSize: 0); // waits for a reader
                file.Write("input"u8);
            });
            client.Start();
            var (streams, problem) = await ProcessStreams.OpenAsync(
                new StdioRequest(path, "", "", Terminal: false), new StdioOwner(_folder, "test", "c", 0, 0, ClientClosesInput: true), NullLogger.Instance, default);
            Assert.Null(problem);
            await using (streams)
            {
                client.Join();
                var input = streams!.ForRuntime.Descriptors[0];
                OpenDescriptor.SetBlocking(input, blocking: true);
                Assert.Equal("input", await Task.Run(() => ReadToEnd(input)).WaitAsync(TimeSpan.FromSeconds(90)));
            }
        }
    }

    private static string ReadToEnd(Microsoft.Win32.SafeHandles.SafeFileHandle file)
    {
        var text = "";
        var buffer = new byte[64];
        while (OpenDescriptor.TryRead(file, buffer) is { } count and > 0)
        {
            text += System.Text.Encoding.ASCII.GetString(buffer, 0, count);
        }

        return text;
    }
}
