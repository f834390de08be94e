using System.Reflection;
using System.Reflection.Metadata;
using System.Reflection.Metadata.Ecma335;

namespace Serverless.Core;

/// <summary>
/// The classes of an assembly that are not abstract and derive from another, found by metadata: asking for all types would load some
/// thousand, those of compilers' making among them.
/// </summary>
internal static class SubclassSearch
{
    private static readonly HashSet<string> Roots = ["Object", "ValueType", "Enum", "MulticastDelegate", "Attribute", "Exception"];

    /// <summary>In the order of the assembly.</summary>
    /// <param name="assembly">The assembly.</param>
    /// <param name="parent">The class that they derive from; may be an open generic one.</param>
    public static unsafe IEnumerable<Type> Of(Assembly assembly, Type parent)
    {
        if (!assembly.TryGetRawMetadata(out var blob, out var length))
            throw new InvalidOperationException($"{assembly.GetName().Name} has no metadata.");
        var reader = new MetadataReader(blob, length);
        var found = new List<Type>();
        foreach (var handle in reader.TypeDefinitions)
        {
            var type = reader.GetTypeDefinition(handle);
            const TypeAttributes NoClass = TypeAttributes.Abstract | TypeAttributes.Interface;
            if ((type.Attributes & NoClass) != 0 || HasRoot(reader, type.BaseType) || IsMadeByCompiler(reader, type))
                continue;
            var loaded = assembly.ManifestModule.ResolveType(MetadataTokens.GetToken(handle));
            if (Ancestors(loaded).Any(a => a == parent || (a.IsGenericType && a.GetGenericTypeDefinition() == parent)))
                found.Add(loaded);
        }
        return found;
    }

    private static bool HasRoot(MetadataReader reader, EntityHandle parent) =>
        parent.IsNil
        || (
            parent.Kind == HandleKind.TypeReference
            && Roots.Contains(reader.GetString(reader.GetTypeReference((TypeReferenceHandle)parent).Name))
        );

    private static bool IsMadeByCompiler(MetadataReader reader, TypeDefinition type) => reader.GetString(type.Name).Contains('<');

    private static IEnumerable<Type> Ancestors(Type type)
    {
        for (var t = type.BaseType; t is not null; t = t.BaseType)
            yield return t;
    }
}
