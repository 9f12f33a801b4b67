using System.Text;
using Skiff.Containerd.Config;

namespace Skiff.Containerd.Tests.Config;

/// <summary>Configurations that nobody thought of. Each failure names its seed.</summary>
public sealed class GeneratedConfigTests
{
    private const int Count = 300;
    private const string Path = "/etc/containerd/config.toml";

    public static TheoryData<int> Seeds => [.. Enumerable.Range(1, 4)];

    [Theory]
    [MemberData(nameof(Seeds))]
    public void whatever_the_file_looks_like_it_takes_the_runtime_and_gives_it_back(int seed)
    {
        for (var i = 0; i < Count; i++)
        {
            var random = new Random((seed * Count) + i);
            var (text, version) = Generate(random);
            var original = Bytes(text);
            var id = $"seed {seed}, number {i}: {text}";

            // 1. In: everything is still there, in its order, and the runtime is.
            var added = Put(original, version, Case.Table);
            Assert.True(added.Succeeded, $"{added.Problem} {id}");
            var after = Assert.Single(added.Changes).After!;
            Assert.True(IsSubsequence(text, Encoding.UTF8.GetString(after)), id);
            Assert.Equal(Case.Shim, Runtime(after));

            // 2. Again: nothing.
            Assert.True(Put(after, version, Case.Table).Changes is [], id);

            // 3. Another shim: the old one is gone, and coming back gives the same bytes.
            var other = Assert.Single(Put(after, version, Case.Table with { RuntimeType = "/other" }).Changes!).After!;
            Assert.Equal("/other", Runtime(other));
            Assert.True(Assert.Single(Put(other, version, Case.Table).Changes!).After.AsSpan().SequenceEqual(after), id);

            // 4. Out: the bytes that were there.
            var removed = Assert.Single(RuntimeRegistration.Remove(Files(after), Case.Handler, Case.Shim).Changes!);
            Assert.True(removed.After.AsSpan().SequenceEqual(original), id);
        }
    }

    [Theory]
    [MemberData(nameof(Seeds))]
    public void whatever_a_user_does_to_the_file_meanwhile_stays_when_the_runtime_goes(int seed)
    {
        for (var i = 0; i < Count; i++)
        {
            var random = new Random((seed * Count) + i);
            var (text, version) = Generate(random);
            var lines = Encoding.UTF8.GetString(Assert.Single(Put(Bytes(text), version, Case.Table).Changes!).After!).Split('\n').ToList();

            // A table of somebody else's comes in somewhere, and a marker may go.
            var places = Enumerable.Range(0, lines.Count + 1).Where(n => IsPlace(lines, n)).ToList();
            lines.InsertRange(places[random.Next(places.Count)], ["# mine", "[plugins.mine]", "x = 1"]);
            if (random.Next(3) == 0 && lines.FindIndex(l => l.StartsWith("# skiff-operator", StringComparison.Ordinal)) is >= 0 and var marker)
            {
                lines.RemoveAt(marker);
            }

            var edited = string.Join('\n', lines);
            var (document, _) = TomlDocument.Parse(Path, Bytes(edited));
            if (document is null)
            {
                continue; // not a file that containerd would have run on
            }

            var id = $"seed {seed}, number {i}: {edited}";
            var plan = RuntimeRegistration.Remove(Files(Bytes(edited)), Case.Handler, Case.Shim);
            Assert.True(plan.Succeeded, $"{plan.Problem} {id}");
            var left = TomlDocument.Parse(Path, Assert.Single(plan.Changes).After!).Document!;
            Assert.DoesNotContain(left.Definitions, d => d.Path.Contains(Case.Handler));
            Assert.Equal(1L, left.Root.At("plugins", "mine", "x"));
            Assert.Contains("# mine", left.Text, StringComparison.Ordinal);
            foreach (var definition in TomlDocument.Parse(Path, Bytes(text)).Document!.Definitions.Where(d => !d.IsInsideInline))
            {
                Assert.True(left.FirstBelow(definition.Path) is not null, $"{string.Join('.', definition.Path)} is gone; {id}");
            }
        }
    }

    [Theory]
    [MemberData(nameof(Seeds))]
    public void damaged_files_are_refused_or_edited_but_never_crash_or_lose_a_byte(int seed)
    {
        var random = new Random(seed);
        var edited = 0;
        for (var i = 0; i < Count; i++)
        {
            var (text, version) = Generate(random);
            var bytes = Bytes(text).ToList();
            for (var n = random.Next(1, 4); n > 0 && bytes.Count > 0; n--)
            {
                var at = random.Next(bytes.Count);
                switch (random.Next(4))
                {
                    case 0:
                        bytes[at] = (byte)random.Next(256);
                        break;
                    case 1:
                        bytes.RemoveAt(at);
                        break;
                    case 2:
                        bytes.Insert(at, (byte)"[]{}\"'#=.,\n\r\0\\"[random.Next(14)]);
                        break;
                    default:
                        bytes.RemoveRange(at, random.Next(bytes.Count - at));
                        break;
                }
            }

            byte[] damaged = [.. bytes];
            var plan = Put(damaged, version, Case.Table);
            if (!plan.Succeeded)
            {
                Assert.NotEmpty(plan.Problem);
                continue;
            }

            edited++;
            var after = Assert.Single(plan.Changes).After!;
            var back = Assert.Single(RuntimeRegistration.Remove(Files(after), Case.Handler, Case.Shim).Changes!).After!;
            Assert.True(back.AsSpan().SequenceEqual(damaged), $"seed {seed}, number {i}:\n{Encoding.UTF8.GetString(damaged)}\nbecame\n{Encoding.UTF8.GetString(back)}");
        }

        Assert.InRange(edited, 1, Count - 1);
    }

