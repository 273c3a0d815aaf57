"""What an array is read as, instead of being made: through views, paddings and concatenations.

    reading  ::=  read | number | choice | computed | counted
    read     ::=  atom strides offset bounds       elements of an array, only where all bounds hold
    counted  ::=  dtype strides offset             numbers that follow from the place alone
    choice   ::=  bounds inside outside            one reading where all bounds hold, else the other
    computed ::=  equation operands                an elementwise equation of readings

All strides are along the axes of the array that is read. `reading_of` goes back from an array to
what it is made of: a view changes strides, what lays operands out (`pieces` of its declaration)
adds bounds and choices, and an equation that is to be computed again is computed of what its
operands are read as. For `y = pad(x, 1) * w` over 6 points, `pad(x, 1)` is read as

    x at i0 - 1 where 1 <= i0 < 5

What cannot be read so, as a reshape of strided memory, is made and then read as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from autodiff.ir.graph import Atom, Eqn, Literal, Var, is_repeated_scalar
from autodiff.ir.primitive import Primitive
from autodiff.schedule.kernel_spec import Bound, contiguous_strides

Shape = tuple[int, ...]

#: Arrays laid out in one that are read through it at most; more of them are laid out first.
MOST_PIECES = 6

#: Readings that one reading consists of at most.
MOST_PARTS = 60


@dataclass(frozen=True, slots=True)
class Read:
    """An array's elements at `offset + sum(index * strides)`, read only where all bounds hold."""

    atom: Atom
    strides: Shape
    offset: int = 0
    bounds: tuple[Bound, ...] = ()


@dataclass(frozen=True, slots=True)
class Counted:
    """The number `offset + sum(index * strides)`."""

    dtype: np.dtype
    strides: Shape
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Choice:
    """The first reading where all bounds hold, elsewhere the second."""

    bounds: tuple[Bound, ...]
    inside: Reading
    outside: Reading


@dataclass(frozen=True, slots=True)
class Computed:
    """An elementwise equation applied to readings."""

    eqn: Eqn
    operands: tuple[Reading, ...]


Reading = Read | Counted | Literal | Choice | Computed

#: Strides and offset along other axes, from those along an array's own; None: there are none.
AxisMap = Callable[[Sequence[int], int], "tuple[Sequence[int], int] | None"]


class _Made(Exception):
    """An array cannot be read through."""


def reading_of(
    atom: Atom, made_by: Mapping[Var, Eqn], is_base: Callable[[Var], bool], again: frozenset[Var]
) -> Reading:
    """Return what an array is read as.

    Args:
        atom: the array.
        made_by: the equation that makes each value.
        is_base: whether a value is read as it is, whatever made it.
        again: values that are computed again where they are read.
    """
    if isinstance(atom, Literal):
        if is_repeated_scalar(atom.value):
            return Literal(np.asarray(atom.value).flat[0])
        return atom if atom.is_scalar else _whole(atom)
    eqn = made_by.get(atom)
    if eqn is None or is_base(atom):
        return _whole(atom)
    try:
        if atom in again:
            shape = atom.aval.shape
            operands = [
                _repeated(reading_of(x, made_by, is_base, again), x.aval.shape, shape)
                for x in eqn.inputs
            ]
            reading: Reading = Computed(eqn, tuple(operands))
        elif eqn.primitive.is_layout:
            reading = _through(eqn, lambda x: reading_of(x, made_by, is_base, again))
        else:
            return _whole(atom)
    except _Made:
        return _whole(atom)
    return reading if _size(reading) <= MOST_PARTS else _whole(atom)


def viewed(atom: Atom, made_by: Mapping[Var, Eqn], is_base: Callable[[Var], bool]) -> Read:
    """Return where all elements of an array are in memory, going back through views alone.

    So it can be read at any place. What lays out several arrays is made for that. Arguments are
    those of `reading_of`.
    """

    def is_no_view(var: Var) -> bool:
        eqn = made_by.get(var)
        return is_base(var) or eqn is None or eqn.primitive.strides is None

    if isinstance(atom, Literal):
        return _whole(atom)
    reading = reading_of(atom, made_by, is_no_view, frozenset())
    return reading if isinstance(reading, Read) else _whole(atom)


def _whole(atom: Atom) -> Read:
    return Read(atom, contiguous_strides(atom.aval.shape))


