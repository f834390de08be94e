using Xunit.Sdk;
using Xunit.v3;

// Tests of one class run beside each other too: the longest classes would end alone.
[assembly: Parallelization(Mode = ParallelMode.All)]