    /// <summary>Whether a table may begin before this line: at the end, or where one does, unless it is text in a value.</summary>
    private static bool IsPlace(List<string> lines, int n) => n == lines.Count || (lines[n].TrimEnd('\r') is var line && line != "[x]"
        && (line.TrimStart().StartsWith('[') || (line.StartsWith("# skiff-operator", StringComparison.Ordinal) && (n == 0 || !lines[n - 1].Contains("'''", StringComparison.Ordinal)))));

    private static ConfigFiles Files(byte[] main) => new(new ConfigFile(Path, main));

    private static ConfigPlan Put(byte[] main, Version version, RuntimeTable table)
    {
        var (effective, _) = EffectiveConfig.Parse("""
            [plugins."io.containerd.grpc.v1.cri".containerd]
            default_runtime_name = "runc"
            runtimes.runc = { runtime_type = "io.containerd.runc.v2", options = { SystemdCgroup = true } }
            """);
        return RuntimeRegistration.Add(Files(main), table, version, effective!);
    }

    private static string? Runtime(byte[] content)
    {
        var root = TomlDocument.Parse(Path, content).Document!.Root;
        var schema = root["version"] as long? ?? 1;
        return root.At([.. CriPlugin.Runtimes(CriPlugin.For(schema)), Case.Handler, "runtime_type"]) as string;
    }

    private static bool IsSubsequence(string part, string whole)
    {
        var at = 0;
        foreach (var c in whole)
        {
            at += at < part.Length && part[at] == c ? 1 : 0;
        }

        return at == part.Length;
    }

    private static byte[] Bytes(string text) => Encoding.UTF8.GetBytes(text);

    /// <summary>A valid file, and a containerd for it.</summary>
    private static (string Text, Version Version) Generate(Random random)
    {
        var schema = random.Next(0, 5);
        var version = schema >= 3 ? new Version(2, 4, 2) : schema == 2 && random.Next(2) == 0 ? new Version(2, 1, 9) : new Version(1, 7, 24);
        var plugin = CriPlugin.For(schema);
        List<string> top = schema == 0 ? ["oom_score = 0"] : [$"version = {schema}"];
        if (random.Next(3) == 0)
        {
            top.Add("imports = [ # none\n ]");
        }

        if (random.Next(3) == 0)
        {
            top.Add("root = '''\n# skiff-operator: begin runtime skiff\n[x]\n'''");
        }

        List<string> tables = [];
        for (var n = random.Next(4); n > 0; n--)
        {
            tables.Add($"[proxy_plugins.p{n}]\ntype = \"snapshot\" # ü {n}\naddress = '/run/{n}'");
        }

        for (var n = random.Next(3); n > 0; n--)
        {
            tables.Add($"[[{Quote(random, "plugins", "other", "list")}]]\na = {{ b = [1, {{ c = \"}}\" }}] }}");
        }

        // The runtimes: as tables, dotted keys, an inline table at any level, or not at all (which 1.x can only take as tables).
        string[] key = ["plugins", plugin, "containerd", "runtimes"];
        const string runc = "runtime_type = \"io.containerd.runc.v2\"";
        switch (random.Next(6))
        {
            case 0:
                tables.Add($"[{Quote(random, [.. key, "runc"])}]\n{runc}");
                if (random.Next(2) == 0)
                {
                    tables.Add($"[{Quote(random, [.. key, "runc", "options"])}]\nSystemdCgroup = true");
                }

                break;
            case 1:
                var split = random.Next(1, key.Length);
                tables.Add($"[{Quote(random, key[..split])}]\n{Quote(random, [.. key[split..], "runc"])}.{runc}");
                break;
            case 2:
                top.Add($"{Quote(random, [.. key, "runc"])}.{runc}");
                break;
            case 3:
                split = random.Next(1, key.Length);
                tables.Add($"[{Quote(random, key[..split])}]\n{Quote(random, key[split..])} = {{ runc = {{ {runc} }} }}");
                break;
            case 4:
                split = random.Next(1, key.Length);
                top.Add($"{Quote(random, key[..split])} = {{ x = 1, {Quote(random, key[split..])}.runc.{runc} }}");
                tables.RemoveAll(t => t.Contains("other", StringComparison.Ordinal));
                break;
            default:
                break;
        }

        string[] parts = [.. top.Shuffled(random), .. tables.Shuffled(random)];
        var text = new StringBuilder();
        foreach (var part in parts)
        {
            _ = text.Append(random.Next(4) switch { 0 => "\n", 1 => "  # a comment: [not.a.table]\n", 2 => "\t", _ => "" }).Append(part).Append(random.Next(4) == 0 ? " # here\n" : "\n");
        }

        var result = text.Append(random.Next(4) switch { 0 => "\n\n", 1 => "# the end\n", 2 => "  ", _ => "" }).ToString();
        result = random.Next(3) == 0 ? result.TrimEnd('\n') : result;
        result = random.Next(3) == 0 ? result.Replace("\n", "\r\n", StringComparison.Ordinal) : result;
        return (version.Major == 1 && random.Next(5) == 0 ? "\uFEFF" + result : result, version);
    }

    private static string Quote(Random random, params IEnumerable<string> path) => string.Join(random.Next(3) == 0 ? " . " : ".", path.Select(p => random.Next(3) switch
    {
        0 => $"'{p}'",
        1 => $"\"{p}\"",
        _ => p.Contains('.', StringComparison.Ordinal) ? $"\"{p}\"" : p,
    }));
}

internal static class Shuffling
{
    public static IReadOnlyList<T> Shuffled<T>(this IEnumerable<T> items, Random random)
    {
        var array = items.ToArray();
        random.Shuffle(array);
        return array;
    }
}
