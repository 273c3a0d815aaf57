"""Arguments that NumPy's functions share: axes, shapes, `out`; and which results are views."""

from __future__ import annotations

from collections.abc import Callable
from operator import index
from typing import Any

import numpy as np

from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.avals import Shape
from autodiff.ir.builder import Tracer


def axis_error(function: str, axis: int, ndim: int) -> Exception:
    """Return the error for an axis that an array of `ndim` axes does not have."""
    text = message(
        function,
        "the axis must be one of the array's",
        f"axis={axis} where ndim={ndim}",
        line=user_line(),
        fix=f"give an axis from {-ndim} to {ndim - 1}."
        if ndim
        else "the array is 0-d: leave it out.",
    )
    return np.exceptions.AxisError(text)


def axis_of(function: str, axis: Any, ndim: int) -> int:
    """Return one axis counted from the front."""
    position = index(axis)
    if not -ndim <= position < ndim:
        raise axis_error(function, position, ndim)
    return position % ndim


def axes_of(function: str, axis: Any, ndim: int) -> Shape:
    """Return an axis or several, counted from the front, in the order given."""
    if not isinstance(axis, tuple | list):
        return (axis_of(function, axis, ndim),)
    axes = tuple([axis_of(function, i, ndim) for i in axis])
    if len(set(axes)) != len(axes):
        raise ValueError(
            message(function, "axes must be distinct", f"axis={axis}", line=user_line())
        )
    return axes


def reduced_axes(function: str, axis: Any, ndim: int) -> Shape:
    """Return the axes of a reduction in order: all for None; a 0-d array has an axis 0 here."""
    if axis is None:
        return tuple(range(ndim))
    if ndim == 0 and not isinstance(axis, tuple | list) and index(axis) in (0, -1):
        return ()
    return tuple(sorted(axes_of(function, axis, ndim)))


def sizes_of(shape: Any) -> Shape:
    """Return a shape, given as an integer or a sequence of integers, as a tuple."""
    if isinstance(shape, tuple | list) or (hasattr(shape, "ndim") and shape.ndim == 1):
        return tuple([index(n) for n in shape])
    return (index(shape),)


def refuse_out(function: str, out: Any) -> None:
    """Raise if the caller wants the result written into an array."""
    if out is not None:
        raise TypeError(
            message(
                function,
                "out= is not supported on traced values",
                f"out of type {type(out).__name__}",
                line=user_line(),
                fix="use the result that is returned.",
            )
        )


def renewed(x: Any) -> Any:
    """Return the same elements as an array of its own, as a copy would be."""
    return Tracer(x.recording, x.variable) if type(x) is Tracer else x.copy()


def view_of(source: Any, result: Any) -> Any:
    """Return `result`, noted as sharing the memory of `source` where the arrays would."""
    if type(source) is not Tracer or type(result) is not Tracer:
        return result
    if result is source:
        result = Tracer(source.recording, source.variable)
    return result.linked_as_view(source)


def method_with_sizes(function: Callable[..., Any], empty: Any = ()) -> Callable[..., Any]:
    """Return a method that takes sizes or axes as one tuple or as several arguments."""

    def method(self: Any, *sizes: Any, **keywords: Any) -> Any:
        if not sizes:
            return function(self, empty, **keywords)
        return function(self, sizes[0] if len(sizes) == 1 else sizes, **keywords)

    return method
