using Serverless.Core.Runs;
using Xunit;

namespace Serverless.Local.Tests;

/// <summary>Progress where standard error is no terminal.</summary>
public class LineDisplayTests
{
    [Fact]
    public void Stages_are_lines_and_layers_a_summary_now_and_then()
    {
        var (lines, clock) = (new StringWriter(), new Clock());
        var display = new LineDisplay(lines, clock, verbose: false, "m: ");
        display.Show(Status("Plan", 0) with { Layer = null });
        for (var layer = 0; layer <= 25; layer++)
        {
            display.Show(Status("Compress", layer));
            clock.Now += TimeSpan.FromSeconds(1);
        }
        display.Say("a\u001B");
        Assert.Equal(
            [
                "m: Plan",
                "m: Compress",
                "m: Compress 10/100 layers, saved 5000 B, 2 min left",
                "m: Compress 20/100 layers, saved 10 kB, 80 s left",
                "m: a\\u001B",
            ],
            lines.ToString().Trim().Split(Environment.NewLine)
        );
    }

    [Fact]
    public void With_verbose_every_layer_is_a_line()
    {
        var lines = new StringWriter();
        var display = new LineDisplay(lines, new Clock(), verbose: true, "");
        display.Show(Status("Compress", 1));
        display.Show(Status("Compress", 1) with { Attempt = 2 });
        Assert.Equal(
            ["Compress", "[1/100] w\\u0007: 1000 B → 500 B, 8 bits, error 0.0100; saved 500 B, 0 s left", "Compress (attempt 2)"],
            lines.ToString().Trim().Split(Environment.NewLine)[..3]
        );
    }

    private static RunStatus Status(string stage, int done) =>
        new(stage, 1, done, 100, done * 1000, 100_000, done * 500, new CompressedLayer(0, "w\u0007", 1000, 500, 8, 0.01, 0, false, null));

    private sealed class Clock : TimeProvider
    {
        public TimeSpan Now { get; set; }

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override long GetTimestamp() => Now.Ticks;
    }
}
