using System.Text;

namespace Skiff.Operator.Node;

/// <summary>
/// Brings containerd back where no installer is left that could. Before containerd is restarted on changed files, a timer of the host's own systemd is
/// armed; once the change is proved or taken back, it is disarmed. An agent is a pod: when it is killed, or the machine loses its power, and containerd
/// does not start with the new files, no kubelet can start another agent.
/// </summary>
/// <remarks>
/// The timer survives a reboot. Each time it looks whether an installer is at work (the lock of <see cref="NodePaths.Lock"/>) and whether containerd is
/// up; only when neither is so for <see cref="Patience"/> it puts the kept files back and restarts containerd. The next installer finds
/// <see cref="NodePaths.Restored"/> and takes the rest of the change back.
/// </remarks>
/// <param name="machine">The machine.</param>
internal sealed class RestoreUnit(INodeMachine machine)
{
    /// <summary>How long containerd may take to come up before its files are put back.</summary>
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(90);

    private const string Name = "skiff-restore";
    private const string Folder = "/etc/systemd/system";
    private const string ServiceFile = $"{Folder}/{Name}.service";
    private const string TimerFile = $"{Folder}/{Name}.timer";
    private const string Wants = $"{Folder}/timers.target.wants";
    private const string Enabled = $"{Wants}/{Name}.timer";
    private const string Script = NodePaths.State + "/restore.sh";

    private const uint SharedFile = 0x1A4;
    private const uint SharedFolder = 0x1ED;
    private const uint PrivateFile = 0x180;
    private const int MessageLimit = 4096;

    private static readonly string[] _folders = ["/etc/systemd", Folder, Wants];

    private static readonly TimeSpan _withoutLock = TimeSpan.FromMinutes(10);
    private static readonly TimeSpan _systemctlLimit = TimeSpan.FromSeconds(30);

    /// <summary>What it has done, for a person; null: nothing.</summary>
    public string? Restored => machine.Files.Read(NodePaths.Restored, MessageLimit) is { } said ? Encoding.UTF8.GetString(said).Trim() : null;

    /// <summary>The folders that arming makes, the outermost first.</summary>
    public IReadOnlyList<string> MissingFolders => [.. _folders.Where(f => machine.Files.Target(f) is null)];

    /// <summary>Arms it for a change whose files are written.</summary>
    /// <param name="change">The change.</param>
    /// <param name="keptAs">Where the content of the change's n-th file is kept.</param>
    /// <param name="cancellation">Ends it.</param>
    /// <returns>Why the node has to do without; null: it is armed.</returns>
    public async Task<string?> ArmAsync(NodeChange change, Func<int, string, string> keptAs, CancellationToken cancellation)
    {
        try
        {
            _ = machine.Files.MakeFolder(Wants, SharedFolder);
            machine.Files.Write(Script, Encoding.UTF8.GetBytes(ScriptOf(change, keptAs)), PrivateFile);
            machine.Files.Write(ServiceFile, Encoding.UTF8.GetBytes(
                $"[Unit]\nDescription=Put containerd's configuration back if it is down after a change by Skiff\n\n[Service]\nType=oneshot\nExecStart=/bin/sh {Script}\n"
                + $"TimeoutStartSec={_withoutLock.TotalSeconds * 2:0}\n"), SharedFile);
            machine.Files.Write(TimerFile, Encoding.UTF8.GetBytes(
                $"[Unit]\nDescription=Look after containerd while Skiff changes it\n\n[Timer]\nOnActiveSec=20\nOnUnitInactiveSec=20\nAccuracySec=1\n"), SharedFile);
            machine.Files.SwitchLink(Enabled, $"../{Name}.timer");
            foreach (string[] words in (string[][])[["daemon-reload"], ["start", $"{Name}.timer"]])
            {
                var result = await machine.RunAsync("systemctl", words, _systemctlLimit, cancellation).ConfigureAwait(false);
                if (!result.Exit.Success)
                {
                    return $"systemctl {string.Join(' ', words)}: {(result.TimedOut ? "it does not end" : result.Error.Trim())}";
                }
            }

            return null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return e.Message; // a read-only /etc, say
        }
    }

