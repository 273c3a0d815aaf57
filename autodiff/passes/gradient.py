"""The pass that turns a function with one real output into its value and gradient."""

from __future__ import annotations

from dataclasses import dataclass

from autodiff.ir.builder import Trace, replay
from autodiff.ir.graph import Graph
from autodiff.passes.linearize import linearize
from autodiff.passes.memo import remembered
from autodiff.passes.transpose import transpose


@dataclass(frozen=True, slots=True)
class GradientGraph:
    """`graph` maps inputs to (outputs, gradients not zero); `nonzero`: one flag per input."""

    graph: Graph
    nonzero: tuple[bool, ...]


@remembered(graphs_of=lambda result: (result.graph,))
def gradient(graph: Graph, wanted: tuple[bool, ...]) -> GradientGraph:
    """Join a function and its reverse sweep: `a -> (b, aux)` becomes `a -> (b, aux, ct a)`.

    The first output is 0-d and its cotangent 1; further outputs are carried along without one.
    `wanted` marks the inputs whose gradient is asked for. For `b = sum(a * a)` the result computes
    b and `ct a = 2 a`.

    Source: Griewank and Walther, "Evaluating Derivatives", 2nd ed. 2008, section 3.2.
    """
    split = linearize(graph, wanted)
    live = tuple(i == 0 for i, flag in enumerate(split.nonzero_outputs) if flag)
    linear = tuple(i >= len(split.forwarded) for i in range(len(split.linear.inputs)))
    transposed = transpose(split.linear, linear, live)
    trace = Trace("gradient", inline_arrays=True)
    inputs = [trace.input(aval) for aval in graph.input_types]
    results = replay(split.primal, (), inputs)
    outs = results[: split.output_count]
    residuals = split.gather_residuals(results[split.output_count :], inputs)
    seeds = [graph.outputs[0].aval.dtype.type(1)] if any(live) else []
    cts = replay(transposed.graph, (), [*residuals, *seeds])
    joined, constants = trace.finish([*outs, *cts])
    assert not constants
    flags = iter(transposed.nonzero[len(split.forwarded) :])
    nonzero = tuple(flag and next(flags) for flag in wanted)
    return GradientGraph(joined, nonzero)
