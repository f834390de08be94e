namespace Serverless.Core.Model;

/// <summary>
/// Indices of recurrent layers: a hidden unit is a row of each gate in the weights, biases and peepholes, a column of the recurrence,
/// and an
/// element of states and outputs, in all directions.
/// </summary>
internal static class RecurrentCoupling
{
    private const int Recurrence = 2,
        Bias = 3,
        Steps = 4,
        Hidden = 5,
        Cell = 6,
        Peepholes = 7;

    public static IEnumerable<(string, CouplingRule)> Rules => [("LSTM", n => Run(n, 4)), ("GRU", n => Run(n, 3)), ("RNN", n => Run(n, 1))];

    private static void Run(CoupledNode n, int gates)
    {
        if (
            n.Axes(0) is not { Count: 3 } x
            || n.Axes(1) is not { Count: 3 } w
            || n.Axes(Recurrence) is not { Count: 3 } r
            || r[2].Size.Value is null
        )
        {
            n.FreezeAll("has inputs that are not read here");
            return;
        }
        var byBatch = n.Node.Int("layout", 0) != 0;
        var unit = r[2];
        n.Unify(x[2], w[2]);
        Gates(1, gates);
        Gates(Recurrence, gates);
        if (n.Has(Bias))
            Gates(Bias, 2 * gates);
        if (n.Has(Peepholes))
            Gates(Peepholes, 3);
        n.Use(1, 1, ChannelRole.Producer);
        n.Use(1, 2, ChannelRole.Consumer);
        n.Use(Recurrence, 1, ChannelRole.Producer);
        n.Use(Recurrence, 2, ChannelRole.Consumer);
        n.Use(Bias, 1, ChannelRole.Bias);
        // A unit whose gates are all zero puts out half of what it held: nothing, if it began with nothing.
        var zero = n.Node.Attribute("activations") is null && !(n.Has(Bias) && !n.IsConstant(Bias));
        foreach (var state in new[] { Hidden, Cell })
        {
            if (!n.Has(state))
                continue;
            if (n.Axes(state) is not { Count: 3 } start)
            {
                unit.Freeze($"{n.Where} has a first state of an unknown rank");
                continue;
            }
            n.Unify(start[2], unit);
            n.Freeze(state, 0, "runs in directions");
            n.Use(state, 2, ChannelRole.Bias);
            zero &= n.Zero(state, 2, ChannelRole.Bias);
        }
        n.Freeze(1, 0, "runs in directions");
        n.Freeze(Recurrence, 0, "runs in directions");
        n.Freeze(Steps, "takes lengths of samples");
        n.Freeze(0, 0, "goes along it");
        n.Freeze(0, 1, "goes along it");
        if (n.Node.Attribute("hidden_size") is not null)
            n.Length("hidden_size", unit);
        var directions =
            n.Node.Text("direction", "forward") == "bidirectional" ? IndexSet.Fixed(2, $"{n.Where} has two directions") : IndexSet.One;
        var (steps, batch) = byBatch ? (x[1], x[0]) : (x[0], x[1]);
        bool[] last = [false, false, zero];
        n.Make(0, byBatch ? [batch, steps, directions, unit] : [steps, directions, batch, unit], [false, .. last]);
        IndexSet[] states = byBatch ? [batch, directions, unit] : [directions, batch, unit];
        n.Make(1, states, last);
        n.Make(2, states, last);

        void Gates(int input, int count)
        {
            if (n.Axes(input) is not { Count: > 1 } axes)
            {
                unit.Freeze($"{n.Where} has a weight of an unknown rank");
                return;
            }
            var (gate, each) = n.Factor(axes[1], count);
            n.Unify(gate, IndexSet.Fixed(count, $"{n.Where} has {count} gates"));
            n.Unify(each, unit);
        }
    }
}
