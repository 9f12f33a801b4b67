using Skiff.Containerd.Containers;
using Skiff.Kubernetes;
using Skiff.Operator.OomEvents;

namespace Skiff.Operator.Tests.OomEvents;

public sealed class GuestIncidentTests
{
    private static readonly KillPlace _place = new(new ObjectReference { Kind = "Pod", Namespace = "ns", Name = "p", Uid = "uid" }, "app", null);

    [Fact]
    public void refused_memory_names_the_annotation()
    {
        var incident = GuestIncident.Of(new GuestMemoryRefused("id", IsExec: false, 1 << 20, 31 << 20, 32 << 20), _place, "uid", default);
        Assert.Equal("WasmMemoryLimit", incident.Reason);
        Assert.Equal("container app has 31Mi, asked for 1Mi more and was refused: the annotation skiff.dev/max-memory allows 32Mi. Raise it, or let the guest use less.", incident.Note);
    }

    [Fact]
    public void a_trap_has_its_code_and_says_where_the_backtrace_is()
    {
        var incident = GuestIncident.Of(new GuestTrapped("id", IsExec: false, 9, "wasm trap: unreachable"), _place, "uid", default);
        Assert.Equal("WasmTrap", incident.Reason);
        Assert.Equal("container app ended by a trap: wasm trap: unreachable (trap code 9). The backtrace is in its log: kubectl logs -n ns p -c app (with -p once it has been restarted).", incident.Note);
        Assert.Equal(
            "an exec in container app ended by a trap: no code. The backtrace is in its output.",
            GuestIncident.Of(new GuestTrapped("id", IsExec: true, null, "no code"), _place, "uid", default).Note);
    }
}
