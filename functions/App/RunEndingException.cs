namespace Serverless.App;

/// <summary>A run was cancelled and has not ended yet.</summary>
public sealed class RunEndingException(string message) : Exception(message);
