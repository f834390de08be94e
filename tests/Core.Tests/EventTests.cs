using System.Text;
using System.Text.Json;
using Serverless.Core.Events;
using Serverless.Core.Runs;
using Serverless.Core.Storage;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.Core.Tests;

/// <summary>Hooks and events that come in.</summary>
public class EventTests
{
    private const string Secret = "0123456789abcdef0123456789abcdef";

    [Fact]
    public void The_signature_is_that_of_the_test_vector()
    {
        // printf '1700000000.{"model":"retrained/m.onnx"}' | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef
        var body = """{"model":"retrained/m.onnx"}"""u8.ToArray();
        Assert.Equal(
            "v1=894df4553c9f752d31c7d2396bdb74fc9ad4e76a17a315dff88f76a55c531656",
            WebhookSignature.Sign(Secret, 1700000000, body)
        );
        Assert.Null(
            WebhookSignature.WhyRefused(
                Secret,
                "1700000000",
                WebhookSignature.Sign(Secret, 1700000000, body),
                body,
                DateTimeOffset.FromUnixTimeSeconds(1700000299)
            )
        );
    }

    [Theory]
    [InlineData("another secret, thirty-two or more", 0, "wrong")]
    [InlineData(Secret, -301, "too old")]
    [InlineData(Secret, 301, "too new")]
    [InlineData("short", 0, "secret")]
    public void A_wrong_key_and_an_old_timestamp_are_refused(string signer, int seconds, string why)
    {
        var now = DateTimeOffset.FromUnixTimeSeconds(1700000000);
        var at = now.ToUnixTimeSeconds() + seconds;
        var signature = WebhookSignature.Sign(signer, at, "{}"u8);
        Assert.Contains(why, WebhookSignature.WhyRefused(signer == "short" ? signer : Secret, $"{at}", signature, "{}"u8, now));
    }

    [Theory]
    [InlineData(null, "v1=00")]
    [InlineData("1700000000", null)]
    [InlineData("-1", "v1=00")]
    [InlineData("1700000000", "v2=00")]
    public void Headers_that_are_missing_or_odd_are_refused(string? timestamp, string? signature) =>
        Assert.NotNull(WebhookSignature.WhyRefused(Secret, timestamp, signature, "{}"u8, DateTimeOffset.FromUnixTimeSeconds(1700000000)));

    [Fact]
    public async Task A_hook_is_taken_once_and_starts_the_model_with_its_predecessors_recipe()
    {
        using var folder = new Folder();
        var store = new FolderStore(
            new[] { "drop", "retrained", "work", "compressed" }.ToDictionary(c => c, c => Path.Combine(folder.Path, c))
        );
        folder.Write("retrained/m.onnx", [1, 2, 3]);
        var recipe = folder.Write("compressed/m/m-0123456789ab/recipe.yaml", "version: 1\npreset: int4\n"u8.ToArray());
        var now = DateTimeOffset.UtcNow;
        var body = """{"model": "retrained/m.onnx", "predecessor": "m-0123456789ab"}"""u8.ToArray();
        var signature = WebhookSignature.Sign(Secret, now.ToUnixTimeSeconds(), body);
        var decision = await Intake.OfHookAsync(store, Secret, $"{now.ToUnixTimeSeconds()}", signature, body, now, default);
        Assert.Equal(("retrained/m.onnx", "compressed/m/m-0123456789ab"), (decision.Start!.Model, decision.Start.Predecessor));
        Assert.Equal("acted", await decision.CarryOutAsync(store, _ => Task.FromResult("acted"), default));
        Assert.Contains(
            "already",
            (
                await Assert.ThrowsAsync<UnauthorizedAccessException>(() =>
                    Intake.OfHookAsync(store, Secret, $"{now.ToUnixTimeSeconds()}", signature, body, now, default)
                )
            ).Message
        );
        // Another recipe is another run.
        File.WriteAllText(recipe, "version: 1\npreset: int8\n#\n");
        Assert.NotEqual(
            decision.Start.RunId,
            (await DropRequest.OfAsync(store, "retrained/m.onnx", "compressed/m/m-0123456789ab", default))!.RunId
        );
        var waiting = await HookAsync("""{"model": "retrained/m.onnx", "run": "m-0123456789ab"}""");
        Assert.Equal(("m-0123456789ab", "retrained"), (waiting.Raise!.RunId, waiting.Raise.Name));
        foreach (
            var wrong in new[]
            {
                """{"model": "drop/m.onnx"}""",
                """{"model": "retrained/../drop/m.onnx"}""",
                """{"model": "retrained/none.onnx"}""",
                "[]",
                "null",
                """{"model": "retrained/m.onnx", "predecessor": "../../x"}""",
                """{"model": "retrained/m.onnx", "predecessor": "m-000000000000"}""",
            }
        )
            await Assert.ThrowsAsync<BadInputException>(() => HookAsync(wrong));

        Task<IntakeDecision> HookAsync(string json) =>
            Intake.OfHookAsync(
                store,
                Secret,
                $"{now.ToUnixTimeSeconds()}",
                WebhookSignature.Sign(Secret, now.ToUnixTimeSeconds(), Encoding.UTF8.GetBytes(json)),
                Encoding.UTF8.GetBytes(json),
                now,
                default
            );
    }

