"""This library, on functions written with plain NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import autodiff as ad
from autodiff.api.trace import Traced, trace_function
from autodiff.ir.avals import type_of
from autodiff.passes.gradient import GradientGraph, gradient
from autodiff.passes.linearize import Linearized, linearize
from autodiff.passes.transpose import transpose
from bench.declare import OURS, Peer


def load() -> Peer:
    """Return the adapter. Results on NumPy arrays are there when a call returns."""
    return Peer(
        name=OURS,
        version=ad.__version__,
        numpy=np,
        special=ad.scipy.special,
        grad=ad.grad,
        value_and_grad=ad.value_and_grad,
        jit=ad.jit,
        trace=trace,
        trace_linearized=trace_linearized,
        trace_gradient=trace_gradient,
        scan=ad.scan,
        while_loop=ad.while_loop,
    )


def trace(f: Callable[..., Any], x: Any) -> Traced:
    """Return the graph of `f` as an un-jitted gradient makes it."""
    return trace_function(f, [type_of(x)], function="grad", name="f", values=[np.float64(x)])


def wanted_inputs(traced: Traced) -> tuple[bool, ...]:
    """Return the flags by which the passes differentiate the first input alone."""
    return (True, *[False] * len(traced.constants))


def from_scratch(transformation: Any) -> Callable[..., Any]:
    """Return a pass as a function that neither knows graphs from before nor keeps any."""

    def run(*arguments: Any) -> Any:
        try:
            _forget()
            return transformation(*arguments)
        finally:
            _forget()

    return run


def _forget() -> None:
    for remembered in (linearize, transpose, gradient):
        remembered.forget()


def trace_linearized(f: Callable[..., Any], x: Any) -> Linearized:
    """Return the two graphs of `f` linearized."""
    traced = trace(f, x)
    return from_scratch(linearize)(traced.graph, wanted_inputs(traced))


def trace_gradient(f: Callable[..., Any], x: Any) -> GradientGraph:
    """Return the graph of the value and gradient of `f`."""
    traced = trace(f, x)
    return from_scratch(gradient)(traced.graph, wanted_inputs(traced))
