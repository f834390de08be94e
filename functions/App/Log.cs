using Microsoft.Extensions.Logging;

namespace Serverless.App;

internal static partial class Log
{
    [LoggerMessage(LogLevel.Information, "{RunId}: {Line}")]
    public static partial void Said(this ILogger logger, string runId, string line);

    [LoggerMessage(LogLevel.Information, "An event concerns the run {RunId}.")]
    public static partial void Concerns(this ILogger logger, string runId);

    [LoggerMessage(LogLevel.Warning, "An event was passed over: {Why}")]
    public static partial void PassedOver(this ILogger logger, string why);
}
