"""Operands for every primitive, made from nothing but its declaration.

`cases(primitive, dtype)` is the entry point: for one element type, the operands and parameters its
`Samples` ask for, prepared to the operation's own types. Elementwise operations are tried on arrays
of several shapes and memory layouts (`LAYOUTS`) and, in `point_case`, on all their points at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any
from zlib import crc32

import numpy as np

from autodiff.base import dtypes
from autodiff.ir.avals import ArrayType, array_type
from autodiff.ir.builder import Trace
from autodiff.ir.graph import Literal
from autodiff.ir.primitive import Primitive, primitives


@dataclass(frozen=True, slots=True)
class Case:
    """One application of a primitive: operands of its own types, and parameters."""

    primitive: Primitive
    operands: tuple[np.ndarray, ...]
    params: dict[str, Any]
    label: str

    def __call__(self, *operands: Any) -> tuple[Any, ...]:
        """Apply the primitive and return the tuple of its outputs."""
        result = self.primitive(*operands, **self.params)
        return result if self.primitive.multiple_outputs else (result,)

    def reference(self) -> tuple[Any, ...]:
        """Return the outputs the reference implementation gives on plain arrays."""
        with np.errstate(all="ignore"):
            result = self.primitive.reference(*self.operands, **self.params)
        return result if self.primitive.multiple_outputs else (result,)

    @property
    def moving(self) -> tuple[int, ...]:
        """Positions of the operands that can carry a derivative."""
        return tuple(i for i, x in enumerate(self.operands) if dtypes.is_inexact(x.dtype))

    def of_moving(self) -> Callable[..., tuple[Any, ...]]:
        """Return the primitive as a function of those operands, its floating outputs alone."""
        positions = self.moving

        def function(*moving: Any) -> tuple[Any, ...]:
            operands = list(self.operands)
            for i, x in zip(positions, moving, strict=True):
                operands[i] = x
            return tuple(y for y in self(*operands) if dtypes.is_inexact(y.dtype))

        return function


def names(condition: Callable[[Primitive], bool] = lambda primitive: True) -> list[str]:
    """Return the names of the primitives for which `condition` holds.

    Operations that hold graphs are left out, since what they do depends on the graph, and those
    across a named axis, which need a vmap around them: tests of their own try them.
    """
    return [
        name
        for name, primitive in primitives.items()
        if primitive.kind not in ("higher_order", "collective") and condition(primitive)
    ]


def is_elementwise(primitive: Primitive) -> bool:
    """Return whether operands of any shape are allowed and drawn by span."""
    samples = primitive.samples
    return primitive.kind == "elementwise" and not samples.shapes and samples.operands is None


def can_move(primitive: Primitive) -> bool:
    """Return whether the primitive claims a derivative."""
    has_rule = primitive.differentiate is not None or primitive.derivative is not None
    return has_rule and bool(set(primitive.dtypes) & set("fc"))


def generator(*key: Any) -> np.random.Generator:
    """Return random numbers that depend on `key` alone."""
    return np.random.default_rng(crc32(repr(key).encode()))


# ------------------------------------------------------------------------------------------- types


@cache
def arity(primitive: Primitive) -> int:
    """Return the number of operands of an elementwise primitive."""
    reference = primitive.reference
    if isinstance(reference, np.ufunc):
        return reference.nin
    if inspect.isfunction(inspect.unwrap(reference)):
        parameters = inspect.signature(reference).parameters.values()
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return sum(p.kind in positional and p.default is p.empty for p in parameters)
    accepted = [n for n in range(1, 5) if _accepts(reference, n)]
    return accepted[-1]


def _accepts(function: Any, count: int) -> bool:
    try:
        function(*[np.ones(1)] * count)
    except (TypeError, ValueError):
        return False
    return True


@cache
def own_types(primitive: Primitive, dtype: np.dtype) -> tuple[np.dtype, ...] | None:
    """Return the operand types an elementwise primitive works on when given `dtype` everywhere.

    None where it is not defined for `dtype`.
    """
    if dtypes.kind(dtype) not in primitive.dtypes:
        return None
    trace = Trace("types")
    inputs = [trace.input(array_type((2,), dtype)) for _ in range(arity(primitive))]
    try:
        primitive(*inputs, **primitive.samples.params[0])
    except TypeError:
        return None
    return tuple(atom.aval.dtype for atom in trace.eqns[-1].inputs)


def supported(primitive: Primitive) -> list[np.dtype]:
    """Return the element types to try a primitive with, each set of own operand types once."""
    if not is_elementwise(primitive):
        return [d for d in dtypes.SUPPORTED if dtypes.kind(d) in primitive.dtypes]
    kept: dict[Any, np.dtype] = {}
    for dtype in reversed(dtypes.SUPPORTED):
        own = own_types(primitive, dtype)
        if own is not None:
            kept.setdefault(own, dtype)
    return list(kept.values())


# -------------------------------------------------------------------------------------- operands


def draw(
    random: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype, span: tuple[Any, Any]
) -> np.ndarray:
    """Return random numbers in `span`; complex ones have imaginary parts in (-1, 1)."""
    low, high = span
    kind = dtypes.kind(dtype)
    if kind == "b":
        return random.integers(0, 2, size=shape).astype(bool)
    if kind in "iu":
        limits = np.iinfo(dtype)
        first = max(int(np.ceil(low)), int(limits.min), 0 if kind == "u" else int(limits.min))
        last = min(int(np.floor(high)), int(limits.max))
        return random.integers(first, max(last, first) + 1, size=shape).astype(dtype)
    numbers = random.uniform(low, high, size=shape)
    if kind == "c":
        numbers = numbers + 1j * random.uniform(-1, 1, size=shape)
    return np.asarray(numbers).astype(dtype)


def spans(primitive: Primitive, count: int) -> list[tuple[Any, Any]]:
    """Return the interval of each operand."""
    span = primitive.samples.span
    return list(span) if isinstance(span[0], tuple) else [span] * count


def _contiguous(random: Any, dtype: Any, span: Any) -> np.ndarray:
    return draw(random, (3, 5), dtype, span)


def _every_other(random: Any, dtype: Any, span: Any) -> np.ndarray:
    return draw(random, (5, 9), dtype, span)[::2, ::2]


def _backwards(random: Any, dtype: Any, span: Any) -> np.ndarray:
    return draw(random, (3, 5), dtype, span)[::-1, ::-1]


def _transposed(random: Any, dtype: Any, span: Any) -> np.ndarray:
    return draw(random, (5, 3), dtype, span).T


def _repeated(random: Any, dtype: Any, span: Any) -> np.ndarray:
    return np.broadcast_to(draw(random, (1, 5), dtype, span), (3, 5))


def _long(random: Any, dtype: Any, span: Any) -> np.ndarray:
    return draw(random, (131,), dtype, span)


def _without_axes(random: Any, dtype: Any, span: Any) -> np.ndarray:
    return draw(random, (), dtype, span)


def _single(random: Any, dtype: Any, span: Any) -> np.ndarray:
    return draw(random, (1,), dtype, span)


def _empty(random: Any, dtype: Any, span: Any) -> np.ndarray:
    return draw(random, (0, 3), dtype, span)


#: Makers of one operand, by the name of its layout; those of one list have one shape.
LAYOUTS: tuple[tuple[Callable[..., np.ndarray], ...], ...] = (
    (_contiguous, _every_other, _backwards, _transposed, _repeated),
    (_long,),
    (_without_axes,),
    (_single,),
    (_empty,),
)


def cases(primitive: Primitive, dtype: np.dtype, *, layouts: bool = False) -> list[Case]:
    """Return the cases of a primitive for one element type: one per parameters (and layout).

    Parameters that the type rule refuses for this type are left out.
    """
    return [case for case in _cases(primitive, dtype, layouts) if _is_accepted(case)]


def _is_accepted(case: Case) -> bool:
    if is_elementwise(case.primitive) or case.primitive.samples.operands is not None:
        return True
    try:
        case.primitive.output_types(types_of(case.operands), case.params)
    except TypeError:
        return False
    return True


def _cases(primitive: Primitive, dtype: np.dtype, layouts: bool) -> Iterator[Case]:
    samples = primitive.samples
    random = generator(primitive.name, dtype.name)
    if samples.operands is not None:
        for i, declared in enumerate(samples.params):
            params = retyped(declared, dtype)
            operands = samples.operands(dtype, random, **params)
            yield Case(primitive, tuple(operands), params, f"params {i}")
        return
    if samples.shapes:
        for i, (shapes, params) in enumerate(zip(samples.shapes, samples.params, strict=True)):
            drawn = zip(shapes, spans(primitive, len(shapes)), strict=True)
            operands = [draw(random, shape, dtype, span) for shape, span in drawn]
            yield Case(primitive, tuple(operands), params, f"params {i}")
            if layouts:
                strided = [_awkward(x) for x in operands]
                yield Case(primitive, tuple(strided), params, f"params {i}, strided")
        return
    own = own_types(primitive, dtype)
    assert own is not None, (primitive, dtype)
    ranges = spans(primitive, len(own))
    for i, params in enumerate(samples.params):
        for group in LAYOUTS if layouts else LAYOUTS[:1]:
            for k in range(len(group) if layouts else 1):
                makers = [group[(k + n) % len(group)] for n in range(len(own))]
                operands = [
                    make(random, d, span) for make, d, span in zip(makers, own, ranges, strict=True)
                ]
                label = f"params {i}, {' '.join(m.__name__.strip('_') for m in makers)}"
                yield Case(primitive, tuple(operands), params, label)


def retyped(params: dict[str, Any], dtype: np.dtype) -> dict[str, Any]:
    """Return parameters with scalar literals among them as numbers of the type under test."""
    return {
        name: Literal(np.asarray(value.value).astype(dtype)[()])
        if isinstance(value, Literal)
        else value
        for name, value in params.items()
    }


def _awkward(x: np.ndarray) -> np.ndarray:
    """Return an array equal to `x` whose every axis has a negative stride and gaps."""
    if x.ndim == 0:
        return x
    wide = np.zeros(tuple(2 * n for n in x.shape), x.dtype)
    view = wide[tuple(slice(None, None, -2) for _ in x.shape)]
    view[...] = x
    return view


# ---------------------------------------------------------------------------------------- points

#: Tried with every elementwise operation on floating numbers, beside its own points.
SPECIAL = (0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 5e-324, 2.5)


def point_case(
    primitive: Primitive, dtype: np.dtype, params: dict[str, Any], extra: tuple[float, ...] = ()
) -> Case:
    """Return a case whose operands hold every combination of the primitive's points."""
    own = own_types(primitive, dtype)
    assert own is not None, (primitive, dtype)
    values = [*primitive.samples.points, *extra]
    columns = [_points_as(values, d) for d in own]
    grid = list(product(*columns))
    operands = [
        np.array([row[i] for row in grid]).astype(d) if grid else np.zeros(0, d)
        for i, d in enumerate(own)
    ]
    return Case(primitive, tuple(operands), params, "points")


