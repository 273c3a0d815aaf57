"""The measured errors of the CPU math library as a table.

    python -m tests.codegen.cpu_math.accuracy_table

writes kernels/cpu/ACCURACY.md from the functions themselves, on this machine.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from autodiff.codegen import cpu_math
from tests.codegen.cpu_math import oracles, special_oracles
from tests.codegen.cpu_math.harness import TARGETS, errors, mapped

TABLE = Path(__file__).parents[3] / "kernels/cpu/ACCURACY.md"
#: Random points: many where the reference is NumPy's extended precision, fewer where it is mpmath.
MANY, FEW = 200_000, 4_000
HEAD = """# Errors of the CPU math library

Written by `python -m tests.codegen.cpu_math.accuracy_table`; do not edit.

Largest error in units in the last place of the exact result, for float32 / float64. "bound" is what
a function promises on every target, and what the tests hold it to; the other columns are the
largest error found by this run on each instruction set ("scalar" has one lane).

Points: every special value (zeros, infinities, NaN, subnormals, extremes; every pair of them for
two operands) and random ones, a third of them arbitrary bit patterns: {many} where the reference
is 80-bit arithmetic, {few} where it is mpmath. Infinities, NaN and the signs of zeros must be
right, or the error is infinite. logaddexp is measured in units of the larger of its terms at least.
"""


def _measured(name: str, dtype: str) -> dict[str, float]:
    """Return the largest error of `name` for each target."""
    if name in oracles.ORACLES:
        count = oracles.ORACLES[name].count
        operands = oracles.points(name, dtype, MANY, seed=11)
        exact = oracles.ORACLES[name].extended(*(x.astype(np.longdouble) for x in operands))
        floor = oracles.unit_floor(name, operands, exact)
    else:
        count, floor = special_oracles.count(name), None
        points = MANY if name in special_oracles.EXTENDED else FEW
        operands, exact = special_oracles.points_and_exact(name, dtype, points)
    found = {}
    for target in TARGETS:
        got = mapped(name, count, dtype, target)(*operands)
        found[target] = float(errors(got, exact, floor).max())
    return found


def table() -> str:
    """Return the text of the table."""
    lines = [
        HEAD.format(many=MANY, few=FEW),
        f"| function | bound | {' | '.join(TARGETS)} |",
        "|---" * (2 + len(TARGETS)) + "|",
    ]
    for name in sorted(cpu_math.FUNCTIONS):
        print(name, file=sys.stderr)
        claim = cpu_math.CLAIMS[name]
        single, double = _measured(name, "float32"), _measured(name, "float64")
        cells = [f"{single[target]:.2f} / {double[target]:.2f}" for target in TARGETS]
        lines.append(f"| {name} | {claim.f32} / {claim.f64} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TABLE.write_text(table(), encoding="utf-8")