def _repeated(reading: Reading, before: Shape, after: Shape) -> Reading:
    """Return a number's reading as that of an array of it."""
    if before or not after:
        return reading
    return _moved(reading, before, after, lambda strides, offset: ((0,) * len(after), offset))


def _size(reading: Reading) -> int:
    if isinstance(reading, Choice):
        return 1 + _size(reading.inside) + _size(reading.outside)
    if isinstance(reading, Computed):
        return 1 + sum(map(_size, reading.operands))
    return 1


def _through(eqn: Eqn, read: Callable[[Atom], Reading]) -> Reading:
    """Return what the result of a layout is read as; raise `_Made` if it cannot be."""
    primitive, (out,) = eqn.primitive, eqn.outputs
    shapes = [x.aval.shape for x in eqn.inputs]
    if primitive.affine is not None:
        strides, offset = primitive.affine(*shapes, **eqn.params)
        return Counted(out.aval.dtype, tuple(strides), offset)
    if primitive.pieces is not None:
        pieces = [piece for piece in primitive.pieces(*shapes, **eqn.params) if _count(piece)]
        return _laid_out(eqn, pieces, read)
    rule, shape, after = primitive.strides, shapes[0], out.aval.shape
    assert rule is not None

    def along(strides: Sequence[int], offset: int) -> Any:
        return rule(shape, tuple(strides), offset, **eqn.params)

    return _moved(read(eqn.inputs[0]), shape, after, along)


def _count(piece: Any) -> int:
    _, *ranges = piece
    return prod(len(range(*axis)) for axis in zip(*ranges, strict=True))


def _laid_out(eqn: Eqn, pieces: Sequence[Any], read: Callable[[Atom], Reading]) -> Reading:
    """Return choices between operands, each where it is laid: the last one without asking."""
    shape = eqn.outputs[0].aval.shape
    if len(pieces) > MOST_PIECES:
        raise _Made
    is_full = sum(map(_count, pieces)) >= prod(shape)
    reading: Reading = Literal(eqn.outputs[0].aval.dtype.type(0))
    for k, piece in enumerate(reversed(pieces)):
        operand = eqn.inputs[piece[0]]
        bounds = _box(shape, piece)
        laid = _moved(read(operand), operand.aval.shape, shape, _shift(piece))
        laid = _bounded(laid, bounds, shape)
        if not bounds or (k == 0 and is_full):
            reading = laid
        elif isinstance(laid, Read) and k == 0 and set(bounds) <= set(laid.bounds):
            reading = laid  # which is 0 outside its bounds by itself
        else:
            reading = Choice(bounds, laid, reading)
    return reading


def _shift(piece: Any) -> AxisMap:
    """Return how strides of an operand are strides of the array that it is laid out in."""
    _, starts, stops, steps = piece
    ranges = [range(*axis) for axis in zip(starts, stops, steps, strict=True)]
    steps = [step if len(r) > 1 else 1 for r, step in zip(ranges, steps, strict=True)]
    if any(abs(step) != 1 for step in steps):
        raise _Made  # elements apart

    def along(strides: Sequence[int], offset: int) -> tuple[Shape, int]:
        moved = tuple(s * step for s, step in zip(strides, steps, strict=True))
        return moved, offset - sum(s * start for s, start in zip(moved, starts, strict=True))

    return along


def _box(shape: Shape, piece: Any) -> tuple[Bound, ...]:
    """Return the bounds of the part that a piece fills."""
    _, *ranges = piece
    bounds = []
    for axis, (n, limits) in enumerate(zip(shape, zip(*ranges, strict=True), strict=True)):
        places = sorted(range(*limits))
        if len(places) < n:
            unit = tuple(int(i == axis) for i in range(len(shape)))
            bounds.append(Bound(unit, places[0], places[-1] + 1))
    return tuple(bounds)


def _bounded(reading: Reading, bounds: tuple[Bound, ...], shape: Shape) -> Reading:
    """Return a reading of which nothing is read where bounds do not hold."""
    if isinstance(reading, Read):
        # Where a number is read at one place, that place is always there.
        axes = [i for i, s in enumerate(reading.strides) if s and shape[i] != 1]
        needed = [b for b in bounds if any(b.strides[i] for i in axes)]
        return replace(reading, bounds=tuple(dict.fromkeys((*reading.bounds, *needed))))
    if isinstance(reading, Choice):
        inside, outside = (_bounded(x, bounds, shape) for x in (reading.inside, reading.outside))
        return Choice(reading.bounds, inside, outside)
    if isinstance(reading, Computed):
        operands = tuple(_bounded(x, bounds, shape) for x in reading.operands)
        return replace(reading, operands=operands)
    return reading


