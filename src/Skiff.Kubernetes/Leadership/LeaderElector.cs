using Microsoft.Extensions.Logging;
using Skiff.Kubernetes.Watching;

namespace Skiff.Kubernetes.Leadership;

/// <summary>Settings of a <see cref="LeaderElector"/>.</summary>
public sealed record LeaderElectionOptions
{
    /// <summary>The namespace of the Lease.</summary>
    public required string Namespace { get; init; }

    /// <summary>The name of the Lease.</summary>
    public required string Name { get; init; }

    /// <summary>Tells this candidate from all others, also from itself before a restart.</summary>
    public required string Identity { get; init; }

    /// <summary>For so long after the last change that they saw, others leave the lease to its holder. Whole seconds.</summary>
    public TimeSpan LeaseDuration { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>For so long after its last renewal the holder goes on; the rest of the duration is the time it has for stopping.</summary>
    public TimeSpan RenewDeadline { get; init; } = TimeSpan.FromSeconds(20);

    /// <summary>The time between two renewals.</summary>
    public TimeSpan RenewPeriod { get; init; } = TimeSpan.FromSeconds(7);
}

/// <summary>
/// Lets one of many candidates lead, by a Lease that the leader renews.
/// <list type="number">
/// <item>A candidate watches the Lease. It takes it when it has no holder, or when it has not changed for its duration by the candidate's own
/// clock: what is written in it is by another clock and never computed with. The API server's resource versions decide who was first.</item>
/// <item>The leader's work is cancelled when no renewal went well for the deadline, counted from before the last good one was sent. That is
/// before anybody else can have waited for the whole duration, so long as the clocks run at about the same speed (that of a suspended machine
/// does not) and the work stops within what lies between.</item>
/// <item>The lease is given back only when the work has returned; the others see that and need not wait.</item>
/// </list>
/// </summary>
public sealed partial class LeaderElector
{
    private const int LongestForeignLease = 3600; // seconds; whoever wrote more cannot be meant

    private static readonly TimeSpan _releaseLimit = TimeSpan.FromSeconds(5);

    private readonly KubeClient _client;
    private readonly LeaderElectionOptions _options;
    private readonly ILogger _logger;
    private readonly TimeProvider _time;
    private readonly ObjectKey _key;
    private volatile bool _leads;

    /// <summary>Prepares a candidate.</summary>
    /// <exception cref="ArgumentException">The times do not leave the holder less time than the others wait.</exception>
    public LeaderElector(KubeClient client, LeaderElectionOptions options, ILogger logger, TimeProvider time)
    {
        ArgumentNullException.ThrowIfNull(client);
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(logger);
        ArgumentNullException.ThrowIfNull(time);
        if (options.RenewPeriod <= TimeSpan.Zero || options.RenewDeadline <= options.RenewPeriod || options.LeaseDuration <= options.RenewDeadline)
        {
            throw new ArgumentException("it must hold: 0 < RenewPeriod < RenewDeadline < LeaseDuration", nameof(options));
        }

        _client = client;
        _options = options;
        _logger = logger;
        _time = time;
        _key = new ObjectKey(options.Namespace, options.Name);
    }

    /// <summary>Whether this candidate leads.</summary>
    public bool Leads => _leads;

    /// <summary>
    /// Stands for election until cancelled. Each time it wins, <paramref name="lead"/> is called with a token that is cancelled when the lead
    /// is lost or <paramref name="cancellation"/> comes; it must return soon after. When it returns by itself, the lease is given back and this
    /// method returns too.
    /// </summary>
    public async Task RunAsync(Func<CancellationToken, Task> lead, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(lead);
        try
        {
            while (true)
            {
                var (lease, sent) = await AcquireAsync(cancellation).ConfigureAwait(false);
                if (!await LeadAsync(lead, lease, sent, cancellation).ConfigureAwait(false))
                {
                    return;
                }
            }
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
            // The caller's wish.
        }
    }

