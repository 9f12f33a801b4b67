using Skiff.Shim.Tasks;
using Skiff.Ttrpc;

namespace Skiff.Shim.Tests;

public sealed class TaskLifecycleTests
{
    [Theory]
    [InlineData(false, TaskOperation.Start, TaskState.Created)]
    [InlineData(false, TaskOperation.Kill, TaskState.Created, TaskState.Running, TaskState.Paused)]
    [InlineData(false, TaskOperation.Delete, TaskState.Created, TaskState.Stopped, TaskState.Errored)]
    [InlineData(false, TaskOperation.Exec, TaskState.Created, TaskState.Running)]
    [InlineData(false, TaskOperation.Pause, TaskState.Running)]
    [InlineData(false, TaskOperation.Resume, TaskState.Paused)]
    [InlineData(false, TaskOperation.Update, TaskState.Created, TaskState.Running, TaskState.Paused)]
    [InlineData(false, TaskOperation.Checkpoint, TaskState.Running, TaskState.Paused)]
    [InlineData(true, TaskOperation.Start, TaskState.Created)]
    [InlineData(true, TaskOperation.Kill, TaskState.Running, TaskState.Paused)]
    [InlineData(true, TaskOperation.Delete, TaskState.Created, TaskState.Stopped, TaskState.Errored)]
    internal void an_operation_is_possible_in_its_states_only(bool isExec, TaskOperation operation, params TaskState[] allowed)
    {
        foreach (var state in Enum.GetValues<TaskState>())
        {
            Assert.Equal(Array.IndexOf(allowed, state) >= 0, TaskLifecycle.Refusal("container c1", isExec, operation, state) is null);
        }
    }

    [Fact]
    public void a_refusal_names_operation_process_and_state()
    {
        Assert.Equal(
            new TtrpcError(TtrpcCode.FailedPrecondition, "cannot resume container c1: it is stopped"),
            TaskLifecycle.Refusal("container c1", isExec: false, TaskOperation.Resume, TaskState.Stopped));
        Assert.Equal(
            new TtrpcError(TtrpcCode.FailedPrecondition, "cannot kill exec e1 of container c1: it is created"),
            TaskLifecycle.Refusal("exec e1 of container c1", isExec: true, TaskOperation.Kill, TaskState.Created));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void a_kill_that_comes_too_late_finds_nothing(bool isExec) =>
        Assert.Equal(TtrpcCode.NotFound, TaskLifecycle.Refusal("c1", isExec, TaskOperation.Kill, TaskState.Stopped)!.Code);
}
