"""Operations on shape and type: casts, broadcast, reshape, transpose, concatenate, iota."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from autodiff.base import dtypes as element_types
from autodiff.ir.avals import UNKNOWN, ArrayType, array_type, type_of
from autodiff.ir.builder import bind_primitive
from autodiff.ir.graph import Params
from autodiff.ir.primitive import Piece, Primitive, Samples, primitives
from autodiff.primitives.families import (
    batch_to,
    convert,
    elementwise,
    is_linear,
    library_op,
    shape_op,
)

Shape = tuple[int, ...]


# ------------------------------------------------------------------------------------------- casts


def _cast_reference(x: Any, *, dtype: np.dtype) -> Any:
    x = np.asanyarray(x) if isinstance(x, np.generic) else x
    if x.dtype.kind == "c" and element_types.kind(dtype) in "iuf":
        x = x.real
    return x.astype(dtype)


def _cast_jvp(t: Any, out: Any, x: Any, *, dtype: np.dtype) -> Any:
    return convert(t, dtype) if element_types.is_inexact(dtype) else None


def _cast(primitive: Primitive, operands: Sequence[Any], params: Params) -> Any:
    return bind_primitive(primitive, operands, {"dtype": np.dtype(params["dtype"])})


cast = elementwise(
    "cast",
    _cast_reference,
    doc="The same numbers as another element type; complex to real keeps the real part.",
    promote=lambda operands: (operands, operands),
    jvp=_cast_jvp,
    transpose=lambda ct, x, *, dtype: convert(ct, x.aval.dtype),
    public=False,
    simplify=lambda eqn, made_by: eqn.inputs[0],
    samples=Samples(
        points=(-1.5, 0.0, 2.0), params=tuple({"dtype": np.dtype(d)} for d in ("f4", "f8", "i4"))
    ),
    lower=lambda o, x, *, dtype: o.cast(x, dtype),
)
cast.type_rule = lambda x, *, dtype: array_type(x.shape, dtype)
cast.call = _cast


def _bitcast_type(x: ArrayType, *, dtype: np.dtype) -> ArrayType:
    if x.dtype.itemsize != dtype.itemsize:
        raise TypeError(
            f"bitcast: both element types must have one width, got types=({x.dtype}, {dtype})."
        )
    return array_type(x.shape, dtype)


bitcast = library_op(
    "bitcast",
    lambda x, *, dtype: x.view(dtype),
    doc="The same bits as another element type of the same width.",
    kind="elementwise",
    type_rule=_bitcast_type,
    batch=lambda size, operands, batched, params, mode: (
        (bind_primitive(bitcast, operands, params),),
        (True,),
    ),
    not_differentiable="bits have no derivative",
    samples=Samples(
        shapes=(((3,),),) * 4,
        params=tuple({"dtype": np.dtype(d)} for d in ("u2", "u4", "i8", "f4")),
        span=(0.0, 2.0),
    ),
    dtypes="iuf",
)
bitcast.view = True
bitcast.lower = lambda o, x, *, dtype: o.bitcast(x, dtype)


# ---------------------------------------------------------------------------- broadcast and friends


def _broadcast_reference(x: Any, *, shape: Shape, axes: Shape) -> Any:
    x_shape = np.shape(x)
    full = [1] * len(shape)
    for axis, size in zip(axes, x_shape, strict=True):
        full[axis] = size
    if UNKNOWN in shape:  # an open axis is one of the operand's
        shape = tuple(full[i] if size == UNKNOWN else size for i, size in enumerate(shape))
    return np.broadcast_to(np.reshape(x, full) if tuple(full) != x_shape else x, shape)


def _broadcast_type(x: ArrayType, *, shape: Shape, axes: Shape) -> ArrayType:
    assert len(axes) == x.ndim, (x, shape, axes)
    assert all(
        n in (1, shape[a]) or UNKNOWN in (n, shape[a]) for n, a in zip(x.shape, axes, strict=True)
    ), (x, shape, axes)
    return array_type(shape, x.dtype)


def _broadcast_strides(
    x: Shape, strides: Shape, offset: int, *, shape: Shape, axes: Shape
) -> tuple[Shape, int]:
    read = [0] * len(shape)
    for size, stride, axis in zip(x, strides, axes, strict=True):
        read[axis] = stride if size == shape[axis] else 0
    return tuple(read), offset


def _reshape_strides(
    x: Shape, strides: Shape, offset: int, *, shape: Shape
) -> tuple[Shape, int] | None:
    # Axes of size 1 come and go. Others are joined where the stride of one follows from that of the
    # next, and divided as they come: `left` elements of stride `step` are still to be divided.
    if UNKNOWN in (*x, *shape):
        return None
    rest = [(n, s) for n, s in zip(x, strides, strict=True) if n != 1]
    read: list[int] = []
    left, step = 1, 0
    for size in shape:
        if size == 1:
            read.append(0)
            continue
        while left % size:
            if not rest or (left != 1 and step != rest[0][0] * rest[0][1]):
                return None
            n, step = rest.pop(0)
            left *= n
        left //= size
        read.append(step * left)
    return (tuple(read), offset) if left == 1 and not rest else None


def _broadcast_transpose(ct: Any, aval: ArrayType, *, shape: Shape, axes: Shape) -> Any:
    stretched = [a for n, a in zip(aval.shape, axes, strict=True) if n == 1 and shape[a] != 1]
    summed = tuple(i for i in range(len(shape)) if i not in axes or i in stretched)
    total = bind_primitive(primitives["sum"], (ct,), {"axes": summed}) if summed else ct
    return reshape(total, shape=aval.shape) if total.shape != aval.shape else total


broadcast = shape_op(
    "broadcast",
    _broadcast_reference,
    doc="Axis i of x becomes axis axes[i] of an array of `shape`; x repeats along the others.",
    type_rule=_broadcast_type,
    transpose=_broadcast_transpose,
    batch=lambda size, shape_in, *, shape, axes: {
        "shape": (size, *shape),
        "axes": (0, *(axis + 1 for axis in axes)),
    },
    view=True,
    strides=_broadcast_strides,
    simplify=lambda eqn, made_by: eqn.inputs[0],
    samples=Samples(
        shapes=(((3,),), ((),), ((2, 1),)),
        params=(
            {"shape": (2, 3), "axes": (1,)},
            {"shape": (2,), "axes": ()},
            {"shape": (2, 4, 3), "axes": (0, 1)},
        ),
    ),
)


reshape = shape_op(
    "reshape",
    lambda x, *, shape: np.reshape(x, shape),
    doc="The same elements, in row-major order, as an array of `shape`.",
    type_rule=lambda x, *, shape: array_type(shape, x.dtype),
    transpose=lambda ct, aval, *, shape: reshape(ct, shape=aval.shape),
    batch=lambda size, shape_in, *, shape: {"shape": (size, *shape)},
    view=True,
    strides=_reshape_strides,
    simplify=lambda eqn, made_by: eqn.inputs[0],
    samples=Samples(
        shapes=(((2, 6),), ((4,),), ((1, 1),)),
        params=({"shape": (3, 4)}, {"shape": (2, 1, 2)}, {"shape": ()}),
    ),
)

transpose = shape_op(
    "transpose",
    lambda x, *, permutation: np.transpose(x, permutation),
    doc="Axis i of the result is axis permutation[i] of x.",
    type_rule=lambda x, *, permutation: array_type(tuple(x.shape[i] for i in permutation), x.dtype),
    transpose=lambda ct, aval, *, permutation: transpose(
        ct, permutation=tuple(int(i) for i in np.argsort(permutation))
    ),
    batch=lambda size, shape_in, *, permutation: {
        "permutation": (0, *(axis + 1 for axis in permutation))
    },
    view=True,
    strides=lambda x, strides, offset, *, permutation: (
        tuple(strides[i] for i in permutation),
        offset,
    ),
    simplify=lambda eqn, made_by: (
        eqn.inputs[0]
        if eqn.params["permutation"] == tuple(range(eqn.inputs[0].aval.ndim))
        else None
    ),
    samples=Samples(
        shapes=(((2, 3),), ((2, 3, 4),)),
        params=({"permutation": (1, 0)}, {"permutation": (2, 0, 1)}),
    ),
)


# ------------------------------------------------------------------------------- concatenate


def _concatenate_type(*avals: ArrayType, axis: int) -> ArrayType:
    first = avals[0]
    shape = list(first.shape)
    shape[axis] = sum(aval.shape[axis] for aval in avals)
    return array_type(tuple(shape), first.dtype)


def _concatenate_differentiate(
    outs: Any, operands: Any, tangents: Any, params: Any, mode: Any
) -> Any:
    filled = [
        zeros(type_of(x)) if t is None else t for x, t in zip(operands, tangents, strict=True)
    ]
    return (bind_primitive(concatenate, filled, params),)


def _concatenate_transpose(cts: Any, operands: Any, params: Any, mode: Any) -> Any:
    (ct,) = cts
    axis = params["axis"]
    results = []
    start = 0
    for operand in operands:
        shape = operand.aval.shape if is_linear(operand) else operand.shape
        stop = start + shape[axis]
        if is_linear(operand):
            starts = tuple(start if i == axis else 0 for i in range(ct.ndim))
            stops = tuple(stop if i == axis else n for i, n in enumerate(ct.shape))
            results.append(
                bind_primitive(
                    primitives["slice"],
                    (ct,),
                    {"starts": starts, "stops": stops, "steps": (1,) * ct.ndim},
                )
            )
        else:
            results.append(None)
        start = stop
    return results


def _concatenate_batch(size: int, operands: Any, batched: Any, params: Any, mode: Any) -> Any:
    operands = [batch_to(x, b, size) for x, b in zip(operands, batched, strict=True)]
    return (bind_primitive(concatenate, operands, {"axis": params["axis"] + 1}),), (True,)


def _concatenate_pieces(*shapes: Shape, axis: int) -> list[Piece]:
    pieces = []
    start = 0
    for i, shape in enumerate(shapes):
        starts = tuple(start if k == axis else 0 for k in range(len(shape)))
        stops = tuple(first + n for first, n in zip(starts, shape, strict=True))
        pieces.append((i, starts, stops, (1,) * len(shape)))
        start += shape[axis]
    return pieces


concatenate = library_op(
    "concatenate",
    lambda *xs, axis: np.concatenate(xs, axis),
    doc="Arrays laid end to end along `axis`.",
    kind="shape",
    type_rule=_concatenate_type,
    differentiate=_concatenate_differentiate,
    transpose=_concatenate_transpose,
    batch=_concatenate_batch,
    samples=Samples(
        shapes=(((2, 3), (2, 1)), ((4,), (0,), (1,))), params=({"axis": 1}, {"axis": 0})
    ),
)
concatenate.pieces = _concatenate_pieces


def _iota_reference(x: Any, *, axis: int, dtype: np.dtype) -> Any:
    shape = np.shape(x)
    line = np.arange(shape[axis], dtype=dtype, **({} if isinstance(x, np.ndarray) else {"like": x}))
    return np.broadcast_to(line.reshape((-1,) + (1,) * (len(shape) - 1 - axis)), shape)


iota = library_op(
    "iota",
    _iota_reference,
    doc="The position of each element of x along `axis`, whatever the element, as `dtype`.",
    kind="shape",
    type_rule=lambda x, *, axis, dtype: array_type(x.shape, dtype),
    batch=lambda size, operands, batched, params, mode: (
        (bind_primitive(iota, operands, {**params, "axis": params["axis"] + 1}),),
        (True,),
    ),
    not_differentiable="it does not depend on the elements",
    samples=Samples(
        shapes=(((3,),), ((2, 3),), ((2, 3),), ((2, 0),)),
        params=tuple(
            {"axis": axis, "dtype": np.dtype(dtype)}
            for axis, dtype in ((0, "i8"), (0, "u4"), (1, "f4"), (1, "i8"))
        ),
    ),
)
iota.affine = lambda x, *, axis, dtype: (tuple(int(k == axis) for k in range(len(x))), 0)


def positions(x: Any, axis: int, dtype: Any) -> Any:
    """Return the position of each element of an array along `axis`, traced if the array is."""
    return bind_primitive(iota, (x,), {"axis": axis % x.ndim, "dtype": np.dtype(dtype)})


def counting(like: Any, size: int, dtype: Any) -> Any:
    """Return 0, 1, ..., size - 1 on the device of the scalar `like`, traced if it is."""
    return positions(full(like, (size,)), 0, dtype)


def zeros(aval: ArrayType) -> Any:
    """Return zeros of a type, as an array that does not take memory per element."""
    zero = aval.dtype.type(0)
    return np.broadcast_to(np.asarray(zero), aval.shape) if aval.shape else zero


def full(value: Any, shape: Shape) -> Any:
    """Return a 0-d traced or plain value repeated to `shape`."""
    return bind_primitive(broadcast, (value,), {"shape": tuple(shape), "axes": ()})
