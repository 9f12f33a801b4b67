using Microsoft.Extensions.Logging;
using Microsoft.Win32.SafeHandles;
using Skiff.Linux.Files;

namespace Skiff.Shim.Wasm;

/// <summary>How a module became an artifact, or did not.</summary>
/// <param name="Path">The artifact; null when there is none.</param>
/// <param name="Refusal">Why the module cannot be compiled: it is at fault, and will be next time too.</param>
/// <param name="Problem">Why it was not compiled although it may well be good: the container can still compile it for itself.</param>
/// <param name="Misfit">Why nothing can be compiled or run: the runner's folder is not as it was built.</param>
internal readonly record struct ArtifactResult(string? Path, string? Refusal = null, string? Problem = null, string? Misfit = null);

/// <summary>Compiles a module.</summary>
/// <param name="module">A copy of the module that nobody else can change, at its start.</param>
/// <param name="artifact">An empty file for the outcome.</param>
/// <param name="workFolder">An empty folder that goes afterwards.</param>
/// <param name="cancellation">Ends it.</param>
internal delegate Task<ArtifactResult> Compile(SafeFileHandle module, SafeFileHandle artifact, string workFolder, CancellationToken cancellation);

/// <summary>
/// The node's compiled modules, one folder each: FOLDER/KEY/artifact. A module is compiled once, however many containers of however many
/// pods want it at the same time, and all of them map the same file.
/// </summary>
/// <remarks>
/// An artifact is native code that runs without being looked at again. So the folder is root's alone, only whole files get their name, and
/// the key is the content: the module's SHA-256 (checked of the very bytes that are compiled), the runner's folder and the processor.
/// </remarks>
internal sealed partial class ArtifactCache(string folder, string engine, long limit, Compile compile, TimeProvider time, ILogger logger)
{
    /// <summary>Where it is on a node, unless containerd's environment says otherwise (SKIFF_CACHE_DIR).</summary>
    public static string DefaultFolder => Environment.GetEnvironmentVariable("SKIFF_CACHE_DIR") is ['/', ..] given ? given : "/var/lib/skiff/cache";

    /// <summary>How much it may hold, in bytes.</summary>
    public const long DefaultLimit = 2L << 30;

    private const string ArtifactName = "artifact";

    // Containers run as any user, and reach the file through a mount of it alone; its folders let nobody else in.
    private const UnixFileMode Readable = UnixFileMode.UserRead | UnixFileMode.GroupRead | UnixFileMode.OtherRead;
    private const UnixFileMode OwnerOnly = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;

    // Between the answer of GetAsync and the mount of the file lie a few milliseconds; nothing this young is ever evicted.
    private static readonly TimeSpan _young = TimeSpan.FromMinutes(10);

    private static readonly TimeSpan _lockPause = TimeSpan.FromMilliseconds(20);

    /// <summary>The artifact of a module, compiled now if need be.</summary>
    /// <param name="module">The module, readable from its start.</param>
    /// <param name="digestOf">Its SHA-256, in hexadecimal.</param>
    /// <param name="cancellation">Ends the wait for a compilation, and one that this call began.</param>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public async Task<ArtifactResult> GetAsync(SafeFileHandle module, Func<SafeFileHandle, string> digestOf, CancellationToken cancellation)
    {
        try
        {
            var place = Path.Combine(folder, Key(digestOf(module)));
            var artifact = Path.Combine(place, ArtifactName);
            if (Use(artifact))
            {
                return new ArtifactResult(artifact);
            }

            _ = Directory.CreateDirectory(folder, OwnerOnly);
            using var held = await HoldAsync(place, cancellation).ConfigureAwait(false);
            if (Use(artifact))
            {
                return new ArtifactResult(artifact);
            }

            if (File.Exists(artifact))
            {
                Log.Damaged(logger, artifact);
            }

            var started = time.GetTimestamp();
            var result = await MakeAsync(module, place, artifact, cancellation).ConfigureAwait(false);
            if (result.Path is not null)
            {
                Log.Compiled(logger, Path.GetFileName(place), (long)time.GetElapsedTime(started).TotalMilliseconds);
                Evict();
            }
            else
            {
                Directory.Delete(place, recursive: true);
            }

            return result;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return new ArtifactResult(null, Problem: e.Message);
        }
    }