    /// <summary>Disarms it and takes away what is there of it, if anything is.</summary>
    /// <param name="madeFolders">The folders that were made, for it too; the outermost first.</param>
    /// <param name="cancellation">Ends it.</param>
    /// <exception cref="IOException">The node's file system refused.</exception>
    public async Task DisarmAsync(IReadOnlyList<string> madeFolders, CancellationToken cancellation)
    {
        foreach (var file in (string[])[ServiceFile, TimerFile, Script])
        {
            machine.Files.DeleteLeftovers(file); // of an installer that was killed while it armed
        }

        machine.Files.DeleteTree(Enabled + ".new");
        if (machine.Files.Status(ServiceFile) is null && machine.Files.Status(TimerFile) is null && machine.Files.Status(Enabled) is null)
        {
            return;
        }

        // The timer first: systemd forgets it, and so will not start the service that is about to go.
        _ = await machine.RunAsync("systemctl", ["stop", $"{Name}.timer"], _systemctlLimit, cancellation).ConfigureAwait(false);
        machine.Files.DeleteTree(Enabled); // the link itself, not what it leads to
        machine.Files.Delete(TimerFile);
        machine.Files.Delete(ServiceFile);
        machine.Files.Delete(Script);
        machine.Files.Delete(NodePaths.Restored);
        foreach (var folder in madeFolders.Where(IsItsOwn).Reverse())
        {
            _ = machine.Files.RemoveIfEmpty(folder);
        }

        _ = await machine.RunAsync("systemctl", ["daemon-reload"], _systemctlLimit, cancellation).ConfigureAwait(false);
    }

    /// <summary>Whether a folder is one of <see cref="MissingFolders"/>.</summary>
    public static bool IsItsOwn(string folder) => _folders.Contains(folder);

    /// <summary>What the service does, in the shell that every machine has.</summary>
    internal static string ScriptOf(NodeChange change, Func<int, string, string> keptAs)
    {
        var unit = Quoted(change.Containerd.Unit!);
        StringBuilder files = new();
        for (var i = change.Files.Count - 1; i >= 0; i--)
        {
            var (path, existed, after) = change.Files[i];
            _ = files.Append($"back {Quoted(path)} {(after is null ? "-" : after)} {(existed ? Quoted(keptAs(i, path)) : "-")}\n");
        }

        return $$"""
            #!/bin/sh
            # Written by skiff-operator before it restarts containerd on changed files, and removed once the change is proved or taken back.
            # An installer that lives does all this itself: it has the lock. Without flock(1): longer than one ever takes.
            left={{Patience.TotalSeconds / 10:0}}
            exec 9< {{NodePaths.Lock}} || exit 0
            if command -v flock > /dev/null; then flock -n 9 || exit 0; else left={{_withoutLock.TotalSeconds / 10:0}}; fi

            # Up is: the same main process for ten seconds. A service that starts again and again is active at times, too.
            while [ $left -gt 0 ]; do
              left=$((left - 1))
              before=$(systemctl show -p MainPID --value {{unit}})
              sleep 10
              [ "${before:-0}" = 0 ] || ! systemctl is-active --quiet {{unit}} || [ "$(systemctl show -p MainPID --value {{unit}})" != "$before" ] || exit 0
              ! systemctl is-failed --quiet {{unit}} || break
            done

            back() { # file, the sum of what was written ("-": it was deleted), what was there before ("-": nothing)
              file=$(readlink -f "$1") || return
              now=-; [ ! -e "$file" ] || now=$(sha256sum < "$file" | cut -d' ' -f1)
              [ "$now" = "$2" ] || return 0 # it is back already, or somebody else's
              if [ "$3" = - ]; then rm -f "$file"; return; fi
              new=$file.skiff-restore
              { cp -p "$file" "$new" 2> /dev/null || : > "$new"; } && cat "$3" > "$new" && { sync "$new" 2> /dev/null || sync; } && mv -f "$new" "$file" && return
              rm -f "$new"
              cat "$3" > "$file" # a file that is a mount cannot be replaced
            }
            {{files}}
            echo "containerd was down, and no installer at work, at $(date -u +%Y-%m-%dT%H:%M:%SZ)" > {{NodePaths.Restored}}
            systemctl reset-failed {{unit}}
            systemctl restart {{unit}}

            """;
    }

    private static string Quoted(string word) => $"'{word.Replace("'", "'\\''", StringComparison.Ordinal)}'";
}