def _points_as(values: list[Any], dtype: np.dtype) -> list[Any]:
    """Return the values that `dtype` can hold; for complex types with imaginary parts too."""
    kind = dtypes.kind(dtype)
    if kind == "b":
        return [False, True]
    if kind in "iu":
        limits = np.iinfo(dtype)
        whole = [int(v) for v in values if np.isfinite(v) and v == int(v)]
        return sorted({v for v in whole if limits.min <= v <= limits.max})
    with np.errstate(over="ignore"):
        numbers = [np.asarray(v).astype(dtype)[()] for v in values]
    if kind == "c":
        numbers += [complex(v, part) for v in values[:6] for part in (-0.0, 0.5)]
    return numbers


def types_of(operands: tuple[np.ndarray, ...]) -> tuple[ArrayType, ...]:
    """Return the types of arrays."""
    return tuple(array_type(x.shape, x.dtype) for x in operands)


# -------------------------------------------------------------------------------------- comparing


def same_bits(found: Any, expected: Any) -> bool:
    """Return whether two arrays have one type, one shape and one value everywhere.

    The sign of zero counts; a NaN equals a NaN, whose sign and payload hardware chooses.
    """
    found, expected = np.asarray(found), np.asarray(expected)
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return False
    if dtypes.kind(found.dtype) == "c":
        return same_bits(found.real, expected.real) and same_bits(found.imag, expected.imag)
    if dtypes.kind(found.dtype) == "f":
        nan = np.isnan(expected)
        alike = (found == expected) & (np.signbit(found) == np.signbit(expected))
        return bool(np.all(np.where(nan, np.isnan(found), alike)))
    return bool(np.all(found == expected))
