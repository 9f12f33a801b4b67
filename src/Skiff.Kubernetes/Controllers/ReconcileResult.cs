namespace Skiff.Kubernetes.Controllers;

/// <summary>What a <see cref="IReconciler{TKey}"/> tells the queue. There are no other cases than these four.</summary>
public abstract record ReconcileResult
{
    private ReconcileResult()
    {
    }

    /// <summary>Found and wanted agree; the next change wakes it.</summary>
    public static ReconcileResult Done { get; } = new DoneCase();

    /// <summary>Nothing is wrong, but something has to be looked at again at a time when no event will come.</summary>
    public static ReconcileResult RequeueAfter(TimeSpan delay) => new RequeueCase(delay);

    /// <summary>It did not work this time; again after a delay that grows.</summary>
    /// <param name="problem">What was being done, to what, and why it failed.</param>
    public static ReconcileResult Retry(string problem) => new RetryCase(problem);

    /// <summary>It will not work until the object changes; only a change or a resync wakes it.</summary>
    /// <param name="problem">What is wrong, and what to change.</param>
    public static ReconcileResult Terminal(string problem) => new TerminalCase(problem);

    internal sealed record DoneCase : ReconcileResult;

    internal sealed record RequeueCase(TimeSpan Delay) : ReconcileResult;

    internal sealed record RetryCase(string Problem) : ReconcileResult;

    internal sealed record TerminalCase(string Problem) : ReconcileResult;
}
