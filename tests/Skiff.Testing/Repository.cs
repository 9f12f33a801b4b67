namespace Skiff.Testing;

/// <summary>Where things are.</summary>
public static class Repository
{
    /// <summary>The checkout.</summary>
    public static string Root { get; } = FindRoot();

    /// <summary>What is shared between checkouts, beside this one; it may be missing.</summary>
    public static string Shared { get; } = Environment.GetEnvironmentVariable("SKIFF_SHARED") ?? Path.Combine(Path.GetDirectoryName(Root)!, "shared");

    /// <summary>The published tree.</summary>
    public static string Out { get; } = Environment.GetEnvironmentVariable("SKIFF_OUT") ?? Path.Combine(Root, "out");

    /// <summary>The shim.</summary>
    public static string Shim { get; } = Path.Combine(Out, "bin", "containerd-shim-skiff-v1");

    /// <summary>The compiled guests.</summary>
    public static string Guests { get; } =
        Path.Combine(Environment.GetEnvironmentVariable("SKIFF_ARTIFACTS") ?? Path.Combine(Root, "artifacts"), "guests");

    /// <summary>What a test of containers lacks here, or null.</summary>
    public static string? Missing =>
        Environment.UserName != "root" ? "containers need root"
        : !File.Exists(Shim) ? $"no {Shim}: run hack/build"
        : !File.Exists(Path.Combine(Guests, "hello.wasm")) ? $"no {Guests}/hello.wasm: run hack/guests"
        : null;

    private static string FindRoot()
    {
        for (var folder = AppContext.BaseDirectory; folder is not null; folder = Path.GetDirectoryName(folder))
        {
            if (File.Exists(Path.Combine(folder, "Operator.sln")))
            {
                return folder;
            }
        }

        throw new InvalidOperationException("the tests are built below the checkout (artifacts/), and run there");
    }
}
