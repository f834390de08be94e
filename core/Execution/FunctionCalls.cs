using Serverless.Core.Model;
using Serverless.Core.Model.Schema;

namespace Serverless.Core.Execution;

/// <summary>The functions of a model by the nodes that call them, so that a part of it takes those along that it needs.</summary>
internal sealed class FunctionCalls(ModelProto model)
{
    private readonly ILookup<(string, string), int> byName = Enumerable
        .Range(0, model.Functions.Count)
        .ToLookup(i => (model.Functions[i].Domain, model.Functions[i].Name));

    /// <summary>Functions that nodes call, directly or not, in the model's order.</summary>
    public IEnumerable<FunctionProto> Of(IEnumerable<NodeProto> nodes)
    {
        if (model.Functions.Count == 0)
            return [];
        var found = new SortedSet<int>();
        var open = new Stack<NodeProto>(nodes);
        while (open.TryPop(out var node))
        {
            foreach (var i in byName[(node.Domain, node.OpType)])
                if (found.Add(i))
                    Push(model.Functions[i].Node);
            foreach (var graph in GraphScope.Subgraphs(node))
                Push(graph.Node);
        }
        return found.Select(i => model.Functions[i]);

        void Push(IEnumerable<NodeProto> more)
        {
            foreach (var n in more)
                open.Push(n);
        }
    }
}
