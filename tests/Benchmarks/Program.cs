using BenchmarkDotNet.Running;
using Serverless.Benchmarks;

switch (args)
{
    case ["train-digits", var package, var output]:
        TrainDigits.Run(package, output);
        return 0;
    case ["train-lenet", var output, .. var rest]:
        return TrainLeNet.Run(output, Number(rest, 0, 10), Number(rest, 1, 2000));
    case ["data", var folder]:
        return SampleData.Run(folder);
    case ["quantization", var recogniser, .. var steps]:
        return await QuantizationTable.RunAsync(recogniser, steps);
    case ["pruning", var recogniser, var detector, .. var rest]:
        return await PruningTable.RunAsync(recogniser, detector, rest);
    case ["pruned-quantized", var recogniser, var detector, .. var rest]:
        return await PrunedAndQuantizedTable.RunAsync(recogniser, detector, rest);
    case ["shrink", var recogniser, var detector, .. var rest]:
        return await ShrinkTable.RunAsync(recogniser, detector, rest);
    case ["smaller", var recogniser, var detector, .. var rest]:
        return await SmallerTable.RunAsync(recogniser, detector, rest);
    case ["sparse-forms"]:
        return SparseFormTable.Run();
    case ["blocks", var recogniser]:
        return await BlockTable.RunAsync(recogniser);
    case ["static", var detector, var classifier, .. var steps]:
        return await StaticTable.RunAsync(detector, classifier, steps);
    case ["integers", var method]:
        return await IntegerPay.RunAsync(method);
    case ["mixed", .. var models]:
        return await MixedTable.RunAsync(models);
    case ["gptq", var n]:
        return GptqCost.Run(int.Parse(n, System.Globalization.CultureInfo.InvariantCulture));
    case ["low-rank", var n, var rank]:
        return LowRankCost.Run(Number([n], 0, 0), Number([rank], 0, 0));
    case ["kills", var drop, .. var rest]:
        return await Kills.RunAsync(drop, Number(rest, 0, 40), Number(rest, 1, 1));
    case ["scaling", .. var only]:
        return await Scaling.RunAsync(only);
    case ["mutants", .. var rest]:
        return await Mutants.RunAsync(rest);
    case ["speed", .. var rest]:
        return await SpeedTable.RunAsync(rest);
    case ["large", .. var rest]:
        return await LargeModel.RunAsync(rest);
    default:
        BenchmarkSwitcher.FromAssembly(typeof(TrainDigits).Assembly).Run(args);
        return 0;
}

static int Number(string[] args, int at, int otherwise) =>
    args.Length > at ? int.Parse(args[at], System.Globalization.CultureInfo.InvariantCulture) : otherwise;
