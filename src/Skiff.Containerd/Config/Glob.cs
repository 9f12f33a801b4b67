namespace Skiff.Containerd.Config;

/// <summary>File name patterns as Go's path/filepath.Match has them: <c>*</c>, <c>?</c>, <c>[a-z]</c>, <c>[^a-z]</c> and <c>\</c>.</summary>
internal static class Glob
{
    /// <summary>Whether a path has parts that stand for others.</summary>
    public static bool IsPattern(ReadOnlySpan<char> path) => path.IndexOfAny("*?[\\") >= 0;

    /// <summary>Whether one name, not a path, matches. A malformed pattern matches nothing.</summary>
    public static bool Matches(ReadOnlySpan<char> pattern, ReadOnlySpan<char> name)
    {
        // Where to go on when the rest does not fit: only the last star needs to give way.
        int p = 0, n = 0, star = -1, starName = 0;
        while (n < name.Length)
        {
            if (p < pattern.Length && pattern[p] == '*')
            {
                star = ++p;
                starName = n;
            }
            else if (p < pattern.Length && One(pattern[p..], name[n]) is > 0 and var length)
            {
                p += length;
                n++;
            }
            else if (star >= 0)
            {
                p = star;
                n = ++starName;
            }
            else
            {
                return false;
            }
        }

        return pattern[p..].Trim('*').IsEmpty;
    }

    /// <summary>The length of the pattern's first element if it stands for the character, else 0.</summary>
    private static int One(ReadOnlySpan<char> pattern, char c)
    {
        switch (pattern[0])
        {
            case '?':
                return 1;
            case '\\':
                return pattern.Length > 1 && pattern[1] == c ? 2 : 0;
            case '[':
                var negated = pattern.Length > 1 && pattern[1] == '^';
                var i = negated ? 2 : 1;
                var found = false;
                for (var first = true; i < pattern.Length && (first || pattern[i] != ']'); first = false)
                {
                    var (low, next) = Member(pattern, i);
                    var high = low;
                    if (next + 1 < pattern.Length && pattern[next] == '-' && pattern[next + 1] != ']')
                    {
                        (high, next) = Member(pattern, next + 1);
                    }

                    found |= low <= c && c <= high;
                    i = next;
                }

                return i < pattern.Length && found != negated ? i + 1 : 0;
            default:
                return pattern[0] == c ? 1 : 0;
        }
    }

    private static (char Character, int Next) Member(ReadOnlySpan<char> pattern, int at) =>
        pattern[at] == '\\' && at + 1 < pattern.Length ? (pattern[at + 1], at + 2) : (pattern[at], at + 1);
}
