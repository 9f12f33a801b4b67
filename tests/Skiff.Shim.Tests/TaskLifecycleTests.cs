using Skiff.Shim.Tasks;
using Skiff.Ttrpc;

namespace Skiff.Shim.Tests;

public sealed class TaskLifecycleTests
{
    [Theory]
    [InlineData(TaskOperation.Start, TaskState.Created)]
    [InlineData(TaskOperation.Kill, TaskState.Created, TaskState.Running, TaskState.Paused)]
    [InlineData(TaskOperation.Delete, TaskState.Created, TaskState.Stopped, TaskState.Errored)]
    [InlineData(TaskOperation.Pause, TaskState.Running)]
    [InlineData(TaskOperation.Resume, TaskState.Paused)]
    internal void an_operation_is_possible_in_its_states_only(TaskOperation operation, params TaskState[] allowed)
    {
        foreach (var state in Enum.GetValues<TaskState>())
        {
            Assert.Equal(Array.IndexOf(allowed, state) >= 0, TaskLifecycle.Refusal("c1", operation, state) is null);
        }
    }

    [Fact]
    public void a_refusal_names_operation_container_and_state() => Assert.Equal(
        new TtrpcError(TtrpcCode.FailedPrecondition, "cannot resume container c1: it is stopped"), TaskLifecycle.Refusal("c1", TaskOperation.Resume, TaskState.Stopped));

    [Fact]
    public void a_kill_that_comes_too_late_finds_nothing() =>
        Assert.Equal(TtrpcCode.NotFound, TaskLifecycle.Refusal("c1", TaskOperation.Kill, TaskState.Stopped)!.Code);
}
