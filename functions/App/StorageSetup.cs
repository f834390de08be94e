using Microsoft.Extensions.Hosting;

namespace Serverless.App;

/// <summary>Makes containers and queues when the worker starts: an emulator, or an account without Bicep, is empty.</summary>
public sealed class StorageSetup(AppHost host) : IHostedService
{
    /// <inheritdoc/>
    public Task StartAsync(CancellationToken cancellationToken) => host.PrepareAsync(cancellationToken);

    /// <inheritdoc/>
    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
}
