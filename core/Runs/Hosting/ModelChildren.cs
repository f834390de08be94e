using System.Diagnostics;

namespace Serverless.Core.Runs;

/// <summary>
/// Processes that run models. One that has answered waits some seconds for the next activity of the same run: to start a process and to
/// compile its code takes longer than a small model's activity.
/// </summary>
/// <param name="start">Starts one; with a folder of its own it rehearses there first (<see cref="Rehearsal"/>).</param>
internal sealed class ModelChildren(Func<string?, ModelChild> start) : IDisposable
{
    private static readonly TimeSpan Kept = TimeSpan.FromSeconds(10),
        StartTime = TimeSpan.FromMilliseconds(400),
        Poll = TimeSpan.FromMilliseconds(5);
    private readonly List<Place> places = [];
    private TimeSpan longest;
    private bool disposed;

    /// <summary>Starts one for the first activity to come, of any run.</summary>
    public void Begin()
    {
        try
        {
            Add(start(Directory.CreateTempSubdirectory("serverless-").FullName), run: null).Wait(this);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Without such a folder the first activity starts its process itself.
        }
    }

    /// <summary>
    /// A child for an activity of a run: one that waits, or a new one. While activities are short, one at work is waited for as long as a
    /// start takes.
    /// </summary>
    public async Task<ModelChild> TakeAsync(string? run, CancellationToken cancellation)
    {
        for (var clock = Stopwatch.StartNew(); ; await Task.Delay(Poll, cancellation))
            lock (places)
            {
                foreach (var gone in places.Where(p => p.IsFree && p.Child.HasEnded).ToList())
                    Remove(gone);
                var free = places.LastOrDefault(p => p.IsFree && (p.Run is null || p.Run == run));
                if (free is null && longest < StartTime && clock.Elapsed < StartTime && places.Any(p => !p.IsFree && p.Run == run))
                    continue;
                free ??= Add(start(null), run);
                free.Work(run);
                return free.Child;
            }
    }

    /// <summary>Takes a child back from its work.</summary>
    /// <param name="child">The child.</param>
    /// <param name="keep">Whether it can serve another activity.</param>
    public void Return(ModelChild child, bool keep)
    {
        lock (places)
        {
            var place = places.Single(p => p.Child == child);
            if (place.Worked > longest)
                longest = place.Worked;
            if (keep && !disposed)
                place.Wait(this);
            else
                Remove(place);
        }
    }

    /// <summary>What all of them hold together, in resident bytes.</summary>
    public long ResidentBytes()
    {
        lock (places)
            return places.Sum(p => p.Child.ResidentBytes());
    }

    /// <summary>Ends those that wait, and those at work once they are taken back.</summary>
    public void Dispose()
    {
        lock (places)
        {
            disposed = true;
            foreach (var place in places.Where(p => p.IsFree).ToList())
                Remove(place);
        }
    }

    private Place Add(ModelChild child, string? run)
    {
        var place = new Place(child) { Run = run };
        lock (places)
            places.Add(place);
        return place;
    }

    private void Remove(Place place)
    {
        places.Remove(place);
        place.Child.Dispose();
    }

    private sealed class Place(ModelChild child)
    {
        private readonly Stopwatch clock = new();
        private int turn;

        public ModelChild Child => child;

        /// <summary>The run whose models it has seen, and the only one that it serves; null for any.</summary>
        public string? Run { get; set; }

        public bool IsFree { get; private set; }

        public TimeSpan Worked => clock.Elapsed;

        public void Work(string? run)
        {
            (Run, IsFree) = (run, false);
            clock.Restart();
        }

        public void Wait(ModelChildren all)
        {
            IsFree = true;
            _ = EndAsync(all, ++turn);
        }

        private async Task EndAsync(ModelChildren all, int waiting)
        {
            await Task.Delay(Kept);
            lock (all.places)
                if (IsFree && turn == waiting && all.places.Contains(this))
                    all.Remove(this);
        }
    }
}
