using Xunit.v3;

namespace Skiff.EndToEnd;

/// <summary>
/// Runs a class's tests from the top to the bottom. Each brings the cluster to what it needs and may run alone; in this order the next finds
/// it so more often, and fewer installations are needed.
/// </summary>
internal sealed class InOrderOfDeclaration : ITestMethodOrderer
{
    public IReadOnlyCollection<TTestMethod?> OrderTestMethods<TTestMethod>(IReadOnlyCollection<TTestMethod?> testMethods)
        where TTestMethod : notnull, Xunit.Sdk.ITestMethod =>
        [.. testMethods.OrderBy(m => (m as IXunitTestMethod)?.Method.MetadataToken)];
}
