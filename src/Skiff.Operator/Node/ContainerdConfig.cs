using Skiff.Containerd;
using Skiff.Containerd.Config;
using Skiff.Linux;

namespace Skiff.Operator.Node;

/// <summary>containerd's configuration on the node: its files, and what its containerd makes of them.</summary>
/// <param name="Files">The files.</param>
/// <param name="Effective">What they come to.</param>
/// <param name="Dump">The same as containerd wrote it.</param>
/// <param name="Version">containerd's version.</param>
internal sealed record ContainerdConfig(ConfigFiles Files, EffectiveConfig Effective, string Dump, Version Version)
{
    private static readonly TimeSpan _limit = TimeSpan.FromSeconds(30);
    private static readonly Version _oldest = new(1, 6);

    /// <summary>Reads the files, and has the node's containerd print what it makes of them.</summary>
    /// <returns>The configuration, or what is wrong with it, with containerd's words.</returns>
    public static async Task<(ContainerdConfig? Config, string? Problem)> ReadAsync(
        INodeMachine machine, ContainerdService service, CancellationToken cancellation)
    {
        try
        {
            var version = await machine.RunAsync(service.Program, ["--version"], _limit, cancellation).ConfigureAwait(false);
            var parsed = ContainerdRelease.Parse(version.OutputText);
            if (!version.Exit.Success || parsed is null)
            {
                return (null, $"{service.Program} --version does not say a version: {Last(version.OutputText + version.Error)}");
            }

            if (parsed < _oldest)
            {
                return (null, $"containerd {parsed} is too old: {_oldest} or later is needed; upgrade it, or keep this node out by a nodeSelector");
            }

            var (files, problem) = ConfigFiles.Read(machine.Files.Root, service.ConfigPath, parsed);
            if (files is null)
            {
                return (null, problem);
            }

            // Without a file containerd runs on its defaults, and 1.x does not dump them.
            string[] arguments = files.Main.Content is null ? ["config", "default"] : ["--config", service.ConfigPath, "config", "dump"];
            var dump = await machine.RunAsync(service.Program, arguments, _limit, cancellation).ConfigureAwait(false);
            if (!dump.Exit.Success)
            {
                return (null, $"{service.Program} {string.Join(' ', arguments)} {(dump.TimedOut ? "does not end" : "fails")}: {Last(dump.Error)}");
            }

            var (effective, unreadable) = EffectiveConfig.Parse(dump.OutputText);
            return effective is null ? (null, unreadable) : (new ContainerdConfig(files, effective, dump.OutputText, parsed), null);
        }
        catch (LinuxException e)
        {
            return (null, $"the node's containerd cannot be run: {e.Message}");
        }
    }

    /// <summary>When the last of the files was written; the smallest time when there are none.</summary>
    public DateTimeOffset LastWritten(INodeMachine machine) =>
        ((IEnumerable<ConfigFile>)[Files.Main, .. Files.Imports])
            .Select(f => machine.Files.Target(f.Path)?.Modified ?? DateTimeOffset.MinValue).Max();

    /// <summary>Whether the two are one runtime to containerd.</summary>
    public static bool Same(RuntimeTable? a, RuntimeTable? b) =>
        a is null || b is null
            ? a is null && b is null
            : a.RuntimeType == b.RuntimeType && a.PodAnnotations.SequenceEqual(b.PodAnnotations) && a.Options.Count == b.Options.Count
                && a.Options.All(o => b.Options.TryGetValue(o.Key, out var value) && value == o.Value);

    private static string Last(string text) => text.Trim() is { Length: > 1000 } all ? "…" + all[^1000..] : text.Trim();
}
