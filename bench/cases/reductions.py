"""Sums, maxima and what is made of them, along rows, columns and over everything; running sums."""

from __future__ import annotations

from typing import Any

from bench.comparison import Program, compared, uniform
from bench.declare import Case, Workload
from bench.programs.rows import (
    column_bell_sums,
    column_sums,
    logsumexp,
    mean_and_variance,
    row_bell_sums,
    row_maxima,
    row_sums,
    row_sums_of_squares,
    running_sums,
    softmax,
    torch_logsumexp,
    torch_softmax,
    whole_bell_sum,
    whole_sum,
)

F4, F8 = "float32", "float64"

#: Times faster than JAX: a plain reduction, one with more to compute, softmax, rows of a few.
PLAIN, COMPUTED, SOFTMAX, SHORT = 1.3, 2.0, 1.6, 1.0

_TORCH_HAS: dict[Program, Program] = {logsumexp: torch_logsumexp, softmax: torch_softmax}


def _row(name: str, program: Program, shape: tuple[int, ...], dtype: str, goal: float) -> Workload:
    own = _TORCH_HAS.get(program)
    return compared(
        f"{name}, {'x'.join(map(str, shape))}",
        program,
        uniform(*shape, dtype=dtype),
        uniform(*(5, 19)[: len(shape)], dtype=dtype),
        dtype=dtype,
        instead={"torch": own} if own is not None else {},
        faster_than={"jax": goal},
        # Sums of millions of numbers one by one, as cumulative sums are, lose digits.
        tolerance=1e-3 if program is running_sums and dtype == F4 else None,
    )


_LONG: Any = (
    ("sum of rows", row_sums, PLAIN),
    ("maximum of rows", row_maxima, PLAIN),
    ("logsumexp of rows", logsumexp, COMPUTED),
    ("mean and variance of rows", mean_and_variance, COMPUTED),
    ("softmax of rows", softmax, SOFTMAX),
    ("sum of exp(-x*x), rows", row_bell_sums, COMPUTED),
    ("sum of columns", column_sums, PLAIN),
    ("sum of exp(-x*x), columns", column_bell_sums, COMPUTED),
)
_FEW_COLUMNS: Any = (
    ("sum of rows", row_sums, SHORT),
    ("maximum of rows", row_maxima, SHORT),
    ("logsumexp of rows", logsumexp, SHORT),
    ("softmax of rows", softmax, SHORT),
)

CASE = Case(
    name="reductions",
    about="Reductions and running sums as kernels, by call.",
    workloads=(
        *[
            _row(name, program, (4096, 1024), dtype, goal)
            for name, program, goal in _LONG
            for dtype in (F4, F8)
        ],
        _row("sum of x*x+1, rows", row_sums_of_squares, (4096, 1024), F4, PLAIN),
        _row("softmax of rows", softmax, (256, 16384), F4, SOFTMAX),
        _row("logsumexp of rows", logsumexp, (65536, 64), F4, COMPUTED),
        *[
            _row(name, program, (100_000, 10), dtype, goal)
            for name, program, goal in _FEW_COLUMNS
            for dtype in (F4, F8)
        ],
        *[
            _row(name, program, (length,), dtype, goal)
            for name, program, goal in (
                ("sum of all", whole_sum, PLAIN),
                ("sum of exp(-x*x), all", whole_bell_sum, COMPUTED),
            )
            for length in (1 << 16, 1 << 22)
            for dtype in (F4, F8)
        ],
        *[
            _row("running sum", running_sums, shape, dtype, goal)
            for shape, goal in (((1 << 20,), 7.0), ((1024, 1024), 20.0))
            for dtype in (F4, F8)
        ],
    ),
)
