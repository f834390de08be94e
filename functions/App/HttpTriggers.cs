using System.Net;
using System.Text.Json;
using Microsoft.Azure.Functions.Worker;
using Microsoft.Azure.Functions.Worker.Http;
using Microsoft.DurableTask.Client;
using Serverless.Core;
using Serverless.Core.Events;
using Serverless.Core.Runs;
using Serverless.Core.Storage;

namespace Serverless.App;

/// <summary>Runs over HTTP: start, status, report, cancel; and the hook for retrained models.</summary>
public sealed class HttpTriggers(AppHost host)
{
    private const int LargestBody = 64 << 10;
    private const string RetrySeconds = "10";

    /// <summary>
    /// <c>POST /api/runs</c> with <c>{"model": "drop/NAME.onnx"}</c> starts the drop there, unless it runs or ran already; one that failed
    /// or was cancelled starts again.
    /// </summary>
    [Function("StartRun")]
    public Task<HttpResponseData> StartAsync(
        [HttpTrigger(AuthorizationLevel.Function, "post", Route = "runs")] HttpRequestData request,
        [DurableClient] DurableTaskClient client,
        CancellationToken cancellation
    ) =>
        AnswerAsync(
            request,
            async () =>
            {
                var body = await BodyAsync(request, cancellation);
                if (
                    Read<StartBody>(body)?.Model is not { } model
                    || !model.StartsWith(StoredDrop.Container + "/", StringComparison.Ordinal)
                )
                    throw new BadInputException("the body is not {\"model\": \"drop/…\"}.");
                var store = host.Context.Store;
                var drop =
                    await DropRequest.OfAsync(store, model, null, cancellation)
                    ?? throw await Intake.NoDropAsync(store, model, cancellation);
                return await StartedAsync(request, await Runs.StartAgainAsync(client, store, drop, cancellation), cancellation);
            },
            cancellation
        );

    /// <summary><c>GET /api/runs/{id}</c>: how far it is, layer by layer, and how it ended.</summary>
    [Function("RunStatus")]
    public static Task<HttpResponseData> StatusAsync(
        [HttpTrigger(AuthorizationLevel.Function, "get", Route = "runs/{id}")] HttpRequestData request,
        string id,
        [DurableClient] DurableTaskClient client,
        CancellationToken cancellation
    ) =>
        AnswerAsync(
            request,
            async () =>
                await Runs.FindAsync(client, id, cancellation) is { } run
                    ? await JsonAsync(request, HttpStatusCode.OK, run, cancellation)
                    : await NotFoundAsync(request, NoRun(id), cancellation),
            cancellation
        );

    /// <summary><c>GET /api/runs/{id}/report</c>: <c>report.json</c>.</summary>
    [Function("RunReport")]
    public Task<HttpResponseData> ReportAsync(
        [HttpTrigger(AuthorizationLevel.Function, "get", Route = "runs/{id}/report")] HttpRequestData request,
        string id,
        CancellationToken cancellation
    ) =>
        AnswerAsync(
            request,
            async () =>
            {
                var (store, path) = (host.Context.Store, $"{RunPaths.Output(id)}/report.json");
                if (StorePath.WhyUnsafe(path) is not null || await store.FindAsync(path, cancellation) is null)
                    return await NotFoundAsync(request, $"{id}: there is no report; the run is not done, or there is none.", cancellation);
                var response = request.CreateResponse(HttpStatusCode.OK);
                response.Headers.Add("Content-Type", "application/json; charset=utf-8");
                await response.WriteBytesAsync(await store.ReadBytesAsync(path, 64 << 20, cancellation), cancellation);
                return response;
            },
            cancellation
        );

    /// <summary><c>DELETE /api/runs/{id}</c> cancels a run with its parts and activities, and clears its work.</summary>
    [Function("Cancel")]
    public Task<HttpResponseData> CancelAsync(
        [HttpTrigger(AuthorizationLevel.Function, "delete", Route = "runs/{id}")] HttpRequestData request,
        string id,
        [DurableClient] DurableTaskClient client,
        CancellationToken cancellation
    ) =>
        AnswerAsync(
            request,
            async () =>
            {
                if (await client.GetInstanceAsync(id, cancellation) is null)
                    return await NotFoundAsync(request, NoRun(id), cancellation);
                await Runs.CancelAsync(client, host.Context.Store, id, cancellation);
                return request.CreateResponse(HttpStatusCode.Accepted);
            },
            cancellation
        );