    /// <summary>Waits until the lease is ours.</summary>
    /// <returns>The lease, and the timestamp from before the request that took it.</returns>
    private async Task<(Lease Lease, long Sent)> AcquireAsync(CancellationToken cancellation)
    {
        Log.Waiting(_logger, _key, _options.Identity);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        var informer = new Informer<Lease>(
            _client,
            Lease.Resource,
            new InformerOptions<Lease> { Selection = new Selection { Namespace = _options.Namespace, Fields = $"metadata.name={_options.Name}" } },
            _logger,
            _time);
        var changed = Signal();
        informer.OnChange(_ => Interlocked.Exchange(ref changed, Signal()).SetResult());
        var watching = informer.RunAsync(stop.Token);
        try
        {
            await informer.WaitForSyncAsync(cancellation).ConfigureAwait(false);
            string? seen = null;
            var since = _time.GetTimestamp();
            var failures = 0;
            while (true)
            {
                var next = Volatile.Read(ref changed); // before looking, so that a change in between is not missed
                var found = informer.Get(_key);
                if (found?.Metadata.ResourceVersion != seen)
                {
                    seen = found?.Metadata.ResourceVersion;
                    since = _time.GetTimestamp();
                }

                var left = TimeLeft(found, _time.GetElapsedTime(since));
                if (left <= TimeSpan.Zero)
                {
                    var sent = _time.GetTimestamp();
                    var taken = await TakeAsync(found, cancellation).ConfigureAwait(false);
                    if (taken.Value is { } lease)
                    {
                        return (lease, sent);
                    }

                    // Somebody was quicker, and the watch will say who; or the request failed.
                    failures++;
                    left = Backoff.After(failures, _options.RenewPeriod / 4, _options.RenewPeriod);
                    if (taken.Error is { Kind: not (ApiErrorKind.Conflict or ApiErrorKind.AlreadyExists) } error)
                    {
                        Log.CannotTake(_logger, _key, error.Message);
                    }
                }

                await next.Task.WaitAsync(left, _time, cancellation).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                cancellation.ThrowIfCancellationRequested();
            }
        }
        finally
        {
            await stop.CancelAsync().ConfigureAwait(false);
            await watching.ConfigureAwait(false);
        }
    }

    private static TaskCompletionSource Signal() => new(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>How long the lease must still be left to its holder.</summary>
    private static TimeSpan TimeLeft(Lease? lease, TimeSpan unchangedFor) =>
        string.IsNullOrEmpty(lease?.Spec?.HolderIdentity)
            ? TimeSpan.Zero
            : TimeSpan.FromSeconds(Math.Clamp(lease.Spec.LeaseDurationSeconds ?? 1, 1, LongestForeignLease)) - unchangedFor;

    private Task<ApiResult<Lease>> TakeAsync(Lease? found, CancellationToken cancellation)
    {
        var now = _time.GetUtcNow();
        var spec = new LeaseSpec
        {
            HolderIdentity = _options.Identity,
            LeaseDurationSeconds = (int)Math.Ceiling(_options.LeaseDuration.TotalSeconds),
            AcquireTime = now,
            RenewTime = now,
            LeaseTransitions = (found?.Spec?.LeaseTransitions ?? -1) + 1,
        };
        return found is null
            ? _client.CreateAsync(
                Lease.Resource, new Lease { Metadata = new ObjectMeta { Name = _options.Name, Namespace = _options.Namespace }, Spec = spec }, cancellation)
            : _client.UpdateAsync(Lease.Resource, found with { Spec = spec }, cancellation);
    }

    /// <summary>Has the work done while renewing.</summary>
    /// <returns>Whether to stand for election again.</returns>
    private async Task<bool> LeadAsync(Func<CancellationToken, Task> lead, Lease lease, long sent, CancellationToken cancellation)
    {
        Log.Leading(_logger, _key, _options.Identity);

        // The deadline is a timer of its own, so that a request that hangs cannot delay it.
        using var lost = new CancellationTokenSource(Remaining(sent), _time);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation, lost.Token);
        _leads = true;
        var work = RunLeadAsync(lead, stop.Token);
        var renewing = RenewAsync(lease, lost, stop.Token);
        bool finished;
        try
        {
            _ = await Task.WhenAny(work, renewing).ConfigureAwait(false);
            finished = work.IsCompleted && !stop.IsCancellationRequested;
            await stop.CancelAsync().ConfigureAwait(false);
            await work.ConfigureAwait(false);
        }
        finally
        {
            _leads = false;
            await stop.CancelAsync().ConfigureAwait(false);
            await ReleaseAsync(await renewing.ConfigureAwait(false)).ConfigureAwait(false);
        }

        cancellation.ThrowIfCancellationRequested();
        return !finished;
    }

    private static async Task RunLeadAsync(Func<CancellationToken, Task> lead, CancellationToken cancellation)
    {
        await Task.Yield(); // work that never waits must not keep the renewals from starting
        try
        {
            await lead(cancellation).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
            // As it was told.
        }
    }

