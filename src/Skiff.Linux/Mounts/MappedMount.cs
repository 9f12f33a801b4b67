using Skiff.Linux.Processes;

namespace Skiff.Linux.Mounts;

/// <summary>
/// Mounts whose files belong to others than on the disk: a pod with a user namespace has root's files as those of its own root. containerd asks
/// for one with the options <c>uidmap</c> and <c>gidmap</c> (core/mount/mount_linux.go, since 2.0).
/// </summary>
internal static class MappedMount
{
    /// <summary>Mounts with the options of <see cref="Mounter.Mount"/> but <c>uidmap</c> and <c>gidmap</c>, whose values come apart.</summary>
    /// <exception cref="LinuxException">The kernel refused, or the file system has no such mounts.</exception>
    /// <exception cref="NotSupportedException">A map is not one, or an overlay's layers have no folder in common.</exception>
    internal static void Mount(string type, string source, string target, List<string> options, string userMap, string groupMap)
    {
        using var owners = UserNamespace.Create(userMap, groupMap);

        // What leads to the mount is made where nobody else sees it, so that nothing of it is left, however this ends.
        using var made = LoneThread.Run(() =>
        {
            Mounter.EnterPrivateNamespace();
            if (type != "overlay")
            {
                Mounter.Mount(type, source, target, options);
                return DetachedMount.Of(target, DetachedMount.Attributes.None, owners);
            }

            // An overlay cannot be mapped, but its lower layers can, and the upper one was given to its owner when it was made.
            if (OverlayLayers.Find(options) is not { } layers)
            {
                throw new NotSupportedException($"mount an overlay on {target}: the layers in lowerdir have no folder in common whose owners could be mapped");
            }

            using (var lower = DetachedMount.Of(layers.Folder, DetachedMount.Attributes.ReadOnly, owners))
            {
                lower.AttachTo(target);
            }

            Mounter.Mount(type, source, target, layers.Under(target + "/"));
            return DetachedMount.Of(target, DetachedMount.Attributes.None);
        });
        made.AttachTo(target);
    }
}
