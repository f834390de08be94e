using System.IO.Compression;

namespace Serverless.TestSupport;

/// <summary>Writes NumPy's <c>.npz</c>.</summary>
internal static class Npz
{
    public static void Write(string path, params (string Name, string Type, long[] Shape, byte[] Bytes)[] arrays) =>
        Write(path, CompressionLevel.Fastest, arrays);

    public static void Write(string path, CompressionLevel level, params (string Name, string Type, long[] Shape, byte[] Bytes)[] arrays)
    {
        File.Delete(path);
        using var zip = ZipFile.Open(path, ZipArchiveMode.Create);
        foreach (var (name, type, shape, bytes) in arrays)
        {
            using var stream = zip.CreateEntry(name + ".npy", level).Open();
            stream.Write(Header(type, $"({string.Join(", ", shape)}{(shape.Length == 1 ? "," : "")})"));
            stream.Write(bytes);
        }
    }

    private static byte[] Header(string type, string shape)
    {
        var text = $"{{'descr': '{type}', 'fortran_order': False, 'shape': {shape}, }}";
        text = text.PadRight((text.Length + 10 + 1 + 63) / 64 * 64 - 10 - 1) + "\n";
        return [0x93, .. "NUMPY"u8, 1, 0, (byte)text.Length, (byte)(text.Length >> 8), .. System.Text.Encoding.ASCII.GetBytes(text)];
    }
}
