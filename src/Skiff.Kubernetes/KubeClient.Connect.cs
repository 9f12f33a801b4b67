using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using k8s;
using k8s.Authentication;
using k8s.Exceptions;
using YamlDotNet.Core;

namespace Skiff.Kubernetes;

public sealed partial class KubeClient
{
    private static readonly TimeSpan _connectLimit = TimeSpan.FromSeconds(10);

    // A connection whose other end has vanished is noticed by pings; without them a watch on it would be silent until its time is over.
    private static readonly TimeSpan _pingAfter = TimeSpan.FromSeconds(20);
    private static readonly TimeSpan _pingLimit = TimeSpan.FromSeconds(10);

    /// <summary>
    /// Prepares a client, from the first of these that there is: <paramref name="kubeconfig"/>, the file or files that KUBECONFIG names, the
    /// pod's service account, ~/.kube/config. Nothing is sent yet. A kubeconfig may name a credential plugin, which is run then; in a pod
    /// none is.
    /// </summary>
    /// <param name="kubeconfig">A file, from a flag; null when there was none.</param>
    /// <param name="userAgent">Name and version of the program, for example skiff-operator/0.1.0.</param>
    /// <param name="time">The clock.</param>
    /// <returns>The client, or <see cref="ApiErrorKind.Configuration"/> with the file and what is wrong with it.</returns>
    public static ApiResult<KubeClient> Connect(string? kubeconfig, string userAgent, TimeProvider time)
    {
        ArgumentNullException.ThrowIfNull(time);
        var source = "the kubeconfig";
        try
        {
            KubernetesClientConfiguration configuration;
            if (kubeconfig is not null)
            {
                source = kubeconfig;
                configuration = KubernetesClientConfiguration.BuildConfigFromConfigFile(kubeconfig);
            }
            else if (Environment.GetEnvironmentVariable("KUBECONFIG") is { Length: > 0 } named)
            {
                source = $"KUBECONFIG={named}";
                configuration = KubernetesClientConfiguration.BuildDefaultConfig();
            }
            else if (KubernetesClientConfiguration.IsInCluster())
            {
                source = "the pod's service account";
                configuration = KubernetesClientConfiguration.InClusterConfig();
            }
            else if (File.Exists(KubernetesClientConfiguration.KubeConfigDefaultLocation))
            {
                source = KubernetesClientConfiguration.KubeConfigDefaultLocation;
                configuration = KubernetesClientConfiguration.BuildConfigFromConfigFile(source);
            }
            else
            {
                return new ApiError(
                    ApiErrorKind.Configuration,
                    $"no API server is known: this is no pod with a service account, KUBECONFIG is not set, and there is no {KubernetesClientConfiguration.KubeConfigDefaultLocation}; give --kubeconfig FILE");
            }

            return new KubeClient(Handler(configuration), new Uri(configuration.Host), configuration.Namespace, Tokens(configuration), userAgent, time);
        }
        catch (Exception e) when (e is KubeConfigException or YamlException or IOException or UnauthorizedAccessException or FormatException
            or CryptographicException or ArgumentException)
        {
            return new ApiError(ApiErrorKind.Configuration, $"{source}: {e.GetBaseException().Message}");
        }
    }

    private static SocketsHttpHandler Handler(KubernetesClientConfiguration configuration)
    {
        var tls = new SslClientAuthenticationOptions();
        if (!string.IsNullOrEmpty(configuration.TlsServerName))
        {
            tls.TargetHost = configuration.TlsServerName;
        }

        if (configuration.SkipTlsVerify)
        {
#pragma warning disable CA5359 // insecure-skip-tls-verify of the kubeconfig says so
            tls.RemoteCertificateValidationCallback = static (_, _, _, _) => true;
#pragma warning restore CA5359
        }
        else if (configuration.SslCaCerts is { Count: > 0 } roots)
        {
            // A policy and no callback, so that the name in the certificate is checked as well.
            var policy = new X509ChainPolicy { TrustMode = X509ChainTrustMode.CustomRootTrust, RevocationMode = X509RevocationMode.NoCheck };
            policy.CustomTrustStore.AddRange(roots);
            tls.CertificateChainPolicy = policy;
        }

        if (ClientCertificate(configuration) is { } certificate)
        {
            tls.ClientCertificates = [certificate];
            tls.LocalCertificateSelectionCallback = (_, _, _, _, _) => certificate;
        }

        return new SocketsHttpHandler
        {
            SslOptions = tls,
            ConnectTimeout = _connectLimit,
            AllowAutoRedirect = false,
            UseCookies = false,
            EnableMultipleHttp2Connections = true,
            KeepAlivePingPolicy = HttpKeepAlivePingPolicy.WithActiveRequests,
            KeepAlivePingDelay = _pingAfter,
            KeepAlivePingTimeout = _pingLimit,
        };
    }

    private static X509Certificate2? ClientCertificate(KubernetesClientConfiguration configuration)
    {
        var certificate = Pem(configuration.ClientCertificateData, configuration.ClientCertificateFilePath);
        var key = Pem(configuration.ClientCertificateKeyData, configuration.ClientKeyFilePath);
        return certificate is null || key is null ? null : X509Certificate2.CreateFromPem(certificate, key);

        static string? Pem(string? data, string? file) =>
            !string.IsNullOrWhiteSpace(data) ? Encoding.UTF8.GetString(Convert.FromBase64String(data))
            : !string.IsNullOrWhiteSpace(file) ? File.ReadAllText(file)
            : null;
    }

    private static ITokenProvider? Tokens(KubernetesClientConfiguration configuration) =>
        configuration.TokenProvider is { } provider ? provider
        : !string.IsNullOrEmpty(configuration.AccessToken) ? new StringTokenProvider(configuration.AccessToken, "Bearer")
        : !string.IsNullOrEmpty(configuration.Username) ? new StringTokenProvider(
            Convert.ToBase64String(Encoding.UTF8.GetBytes($"{configuration.Username}:{configuration.Password}")), "Basic")
        : null;
}
