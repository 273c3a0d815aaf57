"""The cost of working without `jit`: un-jitted gradients, and what they are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.cases import import_time, passes, small_calls
from bench.declare import OURS, Case, Goal, Peer, Workload
from bench.measure import Results
from bench.programs.small import BIAS, WEIGHTS, chain, logistic_loss

CHAIN = 50
CONTENDERS = (OURS, "autograd", "jax")
SCALAR_INPUTS = {"float": 0.3, "0-d array": np.array(0.3)}


def _scalar_row(kind: str) -> str:
    return f"grad, {CHAIN} scalar operations, {kind} input"


def _scalar_gradient(value: Any) -> Callable[[Peer], Callable[[], Any]]:
    def make(peer: Peer) -> Callable[[], Any]:
        assert peer.grad is not None
        derivative, ready = peer.grad(chain(peer.numpy, CHAIN)), peer.ready
        x = value if isinstance(value, float) else peer.numpy.asarray(value)
        return lambda: ready(derivative(x))

    return make


def _array_gradient(peer: Peer) -> Callable[[], Any]:
    assert peer.grad is not None
    xp, ready, chained = peer.numpy, peer.ready, chain(peer.numpy, CHAIN)
    derivative = peer.grad(lambda x: xp.sum(chained(x)))
    x = xp.asarray(np.linspace(-1.0, 1.0, 100))
    return lambda: ready(derivative(x))


def _logistic(peer: Peer) -> Callable[[], Any]:
    assert peer.value_and_grad is not None
    function, ready = peer.value_and_grad(logistic_loss(peer.numpy), (0, 1)), peer.ready
    weights, bias = peer.numpy.asarray(WEIGHTS), peer.numpy.asarray(BIAS)
    return lambda: ready(function(weights, bias))


def _against_autograd(results: Results) -> float:
    return min(results.ratio(_scalar_row(kind), "autograd", OURS) for kind in SCALAR_INPUTS)


CASE = Case(
    name="eager",
    about="Un-jitted gradients, per operation of the function.",
    workloads=(
        *[
            Workload(
                name=_scalar_row(kind),
                entrants=dict.fromkeys(CONTENDERS, _scalar_gradient(value)),
                operations=CHAIN,
                unit="operation",
            )
            for kind, value in SCALAR_INPUTS.items()
        ],
        Workload(
            name=f"grad, {CHAIN} operations on 100 elements",
            entrants=dict.fromkeys(CONTENDERS, _array_gradient),
            operations=CHAIN,
            unit="operation",
        ),
        Workload(
            name="value_and_grad of a logistic regression",
            entrants=dict.fromkeys(CONTENDERS, _logistic),
        ),
    ),
    goals=(
        Goal(
            text="grad per operation: HIPS autograd's time over ours",
            value=_against_autograd,
            limit=1.0,
            at_least=True,
            unit="x",
        ),
    ),
    parts=(passes.CASE, small_calls.CASE, import_time.CASE),
)
