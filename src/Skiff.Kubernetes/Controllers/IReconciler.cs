namespace Skiff.Kubernetes.Controllers;

/// <summary>
/// Brings one thing from the state it is found in to the state that is wanted.
/// <para>
/// The contract is level-based: a call computes both states from what is there now, and never from the event that woke it. Events may be
/// merged, repeated, late, or missing (after a restart there are none), and the outcome must be the same. So a call that finds nothing to do
/// changes nothing, one that was broken off at any point is completed by the next, and the key of an object that is gone is no error.
/// </para>
/// <para>A key is never reconciled twice at once; different keys may be.</para>
/// </summary>
/// <typeparam name="TKey">Names the thing.</typeparam>
public interface IReconciler<in TKey>
{
    /// <summary>Reconciles.</summary>
    /// <param name="key">Which thing.</param>
    /// <param name="cancellation">The program stops, or it is no longer the one that may do this: return soon.</param>
    /// <returns>When to come back. An exception counts as <see cref="ReconcileResult.Retry"/>, and is logged as a fault of the program.</returns>
    public Task<ReconcileResult> ReconcileAsync(TKey key, CancellationToken cancellation);
}
