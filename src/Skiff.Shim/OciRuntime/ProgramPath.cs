namespace Skiff.Shim.OciRuntime;

/// <summary>Where a program is.</summary>
internal static class ProgramPath
{
    /// <summary>An absolute path as it is; a name by PATH.</summary>
    /// <returns>Null when there is no such file.</returns>
    public static string? Find(string name)
    {
        if (name.Contains('/'))
        {
            return File.Exists(name) ? name : null;
        }

        foreach (var folder in (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':', StringSplitOptions.RemoveEmptyEntries))
        {
            var path = Path.Combine(folder, name);
            if (File.Exists(path))
            {
                return path;
            }
        }

        return null;
    }
}