# ---- along other axes


def _moved(reading: Reading, before: Shape, after: Shape, along: AxisMap) -> Reading:
    """Return a reading of an array of shape `before` along the axes of one of shape `after`."""
    if isinstance(reading, Literal):
        return reading
    if isinstance(reading, Computed):
        operands = tuple(_moved(x, before, after, along) for x in reading.operands)
        return replace(reading, operands=operands)
    if isinstance(reading, Counted):
        strides, offset = _required(along(reading.strides, reading.offset))
        return Counted(reading.dtype, tuple(strides), offset)
    bounds = _moved_bounds(reading.bounds, before, after, along)
    if isinstance(reading, Choice):
        outside = _moved(reading.outside, before, after, along)
        if bounds is None:
            return outside
        inside = _moved(reading.inside, before, after, along)
        return Choice(bounds, inside, outside) if bounds else inside
    if bounds is None:
        return Literal(reading.atom.aval.dtype.type(0))
    strides, offset = _required(along(reading.strides, reading.offset))
    return Read(reading.atom, tuple(strides), offset, bounds)


def _required(found: Any) -> Any:
    if found is None:
        raise _Made
    return found


def _moved_bounds(
    bounds: Sequence[Bound], before: Shape, after: Shape, along: AxisMap
) -> tuple[Bound, ...] | None:
    """Return bounds along other axes without those that always hold; None if one never does."""
    moved = []
    for bound in bounds:
        one = _moved_bound(bound, before, after, along)
        ends = [(0, s * (n - 1)) for s, n in zip(one.strides, after, strict=True)]
        least, largest = sum(map(min, ends)), sum(map(max, ends))
        if largest < one.start or least >= one.stop:
            return None
        if least < one.start or largest >= one.stop:
            moved.append(one)
    return tuple(moved)


def _moved_bound(bound: Bound, before: Shape, after: Shape, along: AxisMap) -> Bound:
    """Return a bound along other axes.

    Where a bounded axis is joined with axes after it, `start <= i < stop` is what
    `n start <= n i + j < n stop` is for all j from 0 to before n.
    """
    last = max((i for i, s in enumerate(bound.strides) if s), default=-1)
    for end in range(last + 1, len(before) + 1):
        n = prod(before[last + 1 : end])
        inner = contiguous_strides(before[last + 1 : end])
        strides = [n * s for s in bound.strides[: last + 1]] + [*inner]
        strides += [0] * (len(before) - end)
        found = along(strides, 0)
        if found is not None:
            own = tuple(0 if size == 1 else s for s, size in zip(found[0], after, strict=True))
            start, stop = n * bound.start - found[1], n * bound.stop - found[1]
            if max(own, default=0) <= 0:  # the same bound, counted upwards
                own, start, stop = tuple(-s for s in own), 1 - stop, 1 - start
            return Bound(own, start, stop)
    raise _Made


def atoms_of(reading: Reading) -> list[Atom]:
    """Return the arrays that a reading reads, in order."""
    if isinstance(reading, Read):
        return [reading.atom]
    if isinstance(reading, Choice):
        return [*atoms_of(reading.inside), *atoms_of(reading.outside)]
    if isinstance(reading, Computed):
        return [atom for x in reading.operands for atom in atoms_of(x)]
    return []


def sources(eqn: Eqn, made_by: Mapping[Var, Eqn]) -> list[Var]:
    """Return the values that an equation's operands are read from through layouts, in order.

    Through what lays out several operands, only those of its whole shape are looked at.
    """
    found: list[Var] = []
    stack: list[Any] = [*reversed(eqn.inputs)]
    while stack:
        atom = stack.pop()
        made = made_by.get(atom) if isinstance(atom, Var) else None
        primitive: Primitive | None = None if made is None else made.primitive
        if made is None or primitive is None or not primitive.is_layout:
            if isinstance(atom, Var) and atom not in found:
                found.append(atom)
        elif primitive.strides is not None:
            stack.append(made.inputs[0])
        elif primitive.pieces is not None:
            shape = made.outputs[0].aval.shape
            stack += [x for x in reversed(made.inputs) if x.aval.shape == shape]
    return found