    /// <summary>Renews until the lead is lost or not wanted any more.</summary>
    /// <returns>The lease as last seen.</returns>
    private async Task<Lease> RenewAsync(Lease lease, CancellationTokenSource lost, CancellationToken cancellation)
    {
        var failures = 0;
        try
        {
            while (true)
            {
                var pause = failures == 0 ? _options.RenewPeriod : Backoff.After(failures, _options.RenewPeriod / 4, _options.RenewPeriod);
                await Task.Delay(pause, _time, cancellation).ConfigureAwait(false);
                var sent = _time.GetTimestamp();
                var renewed = await WriteAsync(lease, lease.Spec! with { RenewTime = _time.GetUtcNow() }, _options.RenewPeriod, cancellation)
                    .ConfigureAwait(false);
                if (renewed.Value is { } newer)
                {
                    lease = newer;
                    failures = 0;
                    lost.CancelAfter(Remaining(sent));
                    continue;
                }

                failures++;
                Log.CannotRenew(_logger, _key, renewed.Error!.Message);
                if (renewed.Error.Kind is not (ApiErrorKind.Conflict or ApiErrorKind.NotFound))
                {
                    continue;
                }

                // Somebody wrote to it: a label, our own renewal whose answer was lost, or another holder.
                var found = await _client.GetAsync(Lease.Resource, _key, cancellation).ConfigureAwait(false);
                if (found.Error?.Kind == ApiErrorKind.NotFound || (found.Value is { } other && other.Spec?.HolderIdentity != _options.Identity))
                {
                    Log.Lost(_logger, _key, found.Value?.Spec?.HolderIdentity ?? "");
                    return found.Value ?? lease with { Spec = null };
                }

                lease = found.Value ?? lease;
            }
        }
        catch (OperationCanceledException)
        {
            if (lost.IsCancellationRequested)
            {
                Log.LostByTime(_logger, _key, _options.RenewDeadline);
            }

            return lease;
        }
    }

    /// <summary>Writes the lease if it is still as it was; a request that hangs leaves time for another.</summary>
    private async Task<ApiResult<Lease>> WriteAsync(Lease lease, LeaseSpec spec, TimeSpan limit, CancellationToken cancellation)
    {
        using var late = new CancellationTokenSource(limit, _time);
        using var both = CancellationTokenSource.CreateLinkedTokenSource(late.Token, cancellation);
        try
        {
            return await _client.UpdateAsync(Lease.Resource, lease with { Spec = spec }, both.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            return new ApiError(ApiErrorKind.Unreachable, $"PUT of Lease {_key}: no answer within {limit.TotalSeconds:0} s");
        }
    }

    private TimeSpan Remaining(long sent) =>
        _options.RenewDeadline - _time.GetElapsedTime(sent) is var left && left > TimeSpan.Zero ? left : TimeSpan.Zero;

    /// <summary>Gives the lease back, so that the next one need not wait. When that fails, it waits.</summary>
    private async Task ReleaseAsync(Lease lease)
    {
        // The second try is for a renewal that was cancelled on its way and arrived all the same.
        for (var attempt = 0; attempt < 2 && lease.Spec?.HolderIdentity == _options.Identity; attempt++)
        {
            var spec = lease.Spec with { HolderIdentity = "", LeaseDurationSeconds = 1, RenewTime = _time.GetUtcNow() };
            var released = await WriteAsync(lease, spec, _releaseLimit, CancellationToken.None).ConfigureAwait(false);
            if (released.Error is not { } error)
            {
                return;
            }

            Log.CannotRelease(_logger, _key, error.Message);
            if (error.Kind != ApiErrorKind.Conflict || (await _client.GetAsync(Lease.Resource, _key, CancellationToken.None).ConfigureAwait(false)).Value is not { } found)
            {
                return;
            }

            lease = found;
        }
    }

    private static partial class Log
    {
        [LoggerMessage(120, LogLevel.Information, "standing for election: lease={Lease} identity={Identity}")]
        public static partial void Waiting(ILogger logger, ObjectKey lease, string identity);

        [LoggerMessage(121, LogLevel.Information, "leading: lease={Lease} identity={Identity}")]
        public static partial void Leading(ILogger logger, ObjectKey lease, string identity);

        [LoggerMessage(122, LogLevel.Warning, "the lead is lost: lease={Lease} holder={Holder}")]
        public static partial void Lost(ILogger logger, ObjectKey lease, string holder);

        [LoggerMessage(126, LogLevel.Warning, "the lead is lost: lease={Lease} deadline={Deadline}")]
        public static partial void LostByTime(ILogger logger, ObjectKey lease, TimeSpan deadline);

        [LoggerMessage(123, LogLevel.Warning, "the lease could not be renewed: lease={Lease} error={Error}")]
        public static partial void CannotRenew(ILogger logger, ObjectKey lease, string error);

        [LoggerMessage(124, LogLevel.Warning, "the lease could not be taken: lease={Lease} error={Error}")]
        public static partial void CannotTake(ILogger logger, ObjectKey lease, string error);

        [LoggerMessage(125, LogLevel.Warning, "the lease could not be given back: lease={Lease} error={Error}")]
        public static partial void CannotRelease(ILogger logger, ObjectKey lease, string error);
    }
}
