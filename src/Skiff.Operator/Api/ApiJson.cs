using System.Text.Json.Serialization;

namespace Skiff.Operator.Api;

/// <summary>How objects are read and written; see <see cref="Kubernetes.ResourceKind{T}"/> for the options.</summary>
[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(Shim))]
[JsonSerializable(typeof(ShimInstallation))]
[JsonSerializable(typeof(KubeNode))]
[JsonSerializable(typeof(Pod))]
[JsonSerializable(typeof(RuntimeClass))]
[JsonSerializable(typeof(string))]
internal sealed partial class ApiJson : JsonSerializerContext;