    [Fact]
    public async Task Events_of_Event_Grid_say_what_was_dropped_or_registered()
    {
        using var folder = new Folder();
        var store = new FolderStore(
            new[] { "drop", "retrained", "work", "compressed" }.ToDictionary(c => c, c => Path.Combine(folder.Path, c))
        );
        folder.Write("drop/single.onnx", [1]);
        folder.Write("drop/many/a.onnx", [1]);
        folder.Write("drop/many/weights.bin", [1]);
        folder.Write("drop/many/student.onnx", [1]);
        folder.Write("retrained/r.onnx", [1]);
        var single = await Intake.OfEventAsync(store, Blob("drop", "single.onnx"), default);
        Assert.Equal("drop/single.onnx", single.Start!.Model);
        Assert.StartsWith("single-", single.Start.RunId);
        // Any file of a folder means the folder; the same state is the same run, however it is told.
        var ids = new[]
        {
            Blob("drop", "many/a.onnx"),
            Blob("drop", "many/weights.bin"),
            CloudBlob("drop", "many/weights.bin"),
            $"[{Blob("drop", "many/a.onnx")}]",
        }
            .Select(e => Intake.OfEventAsync(store, e, default).Result.Start!.RunId)
            .ToList();
        Assert.Single(ids.Distinct());
        folder.Write("drop/many/recipe.yaml", [1]);
        Assert.NotEqual(ids[0], (await Intake.OfEventAsync(store, Blob("drop", "many/a.onnx"), default)).Start!.RunId);
        Assert.Equal(IntakeDecision.Nothing, await Intake.OfEventAsync(store, Blob("drop", "nothing/here.bin"), default));
        Assert.Equal(IntakeDecision.Nothing, await Intake.OfEventAsync(store, Blob("compressed", "single/x/model.onnx"), default));
        Assert.Equal(
            IntakeDecision.Nothing,
            await Intake.OfEventAsync(store, """{"type": "Microsoft.Storage.BlobDeleted", "subject": "x"}""", default)
        );
        var registered =
            """{"eventType": "Microsoft.MachineLearningServices.ModelRegistered", "subject": "models/m:2", "data": {"modelName": "m", "modelVersion": "2", "modelTags": {"serverless-model": "retrained/r.onnx"}, "modelProperties": {}}}""";
        Assert.Equal("retrained/r.onnx", (await Intake.OfEventAsync(store, registered, default)).Start!.Model);
        Assert.Equal(
            IntakeDecision.Nothing,
            await Intake.OfEventAsync(store, registered.Replace("serverless-model", "other", StringComparison.Ordinal), default)
        );
        var ours =
            """{"specversion": "1.0", "type": "serverless.model.retrained", "source": "/x", "id": "1", "data": {"model": "retrained/r.onnx", "run": "r-1"}}""";
        Assert.Equal("r-1", (await Intake.OfEventAsync(store, ours, default)).Raise!.RunId);
        foreach (
            var wrong in new[]
            {
                "",
                "{",
                "3",
                "[]",
                "[null]",
                """{"type": "serverless.model.retrained", "time": "never", "data": {"model": "retrained/r.onnx"}}""",
                """{"type": "serverless.model.retrained", "data": 3}""",
                """{"type": "serverless.model.retrained", "data_base64": "%"}""",
                """{"type": "Microsoft.Storage.BlobCreated"}""",
                """{"type": "serverless.model.retrained", "data": {}}""",
                """{"type": "serverless.model.retrained", "data": {"model": "drop/x"}}""",
            }
        )
            await Assert.ThrowsAsync<BadInputException>(() => Intake.OfEventAsync(store, wrong, default));

        static string Blob(string container, string blob) =>
            JsonSerializer.Serialize(
                new
                {
                    eventType = "Microsoft.Storage.BlobCreated",
                    subject = $"/blobServices/default/containers/{container}/blobs/{blob}",
                    data = new { eTag = "0x1" },
                }
            );
        static string CloudBlob(string container, string blob) =>
            JsonSerializer.Serialize(
                new
                {
                    specversion = "1.0",
                    type = "Microsoft.Storage.BlobCreated",
                    subject = $"/blobServices/default/containers/{container}/blobs/{blob}",
                }
            );
    }

