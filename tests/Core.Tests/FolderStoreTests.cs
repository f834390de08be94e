using System.Diagnostics;
using System.Net.Sockets;
using Serverless.Core.Storage;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Core.Tests;

/// <summary>What a store of folders reads: regular files that lie in it, under whatever name.</summary>
public class FolderStoreTests
{
    [Fact]
    public async Task A_link_that_leads_out_is_refused_alike_whatever_it_leads_to()
    {
        using var folder = new Folder();
        var secret = folder.Write("outside/secret.bin", new byte[5000]);
        Directory.CreateDirectory(Path.Combine(folder.Path, "drop", "sub"));
        var targets = new Dictionary<string, string>
        {
            ["there"] = secret,
            ["absent"] = "/nowhere/at/all",
            ["relative"] = "../outside/secret.bin",
            ["folder"] = Path.Combine(folder.Path, "outside"),
            ["above"] = "sub/../../outside/secret.bin",
            ["device"] = "/dev/zero",
            ["m.onnx"] = secret,
            ["chain"] = "there",
        };
        foreach (var (name, target) in targets)
            File.CreateSymbolicLink(Path.Combine(folder.Path, "drop", name), target);
        var store = Store(folder);
        foreach (var name in targets.Keys.Append("folder/secret.bin"))
        {
            var messages = new[]
            {
                (await Assert.ThrowsAsync<BadInputException>(() => store.FindAsync($"drop/{name}", default))).Message,
                (await Assert.ThrowsAsync<BadInputException>(() => store.OpenAsync($"drop/{name}", null, default))).Message,
            };
            Assert.All(messages, m => Assert.Equal($"drop/{name}: a link leads out of the drop; copy the data into it.", m));
        }
        Assert.Empty(await store.ListAsync("drop/", default).ToListAsync());
    }

    [Fact]
    public async Task Links_inside_are_followed_and_circles_are_told_of()
    {
        using var folder = new Folder();
        folder.Write("drop/sub/data.bin", new byte[7]);
        foreach (
            var (name, target) in new[]
            {
                ("inside", "sub/data.bin"),
                ("absolute", Path.Combine(folder.Path, "drop", "sub", "data.bin")),
                ("dots", "./sub/../sub/data.bin"),
                ("gone", "sub/none"),
                ("round", "about"),
                ("about", "round"),
                ("self", "."),
            }
        )
            File.CreateSymbolicLink(Path.Combine(folder.Path, "drop", name), target);
        var store = Store(folder);
        foreach (var name in new[] { "inside", "absolute", "dots", "self/self/inside" })
        {
            Assert.Equal(7, (await store.FindAsync($"drop/{name}", default))!.Length);
            await using var reader = await store.OpenAsync($"drop/{name}", null, default);
        }
        Assert.Null(await store.FindAsync("drop/gone", default));
        Assert.Contains(
            "round in a circle",
            (await Assert.ThrowsAsync<BadInputException>(() => store.FindAsync("drop/round", default))).Message
        );
        Assert.Equal(
            ["absolute", "dots", "inside", "sub/data.bin"],
            (await store.ListAsync("drop/", default).ToListAsync()).Select(a => a.Path[5..])
        );
    }

    [Fact]
    public async Task Only_what_the_user_named_himself_may_lead_out()
    {
        using var folder = new Folder();
        var outside = folder.Write("outside/blob", new byte[3]);
        Directory.CreateDirectory(Path.Combine(folder.Path, "drop"));
        foreach (var name in new[] { "named.onnx", "other.onnx" })
            File.CreateSymbolicLink(Path.Combine(folder.Path, "drop", name), outside);
        var spec = new StoreSpec(new Dictionary<string, string> { ["drop"] = Path.Combine(folder.Path, "drop") })
        {
            Followed = ["drop/named.onnx"],
        };
        var store = System
            .Text.Json.JsonSerializer.Deserialize<StoreSpec>(System.Text.Json.JsonSerializer.Serialize(spec, Json.Options), Json.Options)!
            .With(("work", folder.Path))
            .Open();
        await using (var reader = await store.OpenAsync("drop/named.onnx", null, default))
            Assert.Equal(3, reader.Artifact.Length);
        await Assert.ThrowsAsync<BadInputException>(() => store.OpenAsync("drop/other.onnx", null, default));
    }

    [Fact]
    public async Task Pipes_sockets_and_devices_are_never_opened()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Needs mkfifo.");
        using var folder = new Folder();
        folder.Write("drop/m.onnx", new byte[3]);
        using (var make = Process.Start("mkfifo", [Path.Combine(folder.Path, "drop", "pipe")]))
            await make.WaitForExitAsync();
        using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        socket.Bind(new UnixDomainSocketEndPoint(Path.Combine(folder.Path, "drop", "sock")));
        var store = new FolderStore(new Dictionary<string, string> { ["drop"] = Path.Combine(folder.Path, "drop"), ["dev"] = "/dev" });
        foreach (var path in new[] { "drop/pipe", "drop/sock", "dev/zero" })
        {
            var opening = store.OpenAsync(path, null, default);
            Assert.Same(opening, await Task.WhenAny(opening, Task.Delay(TimeSpan.FromSeconds(20))));
            Assert.Contains("only regular files", (await Assert.ThrowsAsync<BadInputException>(() => opening)).Message);
        }
        Assert.Equal(["drop/m.onnx"], (await store.ListAsync("drop/", default).ToListAsync()).Select(a => a.Path));
    }

    [Fact]
    public async Task A_name_of_255_bytes_can_be_written()
    {
        using var folder = new Folder();
        foreach (var name in new[] { new string('x', 255), string.Concat(Enumerable.Repeat("模", 85)) })
        {
            await Store(folder).WriteBytesAsync($"drop/{name}", new byte[3], default);
            Assert.Equal(3, (await Store(folder).FindAsync($"drop/{name}", default))!.Length);
        }
    }

    [Fact]
    public async Task Another_file_of_the_same_length_and_time_is_another_version()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Needs statx(2).");
        using var folder = new Folder();
        var (file, time) = (folder.Write("drop/m.onnx", [1, 2, 3]), new DateTime(1985, 10, 26, 8, 15, 0, DateTimeKind.Utc));
        File.SetLastWriteTimeUtc(file, time);
        var before = await Store(folder).FindAsync("drop/m.onnx", default);
        Assert.Equal(before, await Store(folder).FindAsync("drop/m.onnx", default));
        File.WriteAllBytes(file, [4, 5, 6]);
        File.SetLastWriteTimeUtc(file, time);
        Assert.NotEqual(before, await Store(folder).FindAsync("drop/m.onnx", default));
    }

    [Fact]
    public async Task A_folder_in_the_place_of_an_object_of_the_work_gives_way()
    {
        using var folder = new Folder();
        folder.Write("work/r/plan.json/x", [1]);
        var store = new FolderStore(new Dictionary<string, string> { ["work"] = Path.Combine(folder.Path, "work") });
        Assert.Null(await store.FindAsync("work/r/plan.json", default));
        await store.WriteBytesAsync("work/r/plan.json", new byte[3], default);
        Assert.Equal(3, (await store.FindAsync("work/r/plan.json", default))!.Length);
    }

    private static FolderStore Store(Folder folder) => new(new Dictionary<string, string> { ["drop"] = Path.Combine(folder.Path, "drop") });
}