    /// <summary>
    /// <c>POST /api/retrained</c>, signed (<see cref="WebhookSignature"/>): a <see cref="RetrainedModel"/> for a run that waits, or for a
    /// new
    /// one.
    /// </summary>
    [Function("Retrained")]
    public Task<HttpResponseData> RetrainedAsync(
        [HttpTrigger(AuthorizationLevel.Anonymous, "post", Route = "retrained")] HttpRequestData request,
        [DurableClient] DurableTaskClient client,
        CancellationToken cancellation
    ) =>
        AnswerAsync(
            request,
            async () =>
            {
                var body = await BodyAsync(request, cancellation);
                var (timestamp, signature) = (Header(WebhookSignature.TimestampHeader), Header(WebhookSignature.SignatureHeader));
                var decision = await Intake.OfHookAsync(
                    host.Context.Store,
                    host.HookSecret,
                    timestamp,
                    signature,
                    body,
                    DateTimeOffset.UtcNow,
                    cancellation
                );
                var run = await decision.CarryOutAsync(
                    host.Context.Store,
                    token => Runs.CarryOutAsync(client, decision, token),
                    cancellation
                );
                return await StartedAsync(request, run, cancellation);

                string? Header(string name) => request.Headers.TryGetValues(name, out var values) ? values.FirstOrDefault() : null;
            },
            cancellation
        );

    private static string NoRun(string id) => $"{id}: there is no such run.";

    private static async Task<HttpResponseData> AnswerAsync(
        HttpRequestData request,
        Func<Task<HttpResponseData>> answer,
        CancellationToken cancellation
    )
    {
        try
        {
            return await answer();
        }
        catch (BadInputException e)
        {
            return await ErrorAsync(request, HttpStatusCode.BadRequest, e.Message, cancellation);
        }
        catch (UnauthorizedAccessException e)
        {
            return await ErrorAsync(request, HttpStatusCode.Unauthorized, e.Message, cancellation);
        }
        catch (RunEndingException e)
        {
            return await LaterAsync(HttpStatusCode.Conflict, e);
        }
        catch (IOException e)
        {
            // The storage did not answer; the same request may be sent again, a signed one too.
            return await LaterAsync(HttpStatusCode.ServiceUnavailable, e);
        }

        async Task<HttpResponseData> LaterAsync(HttpStatusCode code, Exception e)
        {
            var response = await ErrorAsync(request, code, e.Message, cancellation);
            response.Headers.Add("Retry-After", RetrySeconds);
            return response;
        }
    }

    private static async Task<HttpResponseData> StartedAsync(HttpRequestData request, string? id, CancellationToken cancellation)
    {
        var url = new Uri(request.Url, $"/api/runs/{Uri.EscapeDataString(id!)}").ToString();
        var response = await JsonAsync(
            request,
            HttpStatusCode.Accepted,
            new
            {
                id,
                status = url,
                report = $"{url}/report",
            },
            cancellation
        );
        response.Headers.Add("Location", url);
        return response;
    }

    private static Task<HttpResponseData> NotFoundAsync(HttpRequestData request, string error, CancellationToken cancellation) =>
        ErrorAsync(request, HttpStatusCode.NotFound, error, cancellation);

    private static Task<HttpResponseData> ErrorAsync(
        HttpRequestData request,
        HttpStatusCode code,
        string error,
        CancellationToken cancellation
    ) => JsonAsync(request, code, new { error }, cancellation);

    private static async Task<HttpResponseData> JsonAsync<T>(
        HttpRequestData request,
        HttpStatusCode code,
        T value,
        CancellationToken cancellation
    )
    {
        var response = request.CreateResponse(code);
        response.Headers.Add("Content-Type", "application/json; charset=utf-8");
        await response.WriteBytesAsync(JsonSerializer.SerializeToUtf8Bytes(value, Json.Options), cancellation);
        return response;
    }

    private static async Task<ReadOnlyMemory<byte>> BodyAsync(HttpRequestData request, CancellationToken cancellation)
    {
        var body = new byte[LargestBody + 1];
        var length = await request.Body.ReadAtLeastAsync(body, body.Length, throwOnEndOfStream: false, cancellation);
        return length <= LargestBody
            ? body.AsMemory(0, length)
            : throw new BadInputException($"the body is longer than {LargestBody} bytes.");
    }

    private static T? Read<T>(ReadOnlyMemory<byte> body)
    {
        try
        {
            return JsonSerializer.Deserialize<T>(body.Span, Json.Options);
        }
        catch (JsonException e)
        {
            throw new BadInputException("the body is not JSON of the right shape.", e);
        }
    }

    private sealed record StartBody(string? Model);
}
