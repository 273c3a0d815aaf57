"""Rounding: piecewise constant, so the derivative is 0."""

from __future__ import annotations

from functools import partial

import numpy as np

from autodiff.ir.primitive import Samples
from autodiff.primitives.families import elementwise
from autodiff.primitives.lowering import operation

_POINTS = (-2.5, -1.5, -0.5, -0.0, 0.0, 0.5, 1.5, 2.5, np.inf, np.nan)
_rounding = partial(
    elementwise, jvp=lambda t, out, x: None, dtypes="biuf", samples=Samples(points=_POINTS)
)

floor = _rounding("floor", np.floor, doc="Largest integer not above.", lower=operation("floor"))
ceil = _rounding("ceil", np.ceil, doc="Smallest integer not below.", lower=operation("ceil"))
trunc = _rounding(
    "trunc", np.trunc, doc="The integer next to it towards 0.", lower=operation("trunc")
)
rint = elementwise(
    "rint",
    np.rint,
    odd=True,
    doc="Nearest integer, halves to even.",
    jvp=lambda t, out, x: None,
    samples=Samples(points=_POINTS),
    lower=operation("rint"),
)
spacing = elementwise(
    "spacing",
    np.spacing,
    doc="Distance to the next representable number away from 0.",
    jvp=lambda t, out, x: None,
    dtypes="f",
    samples=Samples(points=(-1.0, 0.0, 1.0, 1e10)),
    lower=operation("spacing"),
)
nextafter = elementwise(
    "nextafter",
    np.nextafter,
    doc="The representable number next to x in the direction of y.",
    jvp=(lambda t, out, x, y: t, None),
    dtypes="f",
    samples=Samples(points=(-1.0, 0.0, 1.0)),
    lower=operation("nextafter"),
)
