using System.Security.Cryptography;

namespace Skiff.Shim.Tests;

public sealed class Sha256Tests
{
    // FIPS 180-4's own examples (NIST CSRC, SHA256.pdf).
    [Theory]
    [InlineData("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")]
    [InlineData("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")]
    [InlineData("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1")]
    public void the_standards_examples_come_out(string text, string digest) =>
        Assert.Equal(digest, Sha256.HexOf(System.Text.Encoding.ASCII.GetBytes(text)));

    [Fact]
    public void every_length_and_every_cut_gives_what_the_framework_gives()
    {
        var random = new Random(256);
        var content = new byte[300];
        random.NextBytes(content);
        for (var length = 0; length <= content.Length; length++)
        {
            var expected = Convert.ToHexStringLower(SHA256.HashData(content.AsSpan(0, length)));
            Assert.Equal(expected, Sha256.HexOf(content.AsSpan(0, length)));

            var cut = random.Next(length + 1);
            var hash = new Sha256();
            hash.Append(content.AsSpan(0, cut));
            hash.Append(content.AsSpan(cut, length - cut));
            Assert.Equal(expected, hash.FinishHex());
        }
    }
}
