"""Everything that is asked of the kernels for the CPU: the cases below, one after the other."""

from __future__ import annotations

from bench.cases import (
    avx2,
    cold_start,
    elementwise,
    kernel_loading,
    learning,
    reductions,
    two_cores,
)
from bench.declare import Case

CASE = Case(
    name="cpu",
    about="Programs as kernels for the CPU against the same programs of other libraries.",
    parts=(
        elementwise.CASE,
        reductions.CASE,
        learning.CASE,
        kernel_loading.CASE,
        cold_start.CASE,
        avx2.CASE,
        two_cores.CASE,
    ),
)