    [Fact]
    public async Task A_hook_that_failed_may_come_again_as_it_is_and_is_carried_out_once()
    {
        using var folder = new Folder();
        var store = new FolderStore(
            new[] { "drop", "retrained", "work", "compressed" }.ToDictionary(c => c, c => Path.Combine(folder.Path, c))
        );
        var now = DateTimeOffset.UtcNow;
        var body = """{"model": "retrained/m.onnx", "run": "m-0123456789ab"}"""u8.ToArray();
        // The model is not there yet: refused, and with the very same request taken once it is.
        await Assert.ThrowsAsync<BadInputException>(() => DecideAsync());
        folder.Write("retrained/m.onnx", [1, 2, 3]);
        var failing = await DecideAsync();
        await Assert.ThrowsAsync<IOException>(() =>
            failing.CarryOutAsync<string>(store, _ => throw new IOException("the engine is away"), default)
        );
        var again = await DecideAsync();
        // Two at the same moment: both raise the event, and the run takes it once.
        var atOnce = await DecideAsync();
        var run = new TakenRequests();
        var raised = new List<string>();
        foreach (var decision in new[] { again, atOnce })
            await decision.CarryOutAsync(
                store,
                _ =>
                {
                    raised.Add(decision.Raise!.Payload);
                    return Task.FromResult(true);
                },
                default
            );
        Assert.Equal([true, false], raised.Select(run.Take));
        Assert.Equal("retrained/m.onnx", RetrainedModel.Read(raised[0]));
        Assert.Contains("already", (await Assert.ThrowsAsync<UnauthorizedAccessException>(() => DecideAsync())).Message);
        // Signed anew it is another request, and events without an id are all taken.
        Assert.True(run.Take((await DecideAsync(1)).Raise!.Payload));
        Assert.All(new[] { "{}", "{}", "", "[]", """{"request": 1}""", """{"request": "\ud800"}""" }, p => Assert.True(run.Take(p)));

        Task<IntakeDecision> DecideAsync(int later = 0) =>
            Intake.OfHookAsync(
                store,
                Secret,
                $"{now.ToUnixTimeSeconds() + later}",
                WebhookSignature.Sign(Secret, now.ToUnixTimeSeconds() + later, body),
                body,
                now,
                default
            );
    }

    [Fact]
    public async Task A_model_where_no_drop_can_be_is_said_once_and_written_down()
    {
        using var folder = new Folder();
        var store = new FolderStore(new[] { "drop", "work", "failed" }.ToDictionary(c => c, c => Path.Combine(folder.Path, c)));
        folder.Write("drop/deep/a/b/m.onnx", [1]);
        folder.Write("drop/two/a.onnx", [1]);
        folder.Write("drop/two/b.onnx", [1]);
        folder.Write("drop/coming/weights.bin", [1]);
        folder.Write("drop/fine/x.onnx", [1]);
        folder.Write("drop/fine/parts/y.onnx", [1]);
        var deep = await Assert.ThrowsAsync<BadInputException>(() => Intake.OfEventAsync(store, Event("deep/a/b/m.onnx"), default));
        Assert.Equal(
            "drop/deep/a/b/m.onnx: the model lies too deep to be a drop; put it at drop/m.onnx or drop/deep/m.onnx, with the files that it names beside it.",
            deep.Message
        );
        var two = await Assert.ThrowsAsync<BadInputException>(() => Intake.OfEventAsync(store, Event("two/b.onnx"), default));
        Assert.StartsWith("drop/two: the folder holds 2 .onnx files (a.onnx, b.onnx)", two.Message);
        await Assert.ThrowsAsync<BadInputException>(() => Intake.OfEventAsync(store, Event("two/b.onnx"), default));
        var errors = Directory
            .GetFiles(Path.Combine(folder.Path, "failed"), "error.json", SearchOption.AllDirectories)
            .Order(StringComparer.Ordinal)
            .ToList();
        Assert.Equal(2, errors.Count);
        Assert.Contains("/failed/deep/deep-", errors[0]);
        Assert.Equal(deep.Message, JsonDocument.Parse(File.ReadAllBytes(errors[0])).RootElement.GetProperty("error").GetString());
        Assert.Equal(IntakeDecision.Nothing, await Intake.OfEventAsync(store, Event("coming/weights.bin"), default));
        Assert.NotNull((await Intake.OfEventAsync(store, Event("fine/parts/y.onnx"), default)).Start);
        var listing = await StoredDrop.ListAsync(store, "drop", default);
        Assert.Equal(["drop/fine/x.onnx"], listing.Drops.Select(d => d.Model));
        Assert.Equal(["drop/deep", "drop/two"], listing.Misplaced.Select(m => m.Root));

        static string Event(string blob) =>
            JsonSerializer.Serialize(
                new { type = "Microsoft.Storage.BlobCreated", subject = $"/blobServices/default/containers/drop/blobs/{blob}" }
            );
    }
}
