using Microsoft.DurableTask.Client;
using Xunit;

namespace Serverless.App.Tests;

/// <summary>The sentence of a failed run, in each shape that an engine has for it.</summary>
public class RunFailureTests
{
    private const string Sentence = "drop/m.onnx: not a whole ONNX model; copy it again.";

    [Theory]
    [InlineData(Sentence)]
    [InlineData("\"" + Sentence + "\"")]
    [InlineData("Orchestrator function 'DropRun' failed: " + Sentence)]
    [InlineData("Orchestrator function 'DropRun' failed: Serverless.Core.BadInputException: " + Sentence + "\n   at X.Y()")]
    [InlineData(
        """{"ErrorType":"A","ErrorMessage":"outer","InnerFailure":{"ErrorType":"B","ErrorMessage":"drop/m.onnx: not a whole ONNX model; copy it again.","InnerFailure":null}}"""
    )]
    public void It_is_found_in_the_output(string output)
    {
        Assert.Equal(Sentence, RunFailure.Of(output));
        Assert.Equal(
            Sentence,
            RunFailure.Of(
                new OrchestrationMetadata("DropRun", "r") { RuntimeStatus = OrchestrationRuntimeStatus.Failed, SerializedOutput = output }
            )
        );
    }

    [Fact]
    public void A_run_that_is_not_failed_has_none_and_a_failed_one_always_has_one()
    {
        Assert.Null(
            RunFailure.Of(
                new OrchestrationMetadata("DropRun", "r") { RuntimeStatus = OrchestrationRuntimeStatus.Completed, SerializedOutput = "{}" }
            )
        );
        Assert.NotEmpty(RunFailure.Of(new OrchestrationMetadata("DropRun", "r") { RuntimeStatus = OrchestrationRuntimeStatus.Failed })!);
        Assert.Equal(
            "cancelled",
            RunFailure.Of(
                new OrchestrationMetadata("DropRun", "r")
                {
                    RuntimeStatus = OrchestrationRuntimeStatus.Terminated,
                    SerializedOutput = "\"cancelled\"",
                }
            )
        );
    }
}
