using Serverless.Core.Storage;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Core.Tests;

public class ChecksummedStoreTests
{
    private const string Path = "work/run/attempt-0/layers/000001.bin";
    private static readonly byte[] Bytes = [.. Enumerable.Range(0, 3000).Select(i => (byte)i)];

    [Theory]
    [InlineData("flipped")]
    [InlineData("cut")]
    [InlineData("emptied")]
    [InlineData("deleted")]
    [InlineData("checksum deleted")]
    [InlineData("checksum damaged")]
    public async Task A_damaged_object_is_never_read(string damage)
    {
        using var folder = new Folder();
        await Store(folder).WriteBytesAsync(Path, Bytes, CancellationToken.None);
        Assert.Equal(Bytes, await Store(folder).ReadBytesAsync(Path, 1 << 20, CancellationToken.None));
        var (file, sum) = (File(folder, "attempt-0/layers/000001.bin"), File(folder, ".sums/attempt-0/layers/000001.bin.sum"));
        switch (damage)
        {
            case "flipped":
                System.IO.File.WriteAllBytes(file, [.. Bytes[..^1], 0]);
                break;
            case "cut":
                System.IO.File.WriteAllBytes(file, Bytes[..^1]);
                break;
            case "emptied":
                System.IO.File.WriteAllBytes(file, []);
                break;
            case "deleted":
                System.IO.File.Delete(file);
                break;
            case "checksum deleted":
                System.IO.File.Delete(sum);
                break;
            default:
                System.IO.File.WriteAllText(sum, "3000");
                break;
        }
        await Assert.ThrowsAsync<DamagedWorkException>(() => Store(folder).ReadBytesAsync(Path, 1 << 20, CancellationToken.None));
        await Assert.ThrowsAsync<DamagedWorkException>(() =>
            Store(folder)
                .MaterializeAsync(
                    "work/run/attempt-0/layers",
                    new Dictionary<string, string?> { ["000001.bin"] = null },
                    CancellationToken.None
                )
        );
        await Assert.ThrowsAsync<DamagedWorkException>(() =>
            Store(folder).PublishAsync("work/run/attempt-0", "out/run", CancellationToken.None)
        );
        Assert.False(Directory.Exists(System.IO.Path.Combine(folder.Path, "out", "run")));
        await Store(folder).WriteBytesAsync(Path, Bytes, CancellationToken.None);
        Assert.Equal(Bytes, await Store(folder).ReadBytesAsync(Path, 1 << 20, CancellationToken.None));
    }

    [Fact]
    public async Task What_was_deleted_in_order_is_absent_and_what_disappeared_is_damage()
    {
        using var folder = new Folder();
        var store = Store(folder);
        await store.WriteBytesAsync(Path, Bytes, CancellationToken.None);
        await store.WriteBytesAsync(Path + "2", Bytes, CancellationToken.None);
        Assert.Equal([Path, Path + "2"], await ListAsync(store));
        await store.DeleteAsync(Path + "2", CancellationToken.None);
        Assert.Null(await store.FindAsync(Path + "2", CancellationToken.None));
        Assert.Equal([Path], await ListAsync(store));
        System.IO.File.Delete(File(folder, "attempt-0/layers/000001.bin"));
        await Assert.ThrowsAsync<DamagedWorkException>(() => store.FindAsync(Path, CancellationToken.None));
        await Assert.ThrowsAsync<DamagedWorkException>(() => ListAsync(store));
    }

    [Fact]
    public async Task Published_folders_hold_no_checksums_and_events_need_none()
    {
        using var folder = new Folder();
        var store = Store(folder);
        await store.WriteAsync(
            Path,
            async (stream, token) =>
            {
                await stream.WriteAsync(new byte[5], token);
                stream.SetLength(0);
                await stream.WriteAsync(Bytes, token);
            },
            CancellationToken.None
        );
        await store.PublishAsync("work/run/attempt-0", "out/run", CancellationToken.None);
        var published = System.IO.Path.Combine(folder.Path, "out", "run");
        Assert.Equal(
            ["layers/000001.bin"],
            Directory.GetFiles(published, "*", SearchOption.AllDirectories).Select(f => System.IO.Path.GetRelativePath(published, f))
        );
        Assert.Null(await store.FindAsync(Path, CancellationToken.None));
        folder.Write("work/run/events/retrained.json", "{}"u8.ToArray());
        Assert.Equal("{}"u8.ToArray(), await store.ReadBytesAsync("work/run/events/retrained.json", 10, CancellationToken.None));
    }

    private static ChecksummedStore Store(Folder folder) =>
        new(
            new FolderStore(
                new Dictionary<string, string>
                {
                    ["work"] = System.IO.Path.Combine(folder.Path, "work"),
                    ["out"] = System.IO.Path.Combine(folder.Path, "out"),
                }
            )
        );

    private static string File(Folder folder, string name) => System.IO.Path.Combine(folder.Path, "work", "run", name);

    private static async Task<List<string>> ListAsync(ChecksummedStore store)
    {
        var found = new List<string>();
        await foreach (var a in store.ListAsync("work/run/attempt-0/layers/", CancellationToken.None))
            found.Add(a.Path);
        return found;
    }
}
