using Serverless.Core.Storage;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Local.Tests;

public class DropPausesTests
{
    [Fact]
    public void Pauses_double_and_end_and_each_version_of_a_drop_has_its_own()
    {
        var pauses = new DropPauses { Most = 3, First = TimeSpan.FromMinutes(1) };
        Assert.Equal([1, 2, 4], Enumerable.Range(0, 3).Select(_ => pauses.Next("m|1")!.Value.TotalMinutes));
        Assert.Null(pauses.Next("m|1"));
        Assert.True(pauses.Lasts("m|1"));
        Assert.False(pauses.Lasts("m|2"));
        Assert.Equal(1, pauses.Next("m|2")!.Value.TotalMinutes);
    }

    [Theory]
    [InlineData(2, true)]
    [InlineData(9, false)]
    public async Task A_drop_whose_failure_passes_is_gone_on_with_and_one_that_stays_is_written_down(int failures, bool succeeds)
    {
        using var folder = new Folder();
        folder.Write("drop/m.onnx", File.ReadAllBytes(Path.Combine(RealModels.Digits, "digits.onnx")));
        using (
            var watch = new DropWatch(new Flaky(new FolderWatch(folder.Path, null), failures), null)
            {
                Pauses = new DropPauses { Most = 3, First = TimeSpan.FromMilliseconds(1) },
            }
        )
            await watch.RunAsync(once: true, new CancellationTokenSource(TimeSpan.FromMinutes(1)).Token);
        Assert.Equal(
            succeeds ? 1 : 0,
            Directory.GetFiles(Path.Combine(folder.Path, "compressed"), "report.json", SearchOption.AllDirectories).Length
        );
        Assert.Equal(
            succeeds ? 0 : 1,
            Directory.GetFiles(Path.Combine(folder.Path, "failed"), "error.json", SearchOption.AllDirectories).Length
        );
    }

    // A disk that fails a few times.
    private sealed class Flaky(IDropSource inner, int failures) : IDropSource
    {
        private int calls;

        public string Name => inner.Name;

        public IArtifactStore Results => inner.Results;

        public LocalOptions Options(Drop drop, string runId, long? memory) =>
            ++calls > failures
                ? inner.Options(drop, runId, memory) with
                {
                    Isolated = false,
                }
                : throw new IOException("The disk did not answer");

        public Task PrepareAsync(CancellationToken cancellation) => inner.PrepareAsync(cancellation);

        public Task<IReadOnlyList<DropCandidate>> ListAsync(CancellationToken cancellation) => inner.ListAsync(cancellation);
    }
}
