"""Functions that arrange the same elements as another shape.

Results that would be views in NumPy are noted as such, so that writing to one of two traced values
that share memory is refused. A traced value has no memory layout: order "A" and "K" mean "C".
"""

from __future__ import annotations

from math import prod as product
from typing import Any

import numpy as np

from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.avals import Shape
from autodiff.ir.builder import bind_primitive
from autodiff.ir.primitive import array_functions, methods, primitives, properties
from autodiff.numpy.arguments import axes_of, axis_of, method_with_sizes, renewed, sizes_of, view_of
from autodiff.numpy.dispatch import array_function
from autodiff.numpy.operands import array_of, permuted, reshaped, sliced
from autodiff.primitives.families import broadcast_to as broadcast

# ----------------------------------------------------------------------------------------- reshape


def _completed(x: Any, shape: Shape) -> Shape:
    """Return `shape` with -1 replaced by what makes the number of elements right."""
    size = x.size
    if -1 in shape:
        known = -product(shape)
        if shape.count(-1) == 1 and known > 0 and size % known == 0:
            return tuple([size // known if n == -1 else n for n in shape])
    elif product(shape) == size:
        return shape
    raise ValueError(
        message(
            "reshape",
            f"the shape must hold the array's {size} elements, with at most one -1",
            f"shape={shape} for an array of shape {x.shape}",
            line=user_line(),
        )
    )


def _reversed_axes(x: Any) -> Any:
    return permuted(x, tuple(range(x.ndim))[::-1])


def _reordered(x: Any, shape: Shape, order: str) -> Any:
    """Return `x` reshaped, its elements read and placed in the given order."""
    if order == "F" and (x.ndim > 1 or len(shape) > 1):
        return _reversed_axes(reshaped(_reversed_axes(x), shape[::-1]))
    if order not in ("C", "F", "A", "K"):
        raise ValueError(
            message(
                "reshape", "order must be 'C', 'F' or 'A'", f"order={order!r}", line=user_line()
            )
        )
    return reshaped(x, shape)


@array_function(np.reshape)
def reshape(a: Any, shape: Any, order: str = "C", *, copy: bool | None = None) -> Any:
    """Return the elements of `a` in an array of `shape`, of which one size may be -1."""
    x = array_of(a)
    result = _reordered(x, _completed(x, sizes_of(shape)), order)
    if copy:
        return renewed(result) if result is x else result
    return view_of(x, result)


methods["reshape"] = method_with_sizes(array_functions[np.reshape])


@array_function(np.ravel, method="ravel")
def ravel(a: Any, order: str = "C") -> Any:
    """Return the elements of `a` as one axis."""
    x = array_of(a)
    result = _reordered(x, (x.size,), order)
    return view_of(x, result) if order != "F" or x.ndim < 2 else result


def _flatten(x: Any, order: str = "C") -> Any:
    """Return a copy of the elements as one axis."""
    result = _reordered(array_of(x), (x.size,), order)
    return renewed(result) if result is x else result


methods["flatten"] = _flatten


# ---------------------------------------------------------------------------------- order of axes


@array_function(np.transpose)
def transpose(a: Any, axes: Any = None) -> Any:
    """Return `a` with its axes reversed, or in the order `axes`."""
    x = array_of(a)
    if axes is None:
        return view_of(x, _reversed_axes(x))
    permutation = axes_of("transpose", tuple(axes) if hasattr(axes, "__iter__") else axes, x.ndim)
    if len(permutation) != x.ndim:
        raise ValueError(
            message(
                "transpose",
                "axes must name every axis once",
                f"axes={axes} where ndim={x.ndim}",
                line=user_line(),
            )
        )
    return view_of(x, permuted(x, permutation))


array_function(np.permute_dims, name="permute_dims")(array_functions[np.transpose])
methods["transpose"] = method_with_sizes(array_functions[np.transpose], None)
properties["T"] = lambda x: view_of(x, _reversed_axes(x))


@array_function(np.matrix_transpose)
def matrix_transpose(x: Any, /) -> Any:
    """Return `x` with its last two axes exchanged."""
    x = array_of(x)
    if x.ndim < 2:
        raise ValueError(
            message(
                "matrix_transpose",
                "the array must have at least two axes",
                f"shape={x.shape}",
                line=user_line(),
            )
        )
    return swapaxes(x, -1, -2)


properties["mT"] = array_functions[np.matrix_transpose]


@array_function(np.swapaxes, method="swapaxes")
def swapaxes(a: Any, axis1: Any, axis2: Any) -> Any:
    """Return `a` with two axes exchanged."""
    x = array_of(a)
    i, j = axis_of("swapaxes", axis1, x.ndim), axis_of("swapaxes", axis2, x.ndim)
    order = list(range(x.ndim))
    order[i], order[j] = j, i
    return view_of(x, permuted(x, tuple(order)))


@array_function(np.moveaxis)
def moveaxis(a: Any, source: Any, destination: Any) -> Any:
    """Return `a` with axes `source` moved to positions `destination`, the others in order."""
    x = array_of(a)
    sources = axes_of("moveaxis", source, x.ndim)
    destinations = axes_of("moveaxis", destination, x.ndim)
    if len(sources) != len(destinations):
        raise ValueError(
            message(
                "moveaxis",
                "source and destination must name equally many axes",
                f"source={source}, destination={destination}",
                line=user_line(),
            )
        )
    order = [i for i in range(x.ndim) if i not in sources]
    for place, axis in sorted(zip(destinations, sources, strict=True)):
        order.insert(place, axis)
    return view_of(x, permuted(x, tuple(order)))


@array_function(np.rollaxis)
def rollaxis(a: Any, axis: int, start: int = 0) -> Any:
    """Return `a` with one axis moved to lie before position `start`."""
    x = array_of(a)
    axis = axis_of("rollaxis", axis, x.ndim)
    start = axis_of("rollaxis", start, x.ndim + 1) if start >= 0 else start + x.ndim
    order = [i for i in range(x.ndim) if i != axis]
    order.insert(start - (axis < start), axis)
    return view_of(x, permuted(x, tuple(order)))


# --------------------------------------------------------------------------------- axes of size 1


@array_function(np.squeeze, method="squeeze")
def squeeze(a: Any, axis: Any = None) -> Any:
    """Return `a` without its axes of size 1, or without those given."""
    x = array_of(a)
    if axis is None:
        shape = tuple([n for n in x.shape if n != 1])
    else:
        axes = axes_of("squeeze", axis, x.ndim) if x.ndim or axis not in (0, -1) else ()
        for i in axes:
            if x.shape[i] != 1:
                raise ValueError(
                    message(
                        "squeeze",
                        "an axis that is removed must be of size 1",
                        f"axis={axis} of an array of shape {x.shape}",
                        line=user_line(),
                    )
                )
        shape = tuple([n for i, n in enumerate(x.shape) if i not in axes])
    return view_of(x, reshaped(x, shape))


@array_function(np.expand_dims)
def expand_dims(a: Any, axis: Any) -> Any:
    """Return `a` with axes of size 1 at the positions `axis` of the result."""
    x = array_of(a)
    count = len(axis) if isinstance(axis, tuple | list) else 1
    axes = axes_of("expand_dims", axis, x.ndim + count)
    sizes = iter(x.shape)
    shape = tuple([1 if i in axes else next(sizes) for i in range(x.ndim + count)])
    return view_of(x, reshaped(x, shape))


def _with_axes(arrays: Any, shape_of: Any) -> Any:
    results = tuple(
        [view_of(x, reshaped(x, shape_of(x.shape))) for x in [array_of(a) for a in arrays]]
    )
    return results[0] if len(results) == 1 else results


@array_function(np.atleast_1d)
def atleast_1d(*arys: Any) -> Any:
    """Return arrays with at least one axis; several as a tuple."""
    return _with_axes(arys, lambda shape: shape or (1,))


@array_function(np.atleast_2d)
def atleast_2d(*arys: Any) -> Any:
    """Return arrays with at least two axes, added in front; several as a tuple."""
    return _with_axes(arys, lambda shape: (1,) * (2 - len(shape)) + shape)


def _three_axes(shape: Shape) -> Shape:
    if len(shape) == 2:
        return (*shape, 1)
    return shape if len(shape) > 2 else (1, *(shape or (1,)), 1)


@array_function(np.atleast_3d)
def atleast_3d(*arys: Any) -> Any:
    """Return arrays with at least three axes, a vector's in the middle; several as a tuple."""
    return _with_axes(arys, _three_axes)


# --------------------------------------------------------------------------------------- broadcast


def _broadcast_shape(function: str, shapes: list[Shape]) -> Shape:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ValueError(
            message(
                function,
                "the shapes must broadcast together",
                "shapes=" + ", ".join(map(str, shapes)),
                line=user_line(),
                fix="give them equal trailing axes, or axes of size 1 (x[:, None], reshape).",
            )
        ) from None


@array_function(np.broadcast_to)
def broadcast_to(array: Any, shape: Any, subok: bool = False) -> Any:
    """Return `array` repeated along new and size-1 axes to fill `shape`."""
    x = array_of(array)
    wanted = sizes_of(shape)
    if x.shape != wanted and _broadcast_shape("broadcast_to", [x.shape, wanted]) != wanted:
        raise ValueError(
            message(
                "broadcast_to",
                "the array's axes must be of size 1 or as in shape",
                f"shape={wanted} for an array of shape {x.shape}",
                line=user_line(),
            )
        )
    return view_of(x, broadcast(x, wanted))


@array_function(np.broadcast_arrays)
def broadcast_arrays(*args: Any, subok: bool = False) -> Any:
    """Return arrays broadcast to their common shape, as a tuple."""
    arrays = [array_of(a) for a in args]
    shape = _broadcast_shape("broadcast_arrays", [x.shape for x in arrays])
    return tuple([view_of(x, broadcast(x, shape)) for x in arrays])


# ----------------------------------------------------------------------------------- reversed axes


@array_function(np.flip)
def flip(m: Any, axis: Any = None) -> Any:
    """Return `m` with the order of elements along axes (all for None) reversed."""
    x = array_of(m)
    axes = tuple(range(x.ndim)) if axis is None else axes_of("flip", axis, x.ndim)
    if not axes:
        return view_of(x, x)
    params = {
        "starts": tuple([n - 1 if i in axes else 0 for i, n in enumerate(x.shape)]),
        "stops": tuple([-1 if i in axes else n for i, n in enumerate(x.shape)]),
        "steps": tuple([-1 if i in axes else 1 for i in range(x.ndim)]),
    }
    return view_of(x, bind_primitive(primitives["slice"], (x,), params))


def _flip_one(function: str, m: Any, axis: int) -> Any:
    x = array_of(m)
    if x.ndim <= axis:
        raise ValueError(
            message(
                function,
                f"the array must have at least {axis + 1} axes",
                f"shape={x.shape}",
                line=user_line(),
            )
        )
    return flip(x, axis)


@array_function(np.fliplr)
def fliplr(m: Any) -> Any:
    """Return `m` with its second axis reversed."""
    return _flip_one("fliplr", m, 1)


@array_function(np.flipud)
def flipud(m: Any) -> Any:
    """Return `m` with its first axis reversed."""
    return _flip_one("flipud", m, 0)


@array_function(np.rot90)
def rot90(m: Any, k: int = 1, axes: Any = (0, 1)) -> Any:
    """Return `m` turned by 90 degrees `k` times in the plane of two axes, first towards second."""
    x = array_of(m)
    first, second = axes_of("rot90", tuple(axes), x.ndim)
    k %= 4
    if k == 0:
        return view_of(x, x)
    if k == 2:
        return flip(x, (first, second))
    if k == 1:
        return swapaxes(flip(x, second), first, second)
    return flip(swapaxes(x, first, second), second)


@array_function(np.roll)
def roll(a: Any, shift: Any, axis: Any = None) -> Any:
    """Return `a` with elements moved on by `shift` along axes, those that fall off at the front."""
    x = array_of(a)
    if axis is None:
        return reshaped(roll(reshaped(x, (x.size,)), shift, 0), x.shape)
    shifts = shift if isinstance(shift, tuple | list) else (shift,)
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    pairs = np.broadcast(np.asarray(shifts), np.asarray(axes))
    result = x
    for amount, place in pairs:
        result = _rolled(result, int(amount), axis_of("roll", int(place), x.ndim))
    return renewed(result) if result is x else result


def _rolled(x: Any, shift: int, axis: int) -> Any:
    size = x.shape[axis]
    shift = shift % size if size else 0
    if shift == 0:
        return x
    parts = (sliced(x, axis, size - shift, size), sliced(x, axis, 0, size - shift))
    return bind_primitive(primitives["concatenate"], parts, {"axis": axis})
