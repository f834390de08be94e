using Serverless.Core.Model.Schema;

namespace Serverless.Core.Model;

/// <summary>
/// Gives constants of inner graphs names of their own where an outer graph has the same (ONNX IR, "Names Within a Graph", forbids that;
/// ONNX
/// Runtime runs it as long as both are initializers).
/// </summary>
public static class ShadowedNames
{
    /// <summary>Renames the constants; what uses them follows.</summary>
    /// <param name="edit">The edit.</param>
    public static void Apply(ModelEdit edit)
    {
        foreach (var scope in edit.Roots[0].All().Where(s => s.Parent is not null))
        {
            var shadowing = scope.Graph!.Initializer.Where(t => scope.Parent!.Resolve(t.Name) is not null).ToList();
            if (shadowing.Count == 0)
                continue;
            var own = shadowing.ToDictionary(t => t.Name, t => edit.FreshName($"{scope.Path}/{t.Name}"), StringComparer.Ordinal);
            foreach (var tensor in shadowing)
                scope.Graph.Initializer.Add(new TensorProto(tensor) { Name = own[tensor.Name] });
            foreach (var name in own.Values)
                scope.Define(name);
            var stay = ModelEdit.Redirect(scope, own);
            foreach (var tensor in shadowing.Where(t => !stay.Contains(t.Name)))
                scope.Remove(tensor);
        }
    }
}