    private async Task<ArtifactResult> MakeAsync(SafeFileHandle module, string place, string artifact, CancellationToken cancellation)
    {
        var work = Path.Combine(place, "work");
        var made = Path.Combine(place, "artifact.new");
        try
        {
            if (Directory.Exists(work))
            {
                Directory.Delete(work, recursive: true); // of a shim that was killed
            }

            File.Delete(made);
            _ = Directory.CreateDirectory(work, OwnerOnly);

            // The module is copied first, and what is compiled is the copy: the original may be in a volume, where others can write.
            var copyPath = Path.Combine(work, "module");
            using (var copy = File.OpenHandle(copyPath, FileMode.CreateNew, FileAccess.ReadWrite))
            {
                if (Key(ModuleDigests.Read(module, copy)) != Path.GetFileName(place))
                {
                    return new ArtifactResult(null, Problem: "the module changed while it was read");
                }
            }

            using (var input = File.OpenHandle(copyPath))
            using (var output = File.OpenHandle(made, FileMode.CreateNew, FileAccess.Write))
            {
                // Wasmtime's command opens them again, by their numbers, as the user that it compiles as; only root comes through the folder.
                File.SetUnixFileMode(input, Readable);
                File.SetUnixFileMode(output, Readable | UnixFileMode.UserWrite | UnixFileMode.GroupWrite | UnixFileMode.OtherWrite);
                var result = await compile(input, output, work, cancellation).ConfigureAwait(false);
                if (result != default)
                {
                    return result;
                }

                RandomAccess.FlushToDisk(output);
            }

            File.SetUnixFileMode(made, Readable);
            AtomicFile.MoveInto(made, artifact);
            return new ArtifactResult(artifact);
        }
        finally
        {
            File.Delete(made);
            if (Directory.Exists(work))
            {
                Directory.Delete(work, recursive: true);
            }
        }
    }

    /// <summary>Holds the place of one key against other processes; waits for whoever compiles there now.</summary>
    private async Task<FolderLock> HoldAsync(string place, CancellationToken cancellation)
    {
        while (true)
        {
            _ = Directory.CreateDirectory(place, OwnerOnly);
            var held = FolderLock.TryAcquire(place);
            if (held is not null && Directory.Exists(place))
            {
                return held;
            }

            // Taken, or removed by its holder between our two steps.
            held?.Dispose();
            await Task.Delay(_lockPause, time, cancellation).ConfigureAwait(false);
        }
    }

    /// <summary>Removes the least recently used until the rest is within the limit.</summary>
    private void Evict()
    {
        var all = new DirectoryInfo(folder).EnumerateDirectories()
            .Select(d => new FileInfo(Path.Combine(d.FullName, ArtifactName))).Where(f => f.Exists)
            .OrderBy(f => f.LastWriteTimeUtc).ToList();
        var size = all.Sum(f => f.Length);
        foreach (var file in all)
        {
            if (size <= limit || time.GetUtcNow() - file.LastWriteTimeUtc < _young)
            {
                return;
            }

            // One that is compiled or waited for right now is held; containers that run keep the file they have mounted.
            using var held = FolderLock.TryAcquire(file.DirectoryName!);
            if (held is not null)
            {
                Directory.Delete(file.DirectoryName!, recursive: true);
                size -= file.Length;
                Log.Evicted(logger, file.Directory!.Name);
            }
        }
    }

    /// <returns>Whether it is there and whole; its time then says that it was used now. What is damaged is compiled again.</returns>
    private bool Use(string artifact)
    {
        try
        {
            using (var file = File.OpenHandle(artifact))
            {
                if (!CompiledModule.IsWhole(file))
                {
                    return false;
                }
            }

            File.SetLastWriteTimeUtc(artifact, time.GetUtcNow().UtcDateTime);
            return true;
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            return false;
        }
    }

    private string Key(string moduleDigest) => $"{moduleDigest}-{engine}";

    private static partial class Log
    {
        [LoggerMessage(50, LogLevel.Information, "Compiled a module: key={Key} milliseconds={Milliseconds}")]
        public static partial void Compiled(ILogger logger, string key, long milliseconds);

        [LoggerMessage(54, LogLevel.Warning, "A compiled module is damaged and is compiled again: file={File}")]
        public static partial void Damaged(ILogger logger, string file);

        [LoggerMessage(51, LogLevel.Information, "Removed a compiled module that was not used for longest: key={Key}")]
        public static partial void Evicted(ILogger logger, string key);
    }
}
