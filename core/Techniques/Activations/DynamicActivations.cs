namespace Serverless.Core.Techniques.Activations;

/// <summary>uint8 activations whose range is taken from each input as it comes (ONNX Runtime ContribOperators.md).</summary>
public sealed class DynamicActivations : ActivationTechnique
{
    /// <inheritdoc/>
    public override string Method => "dynamic";

    /// <inheritdoc/>
    public override string About => "Activations rounded to 8 bits as they come (ONNX Runtime, dynamic quantization).";

    /// <inheritdoc/>
    protected override Task<Lowering?> LowerAsync(LoweringWork work, NoOptions options, CancellationToken cancellation) =>
        Task.FromResult<Lowering?>(new DynamicGraph(work.Edit));
}
