"""Elementwise programs: single functions, a chain of operations, formulas of two fields."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import numpy as np

import autodiff as ad
from bench.comparison import compared, uniform
from bench.declare import OURS, Case, Goal, Peer, Workload
from bench.programs.elementwise import black_scholes, chain, function, logistic, two_operations
from bench.programs.seawater import enthalpy_slope

F4, F8 = "float32", "float64"

SMALL_CALL = "two operations, 100"
FIRST_CALL = "first call of the chain, compiling included"

#: Times faster than JAX: the goals of single functions.
_FUNCTIONS = {
    "sin": {F4: 40.0, F8: 30.0},
    "cos": {F4: 40.0, F8: 30.0},
    "exp": {F4: 2.0, F8: 2.0},
    "log": {F4: 2.0, F8: 2.0},
    "log1p": {F4: 2.0, F8: 2.0},
    "expm1": {F4: 2.0, F8: 2.0},
    "logistic": {F4: 2.0, F8: 2.0},
}

_NUMPY_CHAIN = {F4: 1.9, F8: 4.5}
_CHAIN = {
    "1000": (1_000, {}),
    "16K": (1 << 14, {"jax": 4.0, "torch": 3.5}),
    "256K": (1 << 18, {}),
    "1M": (1 << 20, {"jax": 5.0, "torch": 4.0}),
}
_BLACK_SCHOLES = {F4: 1.5, F8: 3.5}


def _single_functions() -> tuple[Workload, ...]:
    return tuple(
        compared(
            f"{name}, 128K",
            logistic if name == "logistic" else function(name),
            uniform(1 << 17, dtype=dtype),
            uniform(37, dtype=dtype),
            dtype=dtype,
            faster_than={"jax": goals[dtype]},
        )
        for name, goals in _FUNCTIONS.items()
        for dtype in (F4, F8)
    )


def _chains() -> tuple[Workload, ...]:
    return tuple(
        compared(
            f"chain of 21 operations, {size}",
            chain,
            uniform(length, dtype=dtype),
            uniform(37, dtype=dtype),
            dtype=dtype,
            faster_than={**goals, "numpy": _NUMPY_CHAIN[dtype]} if goals else {},
            # Rounding of what goes into the last cosine is as large as the results' own.
            tolerance={F4: 1e-4, F8: 1e-11}[dtype],
        )
        for size, (length, goals) in _CHAIN.items()
        for dtype in (F4, F8)
    )


def _options() -> tuple[Workload, ...]:
    return tuple(
        compared(
            f"Black-Scholes, {size}",
            black_scholes,
            uniform(length, dtype=dtype, count=3),
            uniform(37, dtype=dtype, count=3),
            dtype=dtype,
            faster_than={"jax": _BLACK_SCHOLES[dtype]} if size == "1M" else {},
        )
        for size, length in (("1000", 1_000), ("1M", 1 << 20))
        for dtype in (F4, F8)
    )


def _sea(*shape: int, depths: tuple[int, ...]) -> Callable[[], tuple[np.ndarray, ...]]:
    """Return a function that returns salinities, temperatures and pressures."""

    def make() -> tuple[np.ndarray, ...]:
        random = np.random.default_rng(0)
        return (
            random.uniform(0.01, 10.0, shape),
            random.uniform(-12.0, 20.0, shape),
            random.uniform(0.0, 1000.0, depths),
        )

    return make


def _equations_of_state() -> tuple[Workload, ...]:
    goals = {"jax": 2.0, "numpy": 12.0, "torch": 25.0}
    # As pyhpc-benchmarks has its arrays: pressures are those of depths, the last axis.
    rows = (
        ("equation of state, 1000", _sea(1_000, depths=(1_000,)), {}),
        ("equation of state, 1M", _sea(1 << 20, depths=(1 << 20,)), goals),
        ("equation of state, 200x200x25", _sea(200, 200, 25, depths=(1, 1, 25)), goals),
    )
    return tuple(
        compared(
            name,
            enthalpy_slope,
            arguments,
            _sea(3, 4, 5, depths=(1, 1, 5)),
            dtype=F8,
            faster_than=goals,
            tolerance=1e-9,  # differences of nearly equal logarithms
            rounds_at_most=5,
        )
        for name, arguments, goals in rows
    )


def _first_call(peer: Peer) -> Callable[[], float]:
    """Return a call that compiles the chain anew each time, and says how long that took."""
    assert peer.jit is not None
    jit, f, ready = peer.jit, chain(peer), peer.ready
    x = peer.numpy.asarray(np.linspace(0.1, 4.0, 1000, dtype=np.float32))
    constants = np.random.default_rng()

    def call() -> float:
        number = float(constants.uniform(1.0, 2.0))  # no compiled program has had it before
        start = perf_counter()
        with ad.override(cache_dir="off"):
            ready(jit(lambda v: f(v) * number)(x))
        return perf_counter() - start

    return call


_SMALL = compared(
    SMALL_CALL,
    two_operations,
    uniform(100, dtype=F8),
    uniform(37, dtype=F8),
    dtype=F8,
    faster_than={"jax": 20.0, "torch": 10.0, "numpy": 2.5},
    rounds_at_most=None,
)

CASE = Case(
    name="elementwise",
    about="Elementwise programs as kernels, by call, on numbers that are in place already.",
    workloads=(
        _SMALL,
        *_single_functions(),
        *_chains(),
        *_options(),
        *_equations_of_state(),
        Workload(
            name=FIRST_CALL,
            entrants=dict.fromkeys((OURS, "jax"), _first_call),
            reports_time=True,
        ),
    ),
    goals=(
        Goal(
            text=f"{_SMALL.name}: time of a call",
            value=lambda results: results.median(_SMALL.name, OURS),
            limit=0.25,
            unit=" us",
        ),
        Goal(
            text=f"{FIRST_CALL}: our time over JAX's",
            value=lambda results: results.ratio(FIRST_CALL, OURS, "jax"),
            limit=0.4,
            unit="x",
        ),
        Goal(
            text=f"{FIRST_CALL}: time",
            value=lambda results: results.median(FIRST_CALL, OURS) / 1e3,
            limit=15.0,
            unit=" ms",
        ),
    ),
)
