using Serverless.TestSupport;
using Xunit;

namespace Serverless.Core.Tests;

/// <summary>IDX files as MNIST has them, and damaged ones.</summary>
public class IdxFileTests
{
    [Fact]
    public void Axes_and_elements_are_read()
    {
        var read = Read([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6]);
        Assert.Equal([2, 3], read.Shape);
        Assert.Equal([1, 2, 3, 4, 5, 6], read.Elements);
    }

    // Another type, no axis, a negative axis, a product beyond any memory, too short, too long.
    [Theory]
    [InlineData(new byte[] { 0, 0, 13, 1, 0, 0, 0, 1, 1 }, "no array of unsigned bytes")]
    [InlineData(new byte[] { 0, 0, 8, 0 }, "no array of unsigned bytes")]
    [InlineData(new byte[] { 0, 0, 8, 1, 255, 0, 0, 0 }, "an axis of -")]
    [InlineData(new byte[] { 0, 0, 8, 3, 127, 0, 0, 0, 127, 0, 0, 0, 127, 0, 0, 0 }, "more than")]
    [InlineData(new byte[] { 0, 0, 8, 1, 0, 0, 0, 4, 1, 2 }, "ends before")]
    [InlineData(new byte[] { 0, 0, 8, 1, 0, 0, 0, 1, 1, 2 }, "longer than")]
    public void A_damaged_file_is_refused(byte[] file, string why) =>
        Assert.Contains(why, Assert.Throws<InvalidDataException>(() => Read(file)).Message);

    private static IdxFile Read(byte[] file)
    {
        using var stream = new MemoryStream(file);
        return IdxFile.Read(stream, "labels");
    }
}
