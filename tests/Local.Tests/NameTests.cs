using System.Diagnostics;
using System.Text.Json;
using Serverless.Core;
using Serverless.TestSupport;
using Xunit;
using static Serverless.TestSupport.TestModels;
using DataType = Serverless.Core.Model.Schema.TensorProto.Types.DataType;

namespace Serverless.Local.Tests;

/// <summary>Names out of a model, and of files, as the command line shows them.</summary>
public class NameTests
{
    private const string Hostile = "w\u001B[2J\u001B]0;owned\u0007\u202Egpj\u009B31m\u200B";

    [Fact]
    public async Task Terminal_escapes_in_names_reach_neither_terminal_nor_reports()
    {
        using var folder = new Folder();
        var model = OfOpset(17)
            .Input("x", DataType.Float, 1, 64)
            .With(Node("MatMul", ["x", Hostile], ["y"]), Node("MatMul", ["y", "second"], ["z"]))
            .Output("z")
            .Weight(Hostile, 64, 64)
            .Weight("second", 64, 64);
        model.ProducerName = "p\u001B[31m";
        folder.Write("\u202Em\u001B.onnx", model);
        var runs = new[]
        {
            await CommandLine.RunAsync(folder.Path, "inspect", "\u202Em.onnx"),
            await CommandLine.RunAsync(folder.Path, "inspect", Named("\u202En.onnx")),
            await CommandLine.RunAsync(folder.Path, "inspect", "\u202En.onnx", "--json"),
            await CommandLine.RunAsync(folder.Path, "compress", "\u202En.onnx", "--out", "out", "--verbose"),
            await CommandLine.RunAsync(folder.Path, "compress", "\u202En.onnx", "--wrong\u001B"),
        };
        Assert.Equal([2, 0, 0, 0, 2], runs.Select(r => r.ExitCode));
        Assert.All(runs, r => Assert.Equal("", Unsafe(r.Output + r.Error)));
        Assert.Contains("w\\u001B[2J", runs[1].Output);
        Assert.Contains("w\\u001B[2J", runs[3].Error);
        Assert.Equal("", Unsafe(File.ReadAllText(Path.Combine(folder.Path, "out", "report.html"))));
        Assert.Equal("", Unsafe(File.ReadAllText(Path.Combine(folder.Path, "out", "report.json"))));
        using var report = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder.Path, "out", "report.json")));
        Assert.Contains(report.RootElement.GetProperty("layers").EnumerateArray(), l => l.GetProperty("name").GetString() == Hostile);

        string Named(string name)
        {
            folder.Write(name, model);
            return name;
        }
    }

    [Fact]
    public async Task Long_names_of_wide_characters_are_compressed()
    {
        using var folder = new Folder();
        foreach (var name in new[] { string.Concat(Enumerable.Repeat("模", 83)), string.Concat(Enumerable.Repeat("😀", 60)) })
        {
            File.Copy(Path.Combine(RealModels.Digits, "digits.onnx"), Path.Combine(folder.Path, name + ".onnx"));
            var done = await CommandLine.RunAsync(folder.Path, "compress", name + ".onnx");
            Assert.True(done.ExitCode == 0, done.Error);
        }
        Assert.Equal(2, Directory.GetFiles(Path.Combine(folder.Path, "compressed"), "report.json", SearchOption.AllDirectories).Length);
    }

    [Fact]
    public async Task A_link_is_the_model_of_whoever_names_it()
    {
        using var folder = new Folder();
        var blob = folder.Write("cache/0a1b2c", File.ReadAllBytes(Path.Combine(RealModels.Digits, "digits.onnx")));
        Directory.CreateDirectory(Path.Combine(folder.Path, "snapshot"));
        File.CreateSymbolicLink(Path.Combine(folder.Path, "snapshot", "model.onnx"), "../cache/0a1b2c");
        File.CreateSymbolicLink(
            Path.Combine(folder.Path, "recipe.yaml"),
            folder.Write("cache/recipe", "version: 1\npreset: int4\n"u8.ToArray())
        );
        var done = await CommandLine.RunAsync(folder.Path, "compress", "snapshot", "--recipe", "recipe.yaml", "--out", "out");
        Assert.True(done.ExitCode == 0, done.Error);
        Assert.StartsWith("snapshot: ", done.Output);
        Assert.True(File.Exists(blob));
    }

    [Fact]
    public async Task Names_that_are_no_model_are_one_sentence()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Needs mkfifo.");
        using var folder = new Folder();
        using (var make = Process.Start("mkfifo", [Path.Combine(folder.Path, "pipe.onnx")]))
            await make.WaitForExitAsync();
        File.CreateSymbolicLink(Path.Combine(folder.Path, "loop.onnx"), "loop.onnx");
        foreach (
            var (path, why) in new[]
            {
                ("pipe.onnx", "only regular files"),
                ("loop.onnx", "round in a circle"),
                ("", "names nothing"),
                ("bad\uFFFD.onnx", "not UTF-8"),
                (new string('x', 300) + ".onnx", "too long"),
                ("/dev/null", "only regular files"),
            }
        )
            Assert.Contains(
                why,
                Assert
                    .Throws<BadInputException>(() =>
                        Drop.Of(path.Contains('/') || path.Length == 0 ? path : Path.Combine(folder.Path, path), null, null)
                    )
                    .Message
            );
        foreach (var named in new[] { "pipe.onnx", "loop.onnx", ".", "none" })
        {
            Assert.Throws<BadInputException>(() => Drop.Of(RealModels.Digits, Path.Combine(folder.Path, named), null));
            Assert.Throws<BadInputException>(() => Drop.Of(RealModels.Digits, null, Path.Combine(folder.Path, named)));
        }
    }

    [Theory]
    [InlineData(long.MaxValue)]
    [InlineData(long.MaxValue - 4096)]
    [InlineData(long.MaxValue - 4095)]
    public async Task Offsets_near_the_largest_number_are_one_sentence(long offset)
    {
        using var folder = new Folder();
        var model = OfOpset(17).Input("x", DataType.Float, 1, 32).With(Node("MatMul", ["x", "w"], ["y"])).Output("y").Weight("w", 32, 32);
        Core.Model.TensorRef.Point(model.Graph.Initializer[0], "w.bin", offset, 4096);
        folder.Write("m/m.onnx", model);
        folder.Write("m/w.bin", new byte[4096]);
        var done = await CommandLine.RunAsync(folder.Path, "compress", "m");
        Assert.Equal(2, done.ExitCode);
        Assert.Contains("lie past the end of 'w.bin' (4096 bytes)", done.Sentence);
        Assert.DoesNotContain("-", done.Sentence.Replace(folder.Path, ""));
    }

    // What must not be seen raw, in hexadecimal.
    private static string Unsafe(string text) =>
        string.Join(
            ' ',
            text.Where(c =>
                    (char.IsControl(c) && c is not ('\n' or '\t'))
                    || char.GetUnicodeCategory(c) == System.Globalization.UnicodeCategory.Format
                )
                .Select(c => $"{(int)c:X4}")
                .Distinct()
        );
}
