using Serverless.Core.Events;

namespace Serverless.Core.Runs;

/// <summary>Input of <see cref="Notify"/>.</summary>
public sealed record NotifyInput(RunEvent Event);

/// <summary>Who was not reached, a sentence each.</summary>
public sealed record Notified(IReadOnlyList<string> Failures);

/// <summary>Tells listeners what happened; that nobody could be reached is said, and does not fail the run.</summary>
public sealed class Notify : Activity<NotifyInput, Notified>
{
    /// <inheritdoc/>
    public override async Task<Notified> RunAsync(NotifyInput input, ActivityContext context, CancellationToken cancellation) =>
        new(context.Events is { } events ? await events.SendAsync(Outward(input.Event, context), cancellation) : []);

    // Listeners are told nothing of this machine's folders.
    private static RunEvent Outward(RunEvent e, ActivityContext context) =>
        e.Error is { } error ? e with { Error = Printable.Line(LocalPaths.Hide(error, context.Store)) } : e;
}
