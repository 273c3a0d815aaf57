"""The "equation of state" of pyhpc-benchmarks: how the enthalpy of sea water grows with warmth.

Density is a quotient of two polynomials in the absolute salinity S (g/kg), the conservative
temperature T (degrees Celsius) and the sea pressure p (dbar), with 48 coefficients in all: IOC,
SCOR and IAPSO, "The international thermodynamic equation of seawater - 2010: Calculation and use of
thermodynamic properties", Manuals and Guides 56, UNESCO, 2010, appendices A.30 and K.

Arranged by powers of p, the specific volume is

    v(p) = (a0 + a1 p + a2 p^2 + a3 p^3) / (b0 + 2 b1 p + b2 p^2)

and the dynamic enthalpy its integral over p. With the quotient q0 + q1 p and the remainder
r0 + r1 p of that division, and s = sqrt(b1^2 - b0 b2), the integral is

    p (q0 + q1 p/2) + g log(1 + (2 b1 + b2 p) p/b0)
                    + k log(1 + 2 s b2 p / ((b1 - s) (b1 + s + b2 p)))

    with  g = r1 / (2 b2),   k = (r0 - 2 b1 g) / (2 s)

`enthalpy_slope` is the derivative of that with respect to T, written out term by term.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bench.declare import Peer

#: Pascal in a decibar, so that enthalpies are in J/kg.
PASCAL = 1e4

#: The reference density of the Boussinesq approximation, kg/m^3.
REFERENCE_DENSITY = 1024.0

#: Below these the fit does not hold.
LEAST_SALINITY, LEAST_TEMPERATURE = 0.1, -12.0

#: A polynomial in T for each power of sqrt(S), its coefficients by rising powers of T.
Series = Mapping[int, tuple[float, ...]]

B0: Series = {
    0: (9.998420897506056e2, 2.839940833161907, -3.147759265588511e-2, 1.181805545074306e-3),
    2: (-6.698001071123802, -2.986498947203215e-2, 2.327859407479162e-4),
    3: (-3.988822378968490e-2, 5.095422573880500e-4, -1.426984671633621e-5, 1.645039373682922e-7),
}
TWICE_B1: Series = {
    0: (-2.233269627352527e-2, -3.436090079851880e-4, 3.726050720345733e-6),
    2: (-1.806789763745328e-4, 6.876837219536232e-7),
}
B2: Series = {
    0: (-3.087032500374211e-7, -1.988366587925593e-8, -1.061519070296458e-11),
    2: (1.550932729220080e-10,),
}
A0: Series = {
    0: (
        1.0,
        2.775927747785646e-3,
        -2.349607444135925e-5,
        1.119513357486743e-6,
        6.743689325042773e-10,
    ),
    2: (
        -7.521448093615448e-3,
        -2.764306979894411e-5,
        1.262937315098546e-7,
        9.527875081696435e-10,
        -1.811147201949891e-11,
    ),
    3: (
        -3.303308871386421e-5,
        3.801564588876298e-7,
        -7.672876869259043e-9,
        -4.634182341116144e-11,
        2.681097235569143e-12,
    ),
    4: (5.419326551148740e-6,),
}
A1: Series = {
    0: (-2.742185394906099e-5, -3.212746477974189e-7, 3.191413910561627e-9, -1.931012931541776e-12),
    2: (-1.105097577149576e-7, 6.211426728363857e-10),
}
A2: Series = {
    0: (-1.119011592875110e-10, -1.941660213148725e-11, -1.864826425365600e-14),
    2: (0.0, 1.119522344879478e-14),
}
A3: Series = {0: (-1.200507748551599e-15, 6.057902487546866e-17)}


def _polynomial(coefficients: tuple[float, ...], t: Any) -> Any:
    """Return a polynomial's value by Horner's rule; a number where it has one coefficient."""
    value: Any = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        value = value * t + coefficient if coefficient else value * t
    return value


def value_of(series: Series, powers: Mapping[int, Any], t: Any) -> Any:
    """Return a series' value; `powers` are those of sqrt(S)."""
    value = _polynomial(series[0], t)
    for power, coefficients in series.items():
        if power:
            value = value + powers[power] * _polynomial(coefficients, t)
    return value


def slope_of(series: Series) -> Series:
    """Return the derivative of a series with respect to T.

    >>> slope_of({0: (1.0, 2.0, 3.0), 4: (5.0,)})
    {0: (2.0, 6.0)}
    """
    return {
        power: tuple(i * c for i, c in enumerate(coefficients))[1:]
        for power, coefficients in series.items()
        if len(coefficients) > 1
    }


