"""Generated kernels for the CPU against the same programs of other libraries."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from time import perf_counter
from typing import Any

import numpy as np

from bench.declare import OURS, Case, Goal, Peer, Workload

CONTENDERS = (OURS, "jax", "numpy")
_RANDOM = np.random.default_rng(0)
_DISTINCT = count(1)


def _chain(xp: Any) -> Callable[[Any], Any]:
    """Return a chain of 17 operations, six of them transcendental."""

    def f(x: Any) -> Any:
        y = xp.sin(x) * xp.exp(-x * x) + 2.0 * x
        z = xp.tanh(y) * xp.log1p(x * x) + xp.sqrt(x * x + 1.0)
        return xp.cos(z) * y + z / (1.0 + y * y)

    return f


def _two_operations(xp: Any) -> Callable[[Any], Any]:
    return lambda x: x * x + x


def _softmax(xp: Any) -> Callable[[Any], Any]:
    def f(x: Any) -> Any:
        e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
        return e / xp.sum(e, axis=-1, keepdims=True)

    return f


def _mean_and_variance(xp: Any) -> Callable[[Any], Any]:
    def f(x: Any) -> Any:
        mean = xp.mean(x, axis=-1)
        return mean, xp.mean((x - mean[:, None]) ** 2, axis=-1)

    return f


def _sum_of_squares(xp: Any) -> Callable[[Any], Any]:
    return lambda x: xp.sum(x * x + 1.0, axis=-1)


def _columns(xp: Any) -> Callable[[Any], Any]:
    return lambda x: xp.sum(xp.exp(-x * x), axis=0)


def _whole(xp: Any) -> Callable[[Any], Any]:
    return lambda x: xp.sum(xp.exp(-x * x))


def _timed(
    program: Callable[[Any], Callable[[Any], Any]], argument: np.ndarray
) -> Callable[[Peer], Callable[[], Any]]:
    def make(peer: Peer) -> Callable[[], Any]:
        f, x, ready = program(peer.numpy), peer.numpy.asarray(argument), peer.ready
        compiled = f if peer.jit is None else peer.jit(f)
        return lambda: ready(compiled(x))

    return make


def _first_call(peer: Peer) -> Callable[[], float]:
    """Return a call that compiles the chain anew each time, and says how long that took."""
    assert peer.jit is not None
    jit, xp, ready = peer.jit, peer.numpy, peer.ready
    x = xp.asarray(np.linspace(0.1, 4.0, 1000, dtype=np.float32))

    def call() -> float:
        number = float(next(_DISTINCT))  # a constant no compiled program has had before
        f = _chain(xp)
        start = perf_counter()
        ready(jit(lambda v: f(v) * number)(x))
        return perf_counter() - start

    return call


def _numbers(*shape: int, dtype: Any) -> np.ndarray:
    return _RANDOM.uniform(0.1, 4.0, shape).astype(dtype)


_ROWS: tuple[tuple[str, Any, np.ndarray], ...] = (
    ("two operations, 100 float64", _two_operations, _numbers(100, dtype=np.float64)),
    ("chain, 1M float32", _chain, _numbers(1 << 20, dtype=np.float32)),
    ("chain, 1M float64", _chain, _numbers(1 << 20, dtype=np.float64)),
    ("softmax 4096x1024 float32", _softmax, _numbers(4096, 1024, dtype=np.float32)),
    ("mean and variance 4096x1024 float32", _mean_and_variance, _numbers(4096, 1024, dtype="f4")),
    ("sum x*x+1, rows 4096x1024 float32", _sum_of_squares, _numbers(4096, 1024, dtype="f4")),
    ("sum exp(-x*x), columns 4096x1024 float32", _columns, _numbers(4096, 1024, dtype="f4")),
    ("sum exp(-x*x), 4M float32", _whole, _numbers(1 << 22, dtype=np.float32)),
    ("softmax 100000x10 float32", _softmax, _numbers(100_000, 10, dtype=np.float32)),
)

_TIMES_FASTER_THAN_JAX = {
    "chain, 1M float32": 5.0,
    "chain, 1M float64": 5.0,
    "softmax 4096x1024 float32": 1.6,
    "softmax 100000x10 float32": 1.0,
}

CASE = Case(
    name="cpu",
    about="Programs as generated kernels, by call; and the first call of one, compiling included.",
    workloads=(
        *[
            Workload(
                name=name,
                entrants=dict.fromkeys(CONTENDERS, _timed(program, argument)),
                rounds_at_most=9,
            )
            for name, program, argument in _ROWS
        ],
        Workload(
            name="first call of the chain",
            entrants=dict.fromkeys((OURS, "jax"), _first_call),
            reports_time=True,
        ),
    ),
    goals=(
        *[
            Goal(
                text=f"{name}: JAX's time over ours",
                value=lambda results, name=name: results.ratio(name, "jax", OURS),
                limit=limit,
                at_least=True,
                unit="x",
            )
            for name, limit in _TIMES_FASTER_THAN_JAX.items()
        ],
        Goal(
            text="first call of the chain: our time over JAX's",
            value=lambda results: results.ratio("first call of the chain", OURS, "jax"),
            limit=0.5,
            unit="x",
        ),
    ),
)
