using System.Runtime.InteropServices;

namespace Serverless.Core.Execution;

/// <summary>
/// The heap of the C library. What ONNX Runtime frees while it folds a model's constants stays with glibc, several times the model's
/// size, unless it is asked to give it back.
/// </summary>
internal static unsafe class NativeHeap
{
    private static readonly delegate* unmanaged[Cdecl]<nuint, int> MallocTrim = Find();

    /// <summary>Gives free memory back to the system (malloc_trim(3)); nothing where the C library has no such call.</summary>
    public static void Trim()
    {
        if (MallocTrim != null)
            _ = MallocTrim(0);
    }

    private static delegate* unmanaged[Cdecl]<nuint, int> Find() =>
        OperatingSystem.IsLinux()
        && NativeLibrary.TryLoad("libc.so.6", out var library)
        && NativeLibrary.TryGetExport(library, "malloc_trim", out var call)
            ? (delegate* unmanaged[Cdecl]<nuint, int>)call
            : null;
}
