using BenchmarkDotNet.Running;
using Serverless.Benchmarks;

switch (args)
{
    case ["train-digits", var package, var output]:
        TrainDigits.Run(package, output);
        return 0;
    case ["large", .. var rest]:
        return await LargeModel.RunAsync(rest);
    default:
        BenchmarkSwitcher.FromAssembly(typeof(TrainDigits).Assembly).Run(args);
        return 0;
}
