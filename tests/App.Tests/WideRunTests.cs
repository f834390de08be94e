using System.Collections.Concurrent;
using Azure.Core;
using Azure.Core.Pipeline;
using Microsoft.DurableTask.Client;
using Microsoft.Extensions.Logging;
using Serverless.Core.Onnx.Schema;
using Serverless.Core.Pipeline;
using Serverless.Core.Storage;
using Serverless.Local;
using Serverless.TestSupport;
using Xunit;

namespace Serverless.App.Tests;

/// <summary>A model of 400 layers on the real Durable Task engine with a real Azurite: its bytes, its storage calls, its log lines.</summary>
public class WideRunTests(Azurite azurite, ITestOutputHelper output) : IClassFixture<Azurite>
{
    private const int Layers = 400;
    private static readonly CancellationToken None = CancellationToken.None;

    [Theory]
    [InlineData("version: 1\nsteps:\n- quantize: {bits: 8}\n", 4)]
    [InlineData("version: 1\nsteps:\n- quantize: {method: static}\n", 4)]
    public async Task It_has_the_bytes_of_the_local_host_in_few_storage_calls_and_log_lines(string recipe, double mostCalls)
    {
        using var folder = new Folder();
        var (calls, logs) = (new CountedCalls(), new CountedLogs());
        var store = azurite.Store(o => o.AddPolicy(calls, HttpPipelinePosition.PerRetry), new NetworkOptions { Logs = logs });
        await store.EnsureContainersAsync(["drop", "work", "compressed", "failed"], None);
        var model = folder.Write("wide/wide.onnx", Chain());
        var file = folder.Write("wide/recipe.yaml", System.Text.Encoding.UTF8.GetBytes(recipe));
        var name = $"wide-{Guid.NewGuid():N}"[..12];
        foreach (var path in new[] { model, file }) await store.WriteBytesAsync($"drop/{name}/{Path.GetFileName(path)}", await File.ReadAllBytesAsync(path), None);
        await using var engine = await DurableEngine.StartAsync(new AppHost(new ActivityContext(store, new MemoryGate(1L << 30)), null, ""));
        var drop = (await DropRequest.OfAsync(store, $"drop/{name}/wide.onnx", null, None))!;
        calls.Clear();
        await Runs.CarryOutAsync(engine.Client, new IntakeDecision(drop, null), None);
        var done = await engine.Client.WaitForInstanceCompletionAsync(drop.RunId, getInputsAndOutputs: true);
        Assert.True(done.RuntimeStatus == OrchestrationRuntimeStatus.Completed, done.FailureDetails?.ToString());
        output.WriteLine($"{(double)calls.Total / Layers:0.00} calls a layer\n{calls}");
        var local = Path.Combine(folder.Path, "local");
        await RunDrop.RunAsync(Drop.Of(Path.GetDirectoryName(model)!, file, null), new LocalOptions(local, folder.Path, null, 1L << 30, Isolated: false), _ => { }, _ => { }, None);
        Assert.Equal(await File.ReadAllBytesAsync(Path.Combine(local, "model.onnx")), await store.ReadBytesAsync($"compressed/{name}/{drop.RunId}/model.onnx", 1 << 26, None));
        Assert.True(calls.Total <= mostCalls * Layers, $"{calls.Total} calls");
        Assert.True(logs.Informed <= 2 * Layers, $"{logs.Informed} lines");
    }

    private static ModelProto Chain()
    {
        var model = TestModels.Model(17).Input("x0", TensorProto.Types.DataType.Float, 2, 64);
        for (var i = 0; i < Layers; i++) model.Weight($"w{i}", 64, 64).With(TestModels.Node("MatMul", [$"x{i}", $"w{i}"], [$"x{i + 1}"]));
        return model.Output($"x{Layers}");
    }

    private sealed class CountedCalls : HttpPipelinePolicy
    {
        private readonly ConcurrentDictionary<string, int> kinds = new(StringComparer.Ordinal);

        public int Total => kinds.Values.Sum();

        public void Clear() => kinds.Clear();

        public override string ToString() => string.Join('\n', kinds.OrderByDescending(k => k.Value).Select(k => $"{k.Value,6} {k.Key}"));

        public override void Process(HttpMessage message, ReadOnlyMemory<HttpPipelinePolicy> pipeline)
        {
            Count(message.Request);
            ProcessNext(message, pipeline);
        }

        public override ValueTask ProcessAsync(HttpMessage message, ReadOnlyMemory<HttpPipelinePolicy> pipeline)
        {
            Count(message.Request);
            return ProcessNextAsync(message, pipeline);
        }

        // Objects of a kind differ in numbers and hashes alone.
        private void Count(Request request)
        {
            var path = request.Uri.Path[(request.Uri.Path.IndexOf('/', 1) + 1)..];
            var kind = System.Text.RegularExpressions.Regex.Replace(Uri.UnescapeDataString(path), "[0-9a-f]{32}|[0-9]{3,}|[0-9a-f]{12}", "*");
            kinds.AddOrUpdate($"{request.Method} {kind}", 1, (_, n) => n + 1);
        }
    }

    private sealed class CountedLogs : ILoggerFactory, ILogger
    {
        private int informed;

        public int Informed => informed;

        public ILogger CreateLogger(string categoryName) => this;

        public void AddProvider(ILoggerProvider provider) => throw new NotSupportedException();

        public IDisposable? BeginScope<TState>(TState state) where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => logLevel >= LogLevel.Information;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            if (logLevel >= LogLevel.Information) Interlocked.Increment(ref informed);
        }

        public void Dispose() { }
    }
}
