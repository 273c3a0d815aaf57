"""Operations across a named mapped axis, as functions inside `vmap(..., axis_name=...)` have them.

Such an operation is recorded with the types of one example. Besides what it works on it has the
example's position along the axis for an operand: its value is not read, but it is mapped wherever
the axis is, so that the operation stays with the vmap that names the axis, whatever trace it is
recorded in and whatever its other operands depend on. `batch` resolves it when that axis becomes an
array's first; under any other axis it is batched as an elementwise operation is. `axis_name` is the
axis's identity (api/named_axes.py).

Derivatives follow JAX: the transpose of a sum over examples is a sum over examples, since each
example's cotangent is that of its own copy of the sum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from autodiff.base.errors import message
from autodiff.base.source_info import user_line
from autodiff.ir.avals import ArrayType, array_type
from autodiff.ir.builder import bind_primitive
from autodiff.ir.graph import Literal
from autodiff.ir.primitive import Primitive, Samples, primitives, register
from autodiff.primitives.arithmetic import multiply, where
from autodiff.primitives.families import batch_to, convert, expand_reduced, move_axis
from autodiff.primitives.indexing import gather
from autodiff.primitives.reductions import max_, min_, sum_

Permutation = tuple[tuple[int, int], ...]


def _unresolved(name: str, axis: Any) -> NoReturn:
    raise ValueError(
        message(
            name,
            "it must run inside the vmap that names its axis",
            f"axis_name={axis!r} where no such vmap is in force",
            line=user_line(),
            fix=f"map the function with vmap(..., axis_name={axis!r}).",
        )
    )


def _collective(
    name: str,
    *,
    doc: str,
    type_rule: Callable[..., ArrayType],
    transpose: Callable[..., Any],
    resolve: Callable[..., tuple[Any, bool]],
    shifted: Callable[..., dict[str, Any]] = lambda **params: params,
) -> Primitive:
    """Declare an operation of (x, position) that is linear in x.

    `transpose(ct, position, aval, axis_name, **params) -> ct`; `resolve(x, batched, size, **params)
    -> output, whether it has the axis`; `shifted(**params)`: the parameters where x has an axis of
    another vmap in front.
    """

    def reference(x: Any, position: Any, *, axis_name: Any, **params: Any) -> Any:
        _unresolved(name, axis_name)

    def differentiate(outs: Any, operands: Any, tangents: Any, params: Any, mode: Any) -> Any:
        return (bind_primitive(primitives[name], (tangents[0], operands[1]), params),)

    def transpose_rule(cts: Any, operands: Any, params: Any, mode: Any) -> Any:
        x, position = operands
        return transpose(cts[0], position, x.aval, **params), None

    def batch(size: int, operands: Any, batched: Any, params: Any, mode: Any) -> Any:
        x, _ = operands
        axis_name, others = params["axis_name"], {k: params[k] for k in params if k != "axis_name"}
        if mode.axis_name == axis_name:
            out, flag = resolve(x, batched[0], size, **others)
            return (out,), (flag,)
        if batched[0]:
            params = {"axis_name": axis_name, **shifted(**others)}
        return (bind_primitive(primitives[name], operands, params),), (batched[0],)

    return register(
        Primitive(
            name=name,
            kind="collective",
            doc=doc,
            type_rule=lambda x, position, *, axis_name, **params: type_rule(x, **params),
            reference=reference,
            differentiate=differentiate,
            transpose=transpose_rule,
            batch=batch,
            samples=Samples(params=()),
        )
    )


# --------------------------------------------------------------------------------------------- sum


def times_size(x: Any, size: int) -> Any:
    """Return the sum of `size` copies of `x`, in its own type."""
    return multiply(x, np.asarray(size).astype(x.dtype)[()])


def _resolve_psum(x: Any, batched: bool, size: int) -> tuple[Any, bool]:
    return (sum_(x, axes=(0,)) if batched else times_size(x, size)), False


psum = _collective(
    "psum",
    doc="Sum over the examples along the axis, the same for each.",
    type_rule=lambda x: x.strong(),
    transpose=lambda ct, position, aval, *, axis_name: bind_primitive(
        psum, (ct, position), {"axis_name": axis_name}
    ),
    resolve=_resolve_psum,
)


# ------------------------------------------------------------------------------- gather and scatter


def _gathered_type(x: ArrayType, *, axis: int, length: int) -> ArrayType:
    return array_type((*x.shape[:axis], length, *x.shape[axis:]), x.dtype)


def _resolve_all_gather(x: Any, batched: bool, size: int, *, axis: int, length: int) -> Any:
    return move_axis(batch_to(x, batched, length), 0, axis), False


all_gather = _collective(
    "all_gather",
    doc="The examples along the axis, stacked along a new axis of their arrays, for each the same.",
    type_rule=_gathered_type,
    transpose=lambda ct, position, aval, *, axis_name, axis, length: bind_primitive(
        psum_scatter, (ct, position), {"axis_name": axis_name, "axis": axis}
    ),
    resolve=_resolve_all_gather,
    shifted=lambda *, axis, length: {"axis": axis + 1, "length": length},
)


def _resolve_psum_scatter(x: Any, batched: bool, size: int, *, axis: int) -> tuple[Any, bool]:
    total, _ = _resolve_psum(x, batched, size)
    return move_axis(total, axis, 0), True


psum_scatter = _collective(
    "psum_scatter",
    doc="Sum over the examples along the axis, of which each gets the part at its position.",
    type_rule=lambda x, *, axis: array_type((*x.shape[:axis], *x.shape[axis + 1 :]), x.dtype),
    transpose=lambda ct, position, aval, *, axis_name, axis: bind_primitive(
        all_gather,
        (ct, position),
        {"axis_name": axis_name, "axis": axis, "length": aval.shape[axis]},
    ),
    resolve=_resolve_psum_scatter,
    shifted=lambda *, axis: {"axis": axis + 1},
)


# ----------------------------------------------------------------------------------------- permute


def _resolve_ppermute(x: Any, batched: bool, size: int, *, perm: Permutation) -> Any:
    sources = np.full(size, size)  # beyond the last: nothing arrives
    for source, destination in perm:
        sources[destination] = source
    params = {
        "axes": (0,),
        "mode": "fill",
        "fill_value": Literal(x.dtype.type(0)),
        "batch_axes": 0,
        "unique": True,
    }
    return bind_primitive(gather, (batch_to(x, batched, size), sources), params), True


def inverse(perm: Permutation) -> Permutation:
    """Return the permutation that sends back."""
    return tuple(sorted((destination, source) for source, destination in perm))


ppermute = _collective(
    "ppermute",
    doc="The array of another example along the axis: perm lists (source, destination); zeros "
    "where nothing is sent.",
    type_rule=lambda x, *, perm: x.strong(),
    transpose=lambda ct, position, aval, *, axis_name, perm: bind_primitive(
        ppermute, (ct, position), {"axis_name": axis_name, "perm": inverse(perm)}
    ),
    resolve=_resolve_ppermute,
)


# ----------------------------------------------------------------------------------------- extrema


def _extremum(name: str, reduction: Primitive, doc: str) -> Primitive:
    """Declare an extremum over several named axes and the array's own `axes` at once.

    Operands are x and one position for each of `axis_names`. That both kinds of axes belong to one
    operation lets ties share the derivative equally, however far the axes are resolved.
    """

    def reference(x: Any, *positions: Any, axes: Any, axis_names: tuple[Any, ...]) -> Any:
        _unresolved(name, axis_names[0])

    def type_rule(x: ArrayType, *positions: ArrayType, axes: Any, axis_names: Any) -> ArrayType:
        return array_type(tuple(n for i, n in enumerate(x.shape) if i not in axes), x.dtype)

    def differentiate(outs: Any, operands: Any, tangents: Any, params: Any, mode: Any) -> Any:
        x, *positions = operands
        axes = params["axes"]

        def total(value: Any) -> Any:
            value = sum_(value, axes=axes) if axes else value
            for axis_name, position in zip(params["axis_names"], positions, strict=True):
                value = bind_primitive(psum, (value, position), {"axis_name": axis_name})
            return value

        winners = x == expand_reduced(outs[0], x.shape, axes)
        count = total(convert(winners, x.dtype))
        count = where(count == 0, x.dtype.type(1), count)  # NaN has no winner
        return (total(where(winners, tangents[0], x.dtype.type(0))) / count,)

    def batch(size: int, operands: Any, batched: Any, params: Any, mode: Any) -> Any:
        x, *positions = operands
        axes, names = params["axes"], params["axis_names"]
        if batched[0]:
            axes = tuple(axis + 1 for axis in axes)
        is_batched = batched[0]
        if mode.axis_name in names:
            i = names.index(mode.axis_name)
            names, positions = names[:i] + names[i + 1 :], positions[:i] + positions[i + 1 :]
            if is_batched:  # else all examples are equal
                axes, is_batched = (0, *axes), False
        if names:
            params = {"axes": axes, "axis_names": names}
            out = bind_primitive(primitives[name], (x, *positions), params)
        else:
            out = reduction(x, axes=axes) if axes else x
        return (out,), (is_batched,)

    return register(
        Primitive(
            name=name,
            kind="collective",
            doc=doc,
            type_rule=type_rule,
            reference=reference,
            differentiate=differentiate,
            transpose=None,
            batch=batch,
            samples=Samples(params=()),
        )
    )


pmax = _extremum("pmax", max_, "Largest over the examples along the axes; ties share.")
pmin = _extremum("pmin", min_, "Smallest over the examples along the axes; ties share.")
