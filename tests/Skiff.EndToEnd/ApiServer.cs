using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json.Nodes;
using Skiff.Testing;

namespace Skiff.EndToEnd;

/// <summary>
/// The cluster's API server, read as its administrator without kubectl: what tests ask again and again until it holds would otherwise start
/// a program each time, and take the processor from what they wait for.
/// </summary>
internal sealed class ApiServer : IDisposable
{
    private const string Network = "kcp";
    private static readonly IPEndPoint _address = new(IPAddress.Parse("10.200.0.1"), 16443);

    private readonly HttpClient _client;

    /// <param name="keys">The folder with the administrator's certificate and key, and the cluster's authority.</param>
    public ApiServer(string keys)
    {
        using var pair = X509Certificate2.CreateFromPemFile(keys + "/admin.crt", keys + "/admin.key");
        var administrator = X509CertificateLoader.LoadPkcs12(pair.Export(X509ContentType.Pkcs12), null);
        X509ChainPolicy policy = new() { TrustMode = X509ChainTrustMode.CustomRootTrust, RevocationMode = X509RevocationMode.NoCheck };
        policy.CustomTrustStore.Add(X509CertificateLoader.LoadCertificateFromFile(keys + "/ca.crt"));
        _client = new HttpClient(new SocketsHttpHandler
        {
            ConnectCallback = async (_, cancellation) =>
            {
                var socket = NetworkNamespace.Inside(Network, () => new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp));
                await socket.ConnectAsync(_address, cancellation);
                return new NetworkStream(socket, ownsSocket: true);
            },
            SslOptions = new SslClientAuthenticationOptions { ClientCertificates = [administrator], CertificateChainPolicy = policy },
        })
        {
            BaseAddress = new Uri($"https://{_address}/"),
            Timeout = TimeSpan.FromSeconds(30),
        };
    }

    public void Dispose() => _client.Dispose();

    /// <summary>An object or a list; null when there is none, or the server does not answer: who waits asks again.</summary>
    /// <param name="path">Its path with its query, such as <c>api/v1/nodes/node-1</c>.</param>
    public async Task<JsonNode?> FindAsync(string path) => await TextAsync(path) is { } text ? JsonNode.Parse(text) : null;

    /// <summary>The same as text, for logs.</summary>
    public async Task<string?> TextAsync(string path)
    {
        try
        {
            using var response = await _client.GetAsync(new Uri(path, UriKind.Relative));
            return response.IsSuccessStatusCode ? await response.Content.ReadAsStringAsync() : null;
        }
        catch (Exception e) when (e is HttpRequestException or TaskCanceledException)
        {
            return null;
        }
    }
}
