using System.Text;

namespace Serverless.Local;

/// <summary>Writes to another writer; what that one cannot take is dropped and told of.</summary>
/// <param name="inner">The writer.</param>
/// <param name="lost">Told why something was dropped.</param>
internal sealed class ForgivingWriter(TextWriter inner, Action<Exception> lost) : TextWriter
{
    public override Encoding Encoding => inner.Encoding;

    public override void Write(char value) => Try(() => inner.Write(value));

    public override void Write(char[] buffer, int index, int count) => Try(() => inner.Write(buffer, index, count));

    public override void Write(string? value) => Try(() => inner.Write(value));

    public override void WriteLine() => Try(inner.WriteLine);

    public override void WriteLine(string? value) => Try(() => inner.WriteLine(value));

    public override void Flush() => Try(inner.Flush);

    private void Try(Action write)
    {
        try
        {
            write();
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException or UnauthorizedAccessException)
        {
            lost(e);
        }
    }
}
