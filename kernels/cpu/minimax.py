"""Polynomial coefficients of the CPU math library, fitted in many digits and rounded one by one.

    python kernels/cpu/minimax.py            print every table and its error
    python kernels/cpu/minimax.py --write    write autodiff/codegen/cpu_math/coefficients.py anew

A `Fit` states a function, the powers of its polynomial, an interval, and the weight that turns the
polynomial's error into the relative error of the result. `minimax` finds the polynomial whose
largest weighted error is smallest (Remez, Sur le calcul effectif des polynômes d'approximation de
Tchebichef, 1934; Muller, Elementary functions, 3rd edition 2016, chapter 3). The coefficients are
then rounded to the type from the lowest power up. After none, or each of the first few, the rest
are fitted again, to make up for the rounding of the earlier ones; whichever gives the smallest
error is kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
from mpmath import mp, mpf

COEFFICIENTS = Path(__file__).parents[2] / "autodiff/codegen/cpu_math/coefficients.py"
DIGITS = 50
SAMPLES_PER_POINT = 24


@dataclass(frozen=True, slots=True)
class Fit:
    """One table: sum(c[k] * x**powers[k]) close to `function` on `interval`.

    Args:
        name: of the table; a constant of the generated module.
        function: from mpf to mpf.
        powers: exponents of the polynomial's terms, ascending.
        interval: where it is fitted.
        weight: what the error is multiplied by before it is compared.
        type: of the rounded coefficients, `float32` or `float64`.
        says: what is approximated, for the comment beside the table.
    """

    name: str
    function: Callable[[Any], Any]
    powers: Sequence[int]
    interval: tuple[float, float]
    weight: Callable[[Any], Any]
    type: str
    says: str


def minimax(
    function: Callable[[Any], Any],
    powers: Sequence[int],
    interval: tuple[float, float],
    weight: Callable[[Any], Any] = lambda x: mpf(1),
    *,
    turns: int = 12,
) -> tuple[list[mpf], mpf]:
    """Return the coefficients of the best polynomial and its largest weighted error.

    Args:
        function: what is approximated; where it has a removable singularity it must give the limit.
        powers: exponents of the terms.
        interval: both ends.
        weight: factor of the error, nonzero but at single points.
        turns: most exchanges of the reference points.

    >>> coefficients, error = minimax(mpmath.exp, range(3), (-1, 1))
    >>> [float(round(c, 4)) for c in coefficients], float(round(error, 4))
    ([0.989, 1.1302, 0.554], 0.045)
    """
    with mp.workdps(DIGITS):
        low, high = mpf(interval[0]), mpf(interval[1])
        middle, half = (low + high) / 2, (high - low) / 2
        count = SAMPLES_PER_POINT * (len(powers) + 1)
        grid = [middle - half * mpmath.cospi(mpf(k) / count) for k in range(count + 1)]
        samples = [(x, function(x), weight(x)) for x in grid]
        # A common factor x**powers[0] of all terms changes sign at 0, and the alternation with it.
        odd = len(powers) > 0 and powers[0] % 2
        samples = [
            (x, value, -abs(factor) if odd and x < 0 else abs(factor))
            for x, value, factor in samples
            if factor
        ]
        return _exchange(samples, powers, turns)


def _exchange(samples: list, powers: Sequence[int], turns: int) -> tuple[list[mpf], mpf]:
    """Exchange reference points until the error alternates between equal extremes."""
    size = len(powers)
    if not size:
        return [], max(abs(value * weight) for _, value, weight in samples)
    picked = [round(k * (len(samples) - 1) / size) for k in range(size + 1)]
    coefficients, largest = [], mpf(0)
    for _ in range(turns):
        matrix, right = mpmath.matrix(size + 1), mpmath.matrix(size + 1, 1)
        for row, index in enumerate(picked):
            x, value, weight = samples[index]
            for column, power in enumerate(powers):
                matrix[row, column] = x**power
            matrix[row, size] = (-1) ** row / weight
            right[row] = value
        solution = mpmath.lu_solve(matrix, right)
        coefficients, level = list(solution[:size]), abs(solution[size])
        errors = [
            weight * (_evaluate(coefficients, powers, x) - value) for x, value, weight in samples
        ]
        largest = max(map(abs, errors))
        if largest <= level * mpf("1.0001"):
            break
        picked = _extremes(errors, size + 1) or picked
    return coefficients, largest


def _extremes(errors: Sequence[mpf], wanted: int) -> list[int]:
    """Return the indices of `wanted` extremes of alternating sign, the largest ones."""
    found: list[int] = []
    for index, error in enumerate(errors):
        if found and (error > 0) == (errors[found[-1]] > 0):
            if abs(error) > abs(errors[found[-1]]):
                found[-1] = index
        else:
            found.append(index)
    while len(found) > wanted:
        found.pop(0 if abs(errors[found[0]]) < abs(errors[found[-1]]) else -1)
    return found if len(found) == wanted else []


def _evaluate(coefficients: Sequence[mpf], powers: Sequence[int], x: mpf) -> mpf:
    return mpmath.fsum(c * x**power for c, power in zip(coefficients, powers, strict=True))


def rounded(fit: Fit) -> tuple[list[float], float]:
    """Return the coefficients of `fit` as floats of its type, and log2 of the largest error."""
    with mp.workdps(DIGITS):
        tries = [_rounded_after(fit, count) for count in range(min(4, len(fit.powers)))]
        error, coefficients = min(tries)
        return coefficients, float(mpmath.log(error, 2))


def _rounded_after(fit: Fit, refitted: int) -> tuple[mpf, list[float]]:
    """Round, fitting the rest anew after each of the first `refitted` coefficients."""
    dtype = np.dtype(fit.type)
    done: list[float] = []

    def rest(x: mpf) -> mpf:
        return fit.function(x) - _evaluate(list(map(mpf, done)), fit.powers[: len(done)], x)

    while len(done) < len(fit.powers):
        coefficients, _ = minimax(rest, fit.powers[len(done) :], fit.interval, fit.weight)
        kept = coefficients[:1] if len(done) < refitted else coefficients
        done += [_nearest(number, dtype) for number in kept]
    _, error = minimax(rest, (), fit.interval, fit.weight)
    return error, done


def _nearest(number: mpf, dtype: np.dtype) -> float:
    with mp.workprec(np.finfo(dtype).nmant + 1):
        return float(+number)


# ---- the tables


def _without(function: Callable[[Any], Any], terms: Sequence[mpf], order: int) -> Callable:
    """Return (function(x) - sum(terms[k] * x**k)) / x**order, by its Taylor series near 0."""

    def quotient(x: mpf) -> mpf:
        if abs(x) < mpf(2) ** -40:
            return mpmath.taylor(function, 0, order)[order]
        known = mpmath.fsum(term * x**k for k, term in enumerate(terms))
        return (function(x) - known) / x**order

    return quotient


def _atanh_tail(order: int) -> Callable[[Any], Any]:
    """Return z -> (atanh(sqrt z)/sqrt z - 1 - z/3 ...)/z**order, summed as a series."""

    def tail(z: mpf) -> mpf:
        return mpmath.fsum(z**k / (2 * (k + order) + 1) for k in range(80))

    return tail


_LN2 = mpmath.mpf("0.693147180559945309417232121458176568075500134360255254120680")
_HALF_LN2 = 0.3467  # ln(2)/2, and a little for the rounding of the multiple of ln 2
_EXP = _without(mpmath.exp, [mpf(1), mpf(1)], 2)
_EXP2 = _without(lambda x: mpmath.exp(x * _LN2), [mpf(1)], 1)
_LOG = _without(mpmath.log1p, [mpf(0), mpf(1)], 2)
_EDGE = 0.040001  # s**2 for s = f/(2 + f), f in [-0.25, 0.5)


def _relative_expm1(r: mpf) -> mpf:
    return r**2 / mpmath.expm1(r) if r else mpf(0)


def _relative_exp2(r: mpf) -> mpf:
    return r / mpmath.exp(r * _LN2)


def _relative_log1p(f: mpf) -> mpf:
    return f**2 / mpmath.log1p(f) if f else mpf(0)


FITS: tuple[Fit, ...] = (
    Fit("EXP_F32", _EXP, range(5), (-_HALF_LN2, _HALF_LN2), _relative_expm1, "float32",
        "(exp(r) - 1 - r)/r**2, |r| <= ln(2)/2"),
    Fit("EXP_F64", _EXP, range(10), (-_HALF_LN2, _HALF_LN2), _relative_expm1, "float64",
        "(exp(r) - 1 - r)/r**2, |r| <= ln(2)/2"),
    Fit("EXPM1_F32", _EXP, range(6), (-_HALF_LN2, _HALF_LN2), _relative_expm1, "float32",
        "(exp(r) - 1 - r)/r**2, |r| <= ln(2)/2"),
    Fit("EXPM1_F64", _EXP, range(11), (-_HALF_LN2, _HALF_LN2), _relative_expm1, "float64",
        "(exp(r) - 1 - r)/r**2, |r| <= ln(2)/2"),
    Fit("EXP2_F32", _EXP2, range(6), (-0.5, 0.5), _relative_exp2, "float32",
        "(2**r - 1)/r, |r| <= 1/2"),
    Fit("EXP2_F64", _EXP2, range(11), (-0.5, 0.5), _relative_exp2, "float64",
        "(2**r - 1)/r, |r| <= 1/2"),
    Fit("LOG_F32", _LOG, range(9), (-0.25, 0.5), _relative_log1p, "float32",
        "(log(1 + f) - f)/f**2, -1/4 <= f <= 1/2"),
    Fit("ATANH_F64", _atanh_tail(1), range(8), (0, _EDGE), lambda z: z, "float64",
        "(atanh(s)/s - 1)/z, z = s**2 <= 1/25"),
    Fit("ATANH_TAIL_F64", _atanh_tail(2), range(8), (0, _EDGE), lambda z: z**2, "float64",
        "(atanh(s)/s - 1 - z/3)/z**2, z = s**2 <= 1/25"),
    Fit("ATANH_SHORT_F64", _atanh_tail(1), range(5), (0, _EDGE), lambda z: z, "float64",
        "(atanh(s)/s - 1)/z, z = s**2 <= 1/25, to 40 bits"),
    Fit("INVERSE_CUBE_ROOT_F32", lambda m: mpmath.cbrt(1 / m), range(6), (0.75, 1.5),
        mpmath.cbrt, "float32", "m**(-1/3), 3/4 <= m <= 3/2"),
    Fit("INVERSE_CUBE_ROOT_F64", lambda m: mpmath.cbrt(1 / m), range(6), (0.75, 1.5),
        mpmath.cbrt, "float64", "m**(-1/3), 3/4 <= m <= 3/2"),
)  # fmt: skip


def module_text(fits: Sequence[Fit] = FITS) -> str:
    """Return the generated module: one constant for each fit, its error in a comment."""
    lines = [
        '"""Coefficients of the CPU math library: written by `kernels/cpu/minimax.py`.',
        "",
        "Ascending powers. The error beside a table is relative to the function computed from it.",
        '"""',
        "",
        "from __future__ import annotations",
    ]
    for fit in fits:
        coefficients, error = rounded(fit)
        lines += ["", f"#: {fit.says}; error 2**{error:.1f}."]
        lines += [f"{fit.name} = (", *(f"    {number!r}," for number in coefficients), ")"]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print or write the tables."""
    parser = argparse.ArgumentParser(description="Fit the tables of the CPU math library.")
    parser.add_argument("--write", action="store_true", help="write the generated module")
    text = module_text()
    if parser.parse_args().write:
        COEFFICIENTS.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
