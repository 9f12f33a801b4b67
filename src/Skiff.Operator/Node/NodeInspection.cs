namespace Skiff.Operator.Node;

/// <summary>Looks at a node without changing it.</summary>
internal sealed class NodeInspection(INodeMachine machine, string? configPath)
{
    /// <inheritdoc cref="INodeInstaller.StatusAsync"/>
    public async Task<NodeStatus> StatusAsync(string handler, CancellationToken cancellation)
    {
        List<string> problems = [];
        if (machine.Obstacle is { } obstacle)
        {
            return new NodeStatus(handler) { Problems = [obstacle] };
        }

        // 1. The files.
        var bundles = new BundleStore(machine.Files);
        var current = bundles.Current;
        var status = new NodeStatus(handler)
        {
            Bundle = current,
            Engines = bundles.Engines,
            OldBundles = [.. bundles.All.Where(b => b != current)],
            RunningShims = machine.RunningShims().Count(s => s.IsBusy),
        };
        var (entry, problem) = new Journal(machine.Files).Load();
        if (entry is null)
        {
            problems.Add(problem!);
        }
        else if (entry.Change is { } change)
        {
            status = status with { Unfinished = $"{change.Kind} of {change.Handler}, step {change.Step}" };
        }

        // 2. containerd.
        var (process, missing) = await machine.FindContainerdAsync(cancellation).ConfigureAwait(false);
        if (process is null)
        {
            problems.Add(missing!);
            return status with { Problems = problems };
        }

        status = status with { ConfigPath = process.Service.ConfigPath, Unit = process.Service.Unit };
        if (configPath is not null && configPath != process.Service.ConfigPath)
        {
            problems.Add($"--config is {configPath}, and the running containerd reads {process.Service.ConfigPath}");
        }

        var (config, broken) = await ContainerdConfig.ReadAsync(machine, process.Service, cancellation).ConfigureAwait(false);
        if (config is null)
        {
            problems.Add(broken!);
        }
        else
        {
            status = status with
            {
                ContainerdVersion = config.Version.ToString(),
                Registered = config.Effective.Find(handler) is { RuntimeType: NodePaths.RuntimeType },
            };
        }

        // 3. The handler.
        var (known, failure) = await machine.HasHandlerAsync(handler, cancellation).ConfigureAwait(false);
        if (failure is not null)
        {
            problems.Add(failure.Message);
        }

        if (status.Registered && current is null)
        {
            problems.Add($"containerd's configuration names {NodePaths.RuntimeType}, and {NodePaths.Current} leads to no bundle: install again");
        }

        if (status.Registered && known == false)
        {
            problems.Add($"containerd's configuration has the runtime {handler}, and the running containerd does not: restart it, or install again");
        }

        return status with { Served = known, Problems = problems };
    }
}
