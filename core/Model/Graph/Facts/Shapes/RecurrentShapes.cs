namespace Serverless.Core.Model;

/// <summary>Shapes of recurrent layers.</summary>
internal static class RecurrentShapes
{
    public static IEnumerable<(string, ShapeRule)> Rules => [("LSTM", Run), ("GRU", Run), ("RNN", Run)];

    private static void Run(InferredNode n)
    {
        var hidden =
            n.Node.Attribute("hidden_size") is { } h ? Dim.Of(h.I)
            : n.Dims(2) is { Count: 3 } r ? r[2]
            : null;
        var directions = Dim.Of(n.Node.Text("direction", "forward") == "bidirectional" ? 2 : 1);
        var (steps, batch) = n.Dims(0) is { Count: 3 } x ? (x[0], x[1]) : (null, null);
        if (n.Node.Int("layout", 0) != 0)
        {
            (steps, batch) = (batch, steps);
            n.Make(0, n.Type(0), [batch, steps, directions, hidden]);
            n.Make(1, n.Type(0), [batch, directions, hidden]);
            n.Make(2, n.Type(0), [batch, directions, hidden]);
            return;
        }
        n.Make(0, n.Type(0), [steps, directions, batch, hidden]);
        n.Make(1, n.Type(0), [directions, batch, hidden]);
        n.Make(2, n.Type(0), [directions, batch, hidden]);
    }
}