def _powers(xp: Any, salinity: Any) -> dict[int, Any]:
    root = xp.sqrt(salinity)
    return {2: salinity, 3: salinity * root, 4: salinity * salinity}


def enthalpy(peer: Peer) -> Callable[[Any, Any, Any], Any]:
    """Return the dynamic enthalpy in J/kg as a function of S, T and p, which broadcast."""
    xp = peer.numpy

    def f(salinity: Any, temperature: Any, p: Any) -> Any:
        t = xp.maximum(temperature, LEAST_TEMPERATURE)
        powers = _powers(xp, xp.maximum(salinity, LEAST_SALINITY))
        a0, a1, a2, a3, b0, twice_b1, b2 = (
            value_of(series, powers, t) for series in (A0, A1, A2, A3, B0, TWICE_B1, B2)
        )
        b1 = 0.5 * twice_b1
        q1 = a3 / b2
        q0 = (a2 - twice_b1 * q1) / b2
        r1 = a1 - b0 * q1 - twice_b1 * q0
        r0 = a0 - b0 * q0
        s = xp.sqrt(b1 * b1 - b0 * b2)
        g = 0.5 * r1 / b2
        k = (r0 - twice_b1 * g) / (2.0 * s)
        x = (twice_b1 + b2 * p) * p / b0
        y = 2.0 * s * b2 * p / ((b1 - s) * (b1 + s + b2 * p))
        integral = p * (q0 + 0.5 * q1 * p) + g * xp.log(1.0 + x) + k * xp.log(1.0 + y)
        return PASCAL * (integral - p / REFERENCE_DENSITY)

    return f


def enthalpy_slope(peer: Peer) -> Callable[[Any, Any, Any], Any]:
    """Return the derivative of `enthalpy` with respect to T, in J/(kg K), without autodiff.

    A name with a `d` before it is the derivative with respect to T of what it names.
    """
    xp = peer.numpy

    def f(salinity: Any, temperature: Any, p: Any) -> Any:
        t = xp.maximum(temperature, LEAST_TEMPERATURE)
        powers = _powers(xp, xp.maximum(salinity, LEAST_SALINITY))
        a0, a1, a2, a3, b0, twice_b1, b2 = (
            value_of(series, powers, t) for series in (A0, A1, A2, A3, B0, TWICE_B1, B2)
        )
        da0, da1, da2, da3, db0, dtwice_b1, db2 = (
            value_of(slope_of(series), powers, t) for series in (A0, A1, A2, A3, B0, TWICE_B1, B2)
        )
        b1, db1 = 0.5 * twice_b1, 0.5 * dtwice_b1

        q1 = a3 / b2
        dq1 = (da3 - q1 * db2) / b2
        q0 = (a2 - twice_b1 * q1) / b2
        dq0 = (da2 - dtwice_b1 * q1 - twice_b1 * dq1 - q0 * db2) / b2
        r1 = a1 - b0 * q1 - twice_b1 * q0
        dr1 = da1 - db0 * q1 - b0 * dq1 - dtwice_b1 * q0 - twice_b1 * dq0
        r0 = a0 - b0 * q0
        dr0 = da0 - db0 * q0 - b0 * dq0

        s = xp.sqrt(b1 * b1 - b0 * b2)
        ds = (twice_b1 * db1 - db0 * b2 - b0 * db2) / (2.0 * s)
        g = 0.5 * r1 / b2
        dg = (0.5 * dr1 - g * db2) / b2
        k = (r0 - twice_b1 * g) / (2.0 * s)
        dk = (dr0 - dtwice_b1 * g - twice_b1 * dg - 2.0 * k * ds) / (2.0 * s)

        x = (twice_b1 + b2 * p) * p / b0
        dx = ((dtwice_b1 + db2 * p) * p - x * db0) / b0
        low, high = b1 - s, b1 + s + b2 * p
        below = low * high
        y = 2.0 * s * b2 * p / below
        dbelow = (db1 - ds) * high + low * (db1 + ds + db2 * p)
        dy = (2.0 * (ds * b2 + s * db2) * p - y * dbelow) / below

        integral = p * (dq0 + 0.5 * dq1 * p)
        integral = integral + dg * xp.log(1.0 + x) + g * dx / (1.0 + x)
        integral = integral + dk * xp.log(1.0 + y) + k * dy / (1.0 + y)
        return PASCAL * integral

    return f
