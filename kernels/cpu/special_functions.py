"""Print the coefficients of sin, tan, asin, atan, erf, erfc, erfinv, lgamma and digamma.

    python kernels/cpu/special_functions.py > autodiff/codegen/cpu_math/special_coefficients.py

Each row of `FITS` is one minimax polynomial: the function, its interval, the weight that makes its
error relative to the result of the kernel, and the degree for float32 and for float64. The
exchange algorithm (Remez; Muller, Elementary functions, 3rd edition, 2016, chapter 3) runs on a
Chebyshev grid in 60 digits. Coefficients are rounded one after another from the constant term up,
the remaining ones fitted again each time, so that the rounding of a leading coefficient is made
good by those after it.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
from mpmath import mp, mpf

mp.dps = 60

#: Points of the grid for each coefficient.
DENSITY = 24
ROUNDS = 30


def chebyshev_grid(low: Any, high: Any, count: int) -> list[Any]:
    """`count` points of [low, high], ascending, dense at both ends."""
    middle, half = (low + high) / 2, (high - low) / 2
    return [middle - half * mpmath.cos(mp.pi * (mpf(i) + 0.5) / count) for i in range(count)]


def evaluate(coefficients: Sequence[Any], u: Any) -> Any:
    """Return c[0] + c[1]*u + ..."""
    value = mpf(0)
    for coefficient in reversed(coefficients):
        value = value * u + coefficient
    return value


def exchange(
    grid: list[Any], values: list[Any], weights: list[Any], count: int
) -> tuple[list[Any], Any]:
    """The `count` coefficients of least weighted error, constant term first, and that error."""
    last = len(grid) - 1
    reference = [
        round(last * (1 - float(mpmath.cos(mp.pi * i / count))) / 2) for i in range(count + 1)
    ]
    best: tuple[list[Any], Any] | None = None
    for _ in range(ROUNDS):
        system, right = mpmath.matrix(count + 1, count + 1), mpmath.matrix(count + 1, 1)
        for row, point in enumerate(reference):
            power = mpf(1)
            for column in range(count):
                system[row, column] = power
                power *= grid[point]
            system[row, count] = (-1) ** row / weights[point]
            right[row] = values[point]
        solution = mpmath.lu_solve(system, right)
        coefficients = [solution[i] for i in range(count)]
        errors = [
            (evaluate(coefficients, u) - value) * weight
            for u, value, weight in zip(grid, values, weights, strict=True)
        ]
        largest = max(abs(error) for error in errors)
        if best is None or largest < best[1]:
            best = (coefficients, largest)
        if largest <= abs(solution[count]) * mpf("1.01"):
            break
        extrema = alternating_extrema(errors, count + 1)
        if len(extrema) < count + 1:
            break
        reference = extrema
    assert best is not None
    return best


def alternating_extrema(errors: list[Any], count: int) -> list[int]:
    """Positions of the largest error of each run of one sign, the smallest dropped to `count`."""
    extrema: list[int] = []
    for position, error in enumerate(errors):
        if extrema and (errors[extrema[-1]] > 0) == (error > 0):
            if abs(error) > abs(errors[extrema[-1]]):
                extrema[-1] = position
        else:
            extrema.append(position)
    while len(extrema) > count:
        if len(extrema) == count + 1:
            smaller_first = abs(errors[extrema[0]]) < abs(errors[extrema[-1]])
            extrema.pop(0 if smaller_first else -1)
        else:
            pair = min(
                range(len(extrema) - 1),
                key=lambda k: max(abs(errors[extrema[k]]), abs(errors[extrema[k + 1]])),
            )
            del extrema[pair : pair + 2]
    return extrema


@dataclass(frozen=True, slots=True)
class Fit:
    """One polynomial: `function` on [low, high] with `weight`, of degree `single` and `double`.

    `single_in_double` says that the kernel for float32 evaluates this polynomial in float64.
    """

    name: str
    variable: str
    function: Callable[[Any], Any]
    weight: Callable[[Any], Any]
    low: Any
    high: Any
    single: int | None
    double: int | None
    single_in_double: bool = False


def solve(fit: Fit, degree: int, single: bool) -> tuple[list[float], float]:
    """The rounded coefficients and log2 of the largest weighted error they leave."""
    count = degree + 1
    grid = chebyshev_grid(mpf(fit.low), mpf(fit.high), DENSITY * (count + 1))
    values = [fit.function(u) for u in grid]
    weights = [fit.weight(u) for u in grid]
    in_single = single and not fit.single_in_double
    coefficients: list[float] = []
    points, rests, scales = grid, values, weights
    for k in range(count):
        left, _ = exchange(points, rests, scales, count - k)
        rounded = float(np.float32(float(left[0]))) if in_single else float(left[0])
        coefficients.append(rounded)
        # What is left is u times a polynomial: the quotient is fitted, its weight times |u|. Points
        # near u = 0 bear on it no more.
        near = max(abs(u) for u in points) / 32
        kept = [i for i, u in enumerate(points) if abs(u) > near]
        rests = [(rests[i] - rounded) / points[i] for i in kept]
        scales = [scales[i] * abs(points[i]) for i in kept]
        points = [points[i] for i in kept]
    errors = [
        abs((evaluate(coefficients, u) - value) * weight)
        for u, value, weight in zip(grid, values, weights, strict=True)
    ]
    return coefficients, float(mpmath.log(max(errors), 2))


def _of_square(odd: Callable[[Any], Any], leading: Any) -> Callable[[Any], Any]:
    """(odd(r) / r - leading) / r**2 as a function of z = r**2."""
    return lambda z: (odd(mpmath.sqrt(z)) / mpmath.sqrt(z) - leading) / z


def _of_square_weight(odd: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda z: z * mpmath.sqrt(z) / odd(mpmath.sqrt(z))


def _sine_of_pi(r: Any) -> Any:
    return mpmath.sin(mp.pi * r) / mp.pi


_SLACK = mpf("1.0001")
_EDGE = mpf("1e-9")
_QUARTER = (mp.pi / 4) ** 2 * _SLACK
_EIGHTH = mpmath.tan(mp.pi / 8) ** 2 * _SLACK


def _root_of_erfc(power: int) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    return (
        lambda t: mpmath.erfc(t) ** (mpf(1) / power),
        lambda t: power * mpmath.erfc(t) ** (1 - mpf(1) / power) / mpmath.erf(t),
    )


def _scaled_erfc(shift: Any, middle: Any) -> Callable[[Any], Any]:
    """exp(t**2) erfc(t) (t + shift) as a function of u = 1 / (t + shift) - middle."""

    def function(u: Any) -> Any:
        t = 1 / (u + middle) - shift
        return mpmath.exp(t**2) * mpmath.erfc(t) / (u + middle)

    return function


def _erfinv_of_logarithm(w: Any) -> Any:
    """erfinv(x) / x for w = -log(1 - x**2)."""
    with mp.workdps(80):
        x = mpmath.sqrt(-mpmath.expm1(-w))
        if w < mpf("0.5"):
            return +mpmath.erfinv(x) / x
        complement = -mpmath.expm1(mpmath.log1p(-mpmath.exp(-w)) / 2)
        target = mpmath.log(complement)
        y = mpmath.findroot(lambda y: mpmath.log(mpmath.erfc(y)) - target, mpmath.sqrt(w) * 0.95)
        return y / x


def _log_gamma(x: Any) -> Any:
    return mpmath.log(mpmath.gamma(x))


_DIGAMMA_ZERO = mpmath.findroot(mpmath.digamma, 1.46)


def _stirling_rest(w: Any) -> Any:
    x = 1 / mpmath.sqrt(w)
    leading = (x - 0.5) * (mpmath.log(x) - 1) + (mpmath.log(2 * mp.pi) - 1) / 2
    return (_log_gamma(x) - leading) * x


def _digamma_rest(w: Any) -> Any:
    x = 1 / mpmath.sqrt(w)
    return (mpmath.digamma(x) - mpmath.log(x) + 1 / (2 * x)) / w


def _erfinv_fit(name: str, low: Any, high: Any, middle: Any, *, single: int, double: int) -> Fit:
    def function(u: Any) -> Any:
        return _erfinv_of_logarithm((u + mpf(middle)) ** 2)

    return Fit(
        name,
        f"sqrt(-log(1 - x^2)) - {middle}",
        function,
        lambda u: 1 / function(u),
        low - mpf(middle),
        high - mpf(middle),
        single,
        double,
    )


def fits() -> list[Fit]:
    """The table."""
    sine, arcsine, arctangent = mpmath.sin, mpmath.asin, mpmath.atan
    root4, weight4 = _root_of_erfc(4)
    root8, weight8 = _root_of_erfc(8)
    erfcx64, erfcx32 = _scaled_erfc(3, mpf("0.125")), _scaled_erfc(mpf("2.5"), mpf("0.1953125"))

    def central(u: Any) -> Any:
        return _erfinv_of_logarithm(u + mpf("2.625"))

    return [
        Fit(
            "SINE",
            "r^2, |r| <= pi/2",
            _of_square(sine, 1),
            _of_square_weight(sine),
            _EDGE,
            4 * _QUARTER,
            3,
            7,
        ),
        Fit(
            "SINE_QUARTER",
            "r^2, |r| <= pi/4",
            _of_square(sine, 1),
            _of_square_weight(sine),
            _EDGE,
            _QUARTER,
            2,
            5,
        ),
        Fit(
            "COSINE_QUARTER",
            "r^2, |r| <= pi/4",
            lambda z: (mpmath.cos(mpmath.sqrt(z)) - 1 + z / 2) / z**2,
            lambda z: z**2 / mpmath.cos(mpmath.sqrt(z)),
            _EDGE,
            _QUARTER,
            2,
            5,
        ),
        Fit(
            "SINE_OF_PI",
            "r^2, |r| <= 1/2",
            _of_square(_sine_of_pi, 1),
            _of_square_weight(_sine_of_pi),
            _EDGE,
            mpf("0.25") * _SLACK,
            3,
            7,
        ),
        Fit(
            "ARCSINE",
            "x^2, |x| <= 1/2",
            _of_square(arcsine, 1),
            _of_square_weight(arcsine),
            _EDGE,
            mpf("0.25"),
            4,
            11,
        ),
        Fit(
            "ARCTANGENT",
            "x^2, |x| <= tan(pi/8)",
            _of_square(arctangent, 1),
            _of_square_weight(arctangent),
            _EDGE,
            _EIGHTH,
            4,
            10,
        ),
        Fit(
            "ERF_NEAR",
            "x^2, |x| <= 1",
            lambda z: mpmath.erf(mpmath.sqrt(z)) / mpmath.sqrt(z) - 1,
            lambda z: mpmath.sqrt(z) / mpmath.erf(mpmath.sqrt(z)),
            _EDGE,
            1,
            7,
            12,
        ),
        Fit("ERFC_ROOT4", "x, 1 <= x <= 3.95", root4, weight4, 1, mpf("3.95"), 7, None),
        Fit("ERFC_ROOT8", "x, 1 <= x <= 5.95", root8, weight8, 1, mpf("5.95"), None, 17),
        Fit(
            "ERFC_SCALED_SINGLE",
            "1 / (x + 2.5) - 0.1953125",
            erfcx32,
            lambda u: 1 / erfcx32(u),
            1 / mpf("12.8") - mpf("0.1953125"),
            mpf("0.4") - mpf("0.1953125"),
            9,
            None,
        ),
        Fit(
            "ERFC_SCALED_DOUBLE",
            "1 / (x + 3) - 0.125",
            erfcx64,
            lambda u: 1 / erfcx64(u),
            1 / mpf("30.5") - mpf("0.125"),
            mpf(1) / 3 - mpf("0.125"),
            None,
            22,
        ),
        Fit(
            "ERFINV_CENTRAL",
            "-log(1 - x^2) - 2.625",
            central,
            lambda u: 1 / central(u),
            mpf("1e-7") - mpf("2.625"),
            mpf("2.375"),
            10,
            20,
        ),
        _erfinv_fit("ERFINV_OUTER", mpmath.sqrt(5), mpf(4), "3.125", single=10, double=20),
        _erfinv_fit("ERFINV_TAIL", mpf(4), mpf("6.02"), "5", single=0, double=20),
        Fit(
            "LOG_GAMMA_ONE",
            "x - 1, 0.72 <= x <= 1.4",
            lambda u: _log_gamma(1 + u) / u,
            lambda u: u / _log_gamma(1 + u),
            mpf("-0.28"),
            mpf("0.4"),
            11,
            20,
            single_in_double=True,
        ),
        Fit(
            "LOG_GAMMA_TWO",
            "x - 2, 1.4 <= x <= 2.5",
            lambda u: _log_gamma(2 + u) / u,
            lambda u: u / _log_gamma(2 + u),
            mpf("-0.6"),
            mpf("0.5"),
            11,
            20,
            single_in_double=True,
        ),
        Fit(
            "LOG_GAMMA_FAR",
            "1 / x^2, x >= 8",
            _stirling_rest,
            lambda w: mpmath.sqrt(w) / _log_gamma(1 / mpmath.sqrt(w)),
            mpf("1e-6"),
            mpf(1) / 64,
            2,
            5,
            single_in_double=True,
        ),
        Fit(
            "DIGAMMA_NEAR",
            "x - 1.5, 1 <= x <= 2",
            lambda u: mpmath.digamma(u + 1.5) / (u + 1.5 - _DIGAMMA_ZERO),
            lambda u: (u + 1.5 - _DIGAMMA_ZERO) / mpmath.digamma(u + 1.5),
            mpf("-0.5"),
            mpf("0.5"),
            12,
            21,
            single_in_double=True,
        ),
        Fit(
            "DIGAMMA_MIDDLE",
            "x - 2.75, 2 <= x <= 3.5",
            lambda u: mpmath.digamma(u + 2.75),
            lambda u: 1 / mpmath.digamma(u + 2.75),
            mpf("-0.75"),
            mpf("0.75"),
            12,
            19,
            single_in_double=True,
        ),
        Fit(
            "DIGAMMA_FAR",
            "1 / x^2, x >= 3.5",
            _digamma_rest,
            lambda w: w / mpmath.digamma(1 / mpmath.sqrt(w)),
            mpf("1e-6"),
            1 / mpf("3.5") ** 2,
            3,
            9,
            single_in_double=True,
        ),
    ]


HEADER = '''"""Coefficients of the polynomials of the math library, constant term first.

Written by kernels/cpu/special_functions.py, which states functions, intervals and weights; do not
edit. Beside each: the variable, and the largest error relative to the kernel's result.
"""

'''


def main() -> None:
    """Print the module."""
    print(HEADER)
    for fit in fits():
        for precision, degree in (("F32", fit.single), ("F64", fit.double)):
            if degree is None or (precision == "F32" and fit.name == "ERFINV_TAIL"):
                continue
            coefficients, error = solve(fit, degree, precision == "F32")
            print(f"\n#: {fit.name} of {fit.variable}; error 2**{error:.1f}.")
            print(f"{fit.name}_{precision} = (")
            for coefficient in coefficients:
                print(f"    {coefficient!r},")
            print(")")
            print(fit.name, precision, degree, f"2**{error:.1f}", file=sys.stderr)


if __name__ == "__main__":
    main()
