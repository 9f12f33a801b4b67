using System.Text.Json;
using System.Text.Json.Serialization;
using Skiff.Linux.Files;

namespace Skiff.Operator.Node;

/// <summary>What is installed on the node and what is being changed; the content of <see cref="NodePaths.Journal"/>.</summary>
internal sealed record JournalEntry
{
    /// <summary>The schema that this program writes and reads.</summary>
    public const int CurrentSchema = 1;

    /// <summary>The schema.</summary>
    public int Schema { get; init; } = CurrentSchema;

    /// <summary>The handlers that are registered, or were until containerd's next restart.</summary>
    public IReadOnlyList<InstalledHandler> Handlers { get; init; } = [];

    /// <summary>The containerd process whose configuration is in <see cref="NodePaths.RunningConfig"/>; null: not known.</summary>
    public ProcessIdentity? Running { get; init; }

    /// <summary>The change under way; null: none.</summary>
    public NodeChange? Change { get; init; }
}

/// <summary>A handler on the node.</summary>
/// <param name="Handler">Its name.</param>
/// <param name="ConfigPath">containerd's main configuration file.</param>
internal sealed record InstalledHandler(string Handler, string ConfigPath)
{
    /// <summary>The folders that were made for the configuration, the outermost first.</summary>
    public IReadOnlyList<string> MadeFolders { get; init; } = [];
}

/// <summary>A process, told from a later one with the same number by its start time.</summary>
/// <param name="Pid">Its number.</param>
/// <param name="StartTicks">When it was started, in clock ticks since the machine was (proc_pid_stat(5)).</param>
/// <param name="Boot">The machine's boot id.</param>
internal sealed record ProcessIdentity(int Pid, long StartTicks, string Boot);

/// <summary>What an install or uninstall is about to do, or has done in part.</summary>
/// <param name="Kind">Which of the two.</param>
/// <param name="Handler">For which handler.</param>
/// <param name="Step">The step that was begun.</param>
/// <param name="Containerd">The daemon it is done to: after a crash there may be none running to ask.</param>
internal sealed record NodeChange(ChangeKind Kind, string Handler, ChangeStep Step, ContainerdService Containerd)
{
    /// <summary>The bundle before; null: none.</summary>
    public string? BundleBefore { get; init; }

    /// <summary>The files of the configuration, in the order in which they are written.</summary>
    public IReadOnlyList<ChangedFile> Files { get; init; } = [];

    /// <summary>The folders that were made for them, the outermost first.</summary>
    public IReadOnlyList<string> MadeFolders { get; init; } = [];

    /// <summary>Why it is being taken back; null unless it is.</summary>
    public ChangeFailure? Failure { get; init; }
}

/// <summary>A file that a change replaces.</summary>
/// <param name="Path">Which, as the node sees it.</param>
/// <param name="Existed">Whether it was there; then it is kept in <see cref="NodePaths.Before"/>.</param>
/// <param name="After">The SHA-256 of what is written, in hex; null: it is deleted.</param>
internal sealed record ChangedFile(string Path, bool Existed, string? After);

/// <summary>Why a change failed.</summary>
/// <param name="Reason">One CamelCase word.</param>
/// <param name="Message">For a person.</param>
/// <param name="ContainerdSaid">containerd's last words, if they matter.</param>
internal sealed record ChangeFailure(string Reason, string Message, string? ContainerdSaid);

/// <summary>What a change is for.</summary>
internal enum ChangeKind
{
    /// <summary>An install.</summary>
    Install,

    /// <summary>An uninstall.</summary>
    Uninstall,
}

/// <summary>How far a change is. Written before the step begins, so what is there may be from before it, from after it, or in between.</summary>
internal enum ChangeStep
{
    /// <summary>Bundle files are copied; the link is switched.</summary>
    Binaries,

    /// <summary>The files of the configuration are written.</summary>
    Configuration,

    /// <summary>The node's containerd reads them for a trial.</summary>
    Validate,

    /// <summary>containerd is restarted.</summary>
    Restart,

    /// <summary>The result is checked.</summary>
    Verify,

    /// <summary>It failed; what was before is being restored.</summary>
    RollBack,

    /// <summary>It is done but for the removal of what nothing uses any more. From here it is never taken back.</summary>
    CleanUp,
}

/// <summary>The journal's file.</summary>
internal sealed class Journal(RootedTree files)
{
    private const int SizeLimit = 1 << 20;
    private const uint FolderMode = 0x1C0;
    private const uint FileMode = 0x180;

    /// <summary>Reads it.</summary>
    /// <returns>The entry, or why it cannot be used and what to do.</returns>
    public (JournalEntry? Entry, string? Problem) Load()
    {
        byte[]? content;
        try
        {
            content = files.Read(NodePaths.Journal, SizeLimit);
        }
        catch (IOException e)
        {
            return (null, $"{NodePaths.Journal} cannot be read: {e.Message}");
        }

        if (content is null)
        {
            return (new JournalEntry(), null);
        }

        try
        {
            // The schema first: a later one may mean something else by the names we know.
            var schema = JsonSerializer.Deserialize(content, JournalJson.Default.JournalSchema)?.Schema;
            if (schema is null or > JournalEntry.CurrentSchema or < 1)
            {
                return (null,
                    $"{NodePaths.Journal}: schema is {schema?.ToString() ?? "missing"}, this skiff-operator knows {JournalEntry.CurrentSchema}: "
                    + "a newer skiff-operator was here; use that one or a later one");
            }

            return JsonSerializer.Deserialize(content, JournalJson.Default.JournalEntry) is { } entry
                ? (entry, null) : (null, Damaged("it is empty"));
        }
        catch (JsonException e)
        {
            return (null, Damaged($"{e.Path} line {e.LineNumber + 1}"));
        }

        static string Damaged(string where) =>
            $"{NodePaths.Journal} is damaged ({where}): compare the files in {NodePaths.Before} and {NodePaths.Backup} with containerd's "
            + "configuration, then move the journal away and run this again";
    }

    /// <summary>Writes it, and makes its folder if that is not there.</summary>
    /// <exception cref="IOException">The node's file system refused.</exception>
    public void Save(JournalEntry entry)
    {
        _ = files.MakeFolder(NodePaths.State, FolderMode);
        files.Write(NodePaths.Journal, JsonSerializer.SerializeToUtf8Bytes(entry, JournalJson.Default.JournalEntry), FileMode);
    }
}

/// <summary>The part of a journal that every schema has.</summary>
internal sealed record JournalSchema(int? Schema);

/// <summary>The journal as JSON, without reflection.</summary>
[JsonSerializable(typeof(JournalEntry))]
[JsonSerializable(typeof(JournalSchema))]
[JsonSourceGenerationOptions(WriteIndented = true, PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, UseStringEnumConverter = true)]
internal sealed partial class JournalJson : JsonSerializerContext;
