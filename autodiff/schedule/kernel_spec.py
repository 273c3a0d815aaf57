"""A kernel as data: what is computed at every point of an index space, and what of it is stored.

    spec     ::=  shape rows loads values stores
    load     ::=  operand dtype strides offset bound*
    bound    ::=  strides start stop
    value    ::=  compute | reduce | scan | gather | choose | position | location
    choose   ::=  bound* inside outside
    position ::=  dtype strides offset
    gather   ::=  operand dtype strides offset place+ mode fill
    location ::=  dtype strides place+ mode missing
    place    ::=  index size stride
    store    ::=  value dtype strides offset over | update
    update   ::=  value dtype strides offset place+ mode combination initial over order

The index space is a box; its first `rows` axes number the rows, the others are the points of a row.
Values are numbered: loads first, then the others in order; each is known at points or in rows. What
is computed of values in rows alone is in rows, everything else at points, where a value in rows is
the same all along its row. A reduction takes a value at points to one in rows. A scan is a value at
points that depends on the points of the row up to its own; a row is gone through from its first
point to its last, so that one from the end has axes with negative strides. A value at points that
needs a reduction's result belongs to a later pass over the row than that reduction; `passes`
numbers them. Strides are in elements; a stride of 0 repeats, a negative one goes backwards.

A gather is a value at points that is read where integer values say: each of its places adds its
index, brought into the range of an axis as `mode` says, times the stride of that axis. An update is
an array of which some elements are combined with a value, where integer values say; there may be
several for one element, and they are combined in the order of the points, the last axis fastest.
A location is the number that says where such an element is.

Bounds say where in the index space something holds: where all of them hold. A load reads nothing
outside its bounds, where its place may be outside its array, and is 0 there. So padding is a load
with bounds, and arrays laid end to end are choices between such loads. A position is a number that
follows from the place alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

from autodiff.base import dtypes
from autodiff.ir.graph import Literal
from autodiff.ir.primitive import Combination, Primitive

#: What a value is computed from: the number of another value, or a number.
Operand = int | Literal


@dataclass(frozen=True, slots=True)
class Bound:
    """The part of an index space where `start <= sum(index * strides) < stop`."""

    strides: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Load:
    """An array read at element `offset + sum(index * strides)` where all bounds hold, else 0.

    It is known in rows if all strides of the points of a row are 0, those of bounds too.
    """

    operand: int
    dtype: np.dtype
    strides: tuple[int, ...]
    offset: int = 0
    bounds: tuple[Bound, ...] = ()


@dataclass(frozen=True, slots=True)
class Compute:
    """A value computed by an elementwise operation; `params` are its parameters as pairs.

    `output`: which output of the operation it is. Values that differ in it alone are computed
    together, once.
    """

    primitive: Primitive
    operands: tuple[Operand, ...]
    params: tuple[tuple[str, Any], ...]
    dtype: np.dtype
    source: Any = field(default=None, compare=False)
    output: int = 0

    @property
    def application(self) -> Any:
        """What values computed together have in common."""
        return self.primitive, self.operands, self.params


@dataclass(frozen=True, slots=True)
class Reduce:
    """A value of a row: another one, known at points, combined over the points of the row.

    Elements are taken as `accumulated`, combined so, and rounded to `dtype` once, at the end. The
    operand is of one of these two types.
    """

    primitive: Primitive
    operand: int
    dtype: np.dtype
    source: Any = field(default=None, compare=False)

    @property
    def accumulated(self) -> np.dtype:
        """The type that elements are combined in: single for half precisions."""
        is_half = dtypes.is_float(self.dtype) and self.dtype.itemsize == 2
        return np.dtype(np.float32) if is_half else self.dtype


@dataclass(frozen=True, slots=True)
class Scan:
    """A value at points: a cumulative operation's result for the points of the row up to this one.

    With `block` 1 a result is made from the one before it and the operands of its point, by the
    operation's `advance`. A larger block is a power of 2: as many points, from the first of the row
    on, are combined among themselves, by the same rule, in steps 1, 2, 4, .. apart, and then with
    the result before the block. So the order of rounding is part of the kernel: of those for
    processors. On a GPU it follows from how threads share a row (codegen/cuda_scans.py), and halves
    are carried in single precision.
    """

    primitive: Primitive
    operands: tuple[Operand, ...]
    dtype: np.dtype
    block: int
    source: Any = field(default=None, compare=False)

    @property
    def accumulated(self) -> np.dtype:
        """The type of what is carried from point to point: every result is rounded."""
        return self.dtype


@dataclass(frozen=True, slots=True)
class Place:
    """A place along an axis: an integer value, and the axis's size and stride."""

    index: Operand
    size: int
    stride: int


@dataclass(frozen=True, slots=True)
class Gather:
    """A value at points: an array's element `offset + sum(index * strides) + places`.

    `mode`: what an index outside 0 .. size - 1 does: "clip" takes the nearest, "wrap" counts modulo
    the size, "fill" reads `fill`; "promise" says that there is none, and nothing outside the array
    is read if there is.
    """

    operand: int
    dtype: np.dtype
    strides: tuple[int, ...]
    offset: int
    places: tuple[Place, ...]
    mode: str
    fill: Literal | None = None
    source: Any = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Choose:
    """The first value where all bounds hold, elsewhere the second."""

    bounds: tuple[Bound, ...]
    operands: tuple[Operand, Operand]
    dtype: np.dtype


@dataclass(frozen=True, slots=True)
class Position:
    """The number `offset + sum(index * strides)`."""

    dtype: np.dtype
    strides: tuple[int, ...]
    offset: int = 0

    @property
    def operands(self) -> tuple[Operand, ...]:
        """The values that it is computed from: none."""
        return ()


@dataclass(frozen=True, slots=True)
class Location:
    """A value at points: the number `sum(index * strides) + places`.

    `mode` is as for `Update`; where "drop" drops, it is `missing`.
    """

    dtype: np.dtype
    strides: tuple[int, ...]
    places: tuple[Place, ...]
    mode: str
    missing: int = -1


@dataclass(frozen=True, slots=True)
class Order:
    """An array by which updates are gone through: those of one element are neighbours in it.

    Operand `operand` holds, in ascending order, a number `slot * 2**bits + write` for each write: a
    point of the first `axes` axes, in their order. Writes are at the same elements if their slots
    are the same; those in slot `slots` are dropped.
    """

    operand: int
    dtype: np.dtype
    axes: int
    bits: int
    slots: int


@dataclass(frozen=True, slots=True)
class Store:
    """An output array, written at element `offset + sum(index * strides)`.

    It may take the memory of the operand `over`, each element of which is read only for the one
    that is written there.
    """

    value: int
    dtype: np.dtype
    strides: tuple[int, ...]
    shape: tuple[int, ...]
    offset: int = 0
    over: int | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """An output array, at first a copy of operand `initial` or full of that number.

    For each point in order its element x at `offset + sum(index * strides) + places` becomes
    `combination.combine(o, x, value)` (ir/primitive.py). `mode` is as for `Gather`, but that
    instead of "fill" there is "drop", which changes nothing. It may take the memory of the operand
    `over`, which is the one it is a copy of: where it does, nothing need be copied.

    `unique`: no two points are at one element. `order`: by what those that are can be found.
    """

    value: Operand
    dtype: np.dtype
    strides: tuple[int, ...]
    shape: tuple[int, ...]
    offset: int
    places: tuple[Place, ...]
    mode: str
    combination: Combination
    initial: int | Literal
    over: int | None = None
    unique: bool = False
    order: Order | None = None


#: What a kernel computes.
KernelValue = Compute | Reduce | Scan | Gather | Choose | Position | Location

#: What is at places given by integer values.
Placed = Gather | Location | Update


@dataclass(frozen=True, slots=True, repr=False)
class KernelSpec:
    """One kernel. Equal specs are one kernel, whatever lines they come from.

    `total`: the points of all rows together, where the last row has fewer than the others.
    """

    shape: tuple[int, ...]
    rows: int
    loads: tuple[Load, ...]
    values: tuple[KernelValue, ...]
    stores: tuple[Store | Update, ...]
    total: int | None = None

    @property
    def row_count(self) -> int:
        """The number of rows."""
        return prod(self.shape[: self.rows])

    @property
    def row_size(self) -> int:
        """The number of points of a row."""
        return prod(self.shape[self.rows :])

    @property
    def reduces(self) -> bool:
        """Whether there is a reduction."""
        return any(isinstance(value, Reduce) for value in self.values)

    @property
    def reuses(self) -> bool:
        """Whether an output takes the memory of an operand."""
        return any(store.over is not None for store in self.stores)

    @property
    def scans(self) -> tuple[Scan, ...]:
        """The values that depend on the points before theirs."""
        return tuple([value for value in self.values if isinstance(value, Scan)])

    @property
    def updates(self) -> tuple[Update, ...]:
        """The outputs that are combined with values one after the other."""
        return tuple([store for store in self.stores if isinstance(store, Update)])

    @property
    def operands(self) -> dict[int, np.dtype]:
        """The arrays it reads, in order of their numbers, with their element types."""
        types = {load.operand: load.dtype for load in self.loads}
        for value in self.values:
            if isinstance(value, Gather):
                types[value.operand] = value.dtype
        for update in self.updates:
            if isinstance(update.initial, int):
                types[update.initial] = update.dtype
            if update.order is not None:
                types[update.order.operand] = update.order.dtype
        return dict(sorted(types.items()))

    @property
    def operand_types(self) -> tuple[np.dtype, ...]:
        """The element types of the arrays it reads."""
        assert list(self.operands) == list(range(len(self.operands))), self.operands
        return tuple(self.operands.values())

    @property
    def is_pointwise(self) -> bool:
        """Whether there is no reduction and no scan."""
        return not self.reduces and not self.scans

    def dtype_of(self, value: int) -> np.dtype:
        """Return a value's element type."""
        if value < len(self.loads):
            return self.loads[value].dtype
        return self.values[value - len(self.loads)].dtype

    def __str__(self) -> str:
        return format_spec(self)

    def __repr__(self) -> str:
        return f"<kernel over {self.shape}>"


def read_by(value: KernelValue) -> tuple[int, ...]:
    """Return the numbers of the values that one is computed from."""
    if isinstance(value, Reduce):
        return (value.operand,)
    is_placed = isinstance(value, Gather | Location)
    operands = place_indices(value) if is_placed else value.operands
    return tuple([x for x in operands if isinstance(x, int)])


def place_indices(x: Placed) -> tuple[Operand, ...]:
    """Return the integer values that say where something is read or written."""
    return tuple([place.index for place in x.places])


def renumbered(value: KernelValue, number: Callable[[int], int]) -> KernelValue:
    """Return a value computed from others, each at its new number."""
    if isinstance(value, Position):
        return value
    if isinstance(value, Reduce):
        return replace(value, operand=number(value.operand))
    if isinstance(value, Gather | Location):
        places = [replace(x, index=_numbered(x.index, number)) for x in value.places]
        return replace(value, places=tuple(places))
    operands = tuple([_numbered(x, number) for x in value.operands])
    return replace(value, operands=operands)


def update_renumbered(update: Update, number: Callable[[int], int]) -> Update:
    """Return an update by values that are at new numbers."""
    places = [replace(x, index=_numbered(x.index, number)) for x in update.places]
    return replace(update, value=_numbered(update.value, number), places=tuple(places))


def _numbered(x: Operand, number: Callable[[int], int]) -> Operand:
    return number(x) if isinstance(x, int) else x


def with_operands(spec: KernelSpec, place: Mapping[int, int]) -> KernelSpec:
    """Return a kernel that finds each of its operands at another place."""

    def moved(x: Any) -> Any:
        if isinstance(x, Load | Gather):
            return replace(x, operand=place[x.operand])
        if isinstance(x, Update):
            assert x.order is None, "it is that of a stage of a kernel"
            return replace(x, initial=place[x.initial]) if isinstance(x.initial, int) else x
        return x

    parts = (spec.loads, spec.values, spec.stores)
    loads, values, stores = (tuple(map(moved, part)) for part in parts)
    return replace(spec, loads=loads, values=values, stores=stores)


def affine_maps(x: Load | KernelValue | Store | Update) -> list[tuple[int, ...]]:
    """Return all strides of a part of a kernel, those of bounds too."""
    is_affine = isinstance(x, Load | Gather | Position | Location | Store | Update)
    own = [x.strides] if is_affine else []
    bounds = x.bounds if isinstance(x, Load | Choose) else ()
    return [*own, *[bound.strides for bound in bounds]]


def along_axes(x: Any, along: Callable[[Sequence[int]], tuple[int, ...]]) -> Any:
    """Return a part of a kernel over other axes, all its strides as `along` gives them."""
    changes: dict[str, Any] = {}
    if isinstance(x, Load | Gather | Position | Location | Store | Update):
        changes["strides"] = along(x.strides)
    if isinstance(x, Load | Choose):
        changes["bounds"] = tuple([replace(b, strides=along(b.strides)) for b in x.bounds])
    return replace(x, **changes) if changes else x


def from_the_end(x: Any, axis: int, size: int) -> Any:
    """Return a part of a kernel that goes through an axis of a size from its end."""

    def turned(strides: Sequence[int]) -> tuple[int, ...]:
        return tuple([-s if i == axis else s for i, s in enumerate(strides)])

    def last(strides: Sequence[int]) -> int:
        return strides[axis] * (size - 1)

    changes: dict[str, Any] = {}
    if isinstance(x, Load | Gather | Position | Store):
        changes["offset"] = x.offset + last(x.strides)
    if isinstance(x, Load | Choose):
        starts = [(b, last(b.strides)) for b in x.bounds]
        changes["bounds"] = tuple([Bound(b.strides, b.start - k, b.stop - k) for b, k in starts])
    return along_axes(replace(x, **changes), turned) if changes else x


def in_rows(spec: KernelSpec) -> tuple[bool, ...]:
    """Return which values are known in rows (the others at points)."""

    def is_same(x: Load | KernelValue) -> bool:
        return not any(any(strides[spec.rows :]) for strides in affine_maps(x))

    flags = [is_same(load) for load in spec.loads]
    for value in spec.values:
        if isinstance(value, Compute | Choose | Position):
            flags.append(is_same(value) and all(flags[x] for x in read_by(value)))
        else:
            flags.append(isinstance(value, Reduce))
    return tuple(flags)


def passes(spec: KernelSpec) -> tuple[int, ...]:
    """Return for each value the pass over a row in which it can be known, counted from 0.

    A reduction of pass p is known after that pass: to values of pass p + 1.
    """
    number: list[int] = [0] * len(spec.loads)
    for value in spec.values:
        if isinstance(value, Reduce):
            number.append(number[value.operand] + 1)
        else:
            number.append(max([number[x] for x in read_by(value)], default=0))
    return tuple(number)


def format_spec(spec: KernelSpec) -> str:
    """Return a kernel as text: one load, value and store a line."""
    rows, points = spec.shape[: spec.rows], spec.shape[spec.rows :]
    where = f"rows {list(rows)}, points {list(points)}" if spec.rows else f"points {list(points)}"
    where += f" of {spec.total}" if spec.total is not None else ""
    lines = [f"kernel over {where} {{"]
    for i, load in enumerate(spec.loads):
        place = _affine(load.strides, load.offset)
        where = f" where {_within(load.bounds)}" if load.bounds else ""
        lines.append(f"  v{i}: {load.dtype.name} = load {load.operand} at {place}{where}")
    for i, value in enumerate(spec.values, len(spec.loads)):
        if isinstance(value, Reduce):
            text = f"{value.primitive.name} over points of v{value.operand}"
        elif isinstance(value, Scan):
            text = f"{value.primitive.name} up to each point of {_operands(value)}"
            text += f" in blocks of {value.block}" if value.block > 1 else ""
        elif isinstance(value, Gather):
            text = f"gather {value.operand} at {_affine(value.strides, value.offset)}"
            text += f"{_places(value.places)}, {value.mode}"
            text += f" {_operand(value.fill)}" if value.fill is not None else ""
        elif isinstance(value, Position):
            text = _affine(value.strides, value.offset)
        elif isinstance(value, Location):
            text = f"{_affine(value.strides, 0)}{_places(value.places)}, {value.mode}"
            text += f" to {value.missing}" if value.mode == "drop" else ""
        elif isinstance(value, Choose):
            chosen, other = map(_operand, value.operands)
            text = (
                f"{chosen} where {_within(value.bounds)} else {other}" if value.bounds else chosen
            )
        else:
            operands = _operands(value)
            inside = " ".join(f"{k}={v}" for k, v in value.params)
            text = f"{value.primitive.name}{f'[{inside}]' if inside else ''} {operands}"
            if value.primitive.multiple_outputs:
                text = f"output {value.output} of {text}"
        lines.append(f"  v{i}: {value.dtype.name} = {text}")
    for k, store in enumerate(spec.stores):
        where = _affine(store.strides, store.offset)
        over = f" over {store.over}" if store.over is not None else ""
        if isinstance(store, Store):
            lines.append(f"  store {k} at {where}{over}: v{store.value}")
            continue
        is_copy = isinstance(store.initial, int)
        start = f"load {store.initial}" if is_copy else _operand(store.initial)
        where += _places(store.places)
        how = f"{store.mode}{' unique' if store.unique else ''}"
        how += f" in order of {store.order.operand}" if store.order is not None else ""
        lines.append(
            f"  store {k}, from {start}{over}, at {where}, {how}: "
            f"{store.combination.combine.__name__.lstrip('_')} {_operand(store.value)}"
        )
    return "\n".join([*lines, "}"])


def _places(places: Sequence[Place]) -> str:
    return "".join(f" + {x.stride} {_operand(x.index)} below {x.size}" for x in places)


def _operands(value: Compute | Scan) -> str:
    return " ".join(_operand(x) for x in value.operands)


def _operand(x: Operand) -> str:
    return f"v{x}" if isinstance(x, int) else f"{x.value.item()!r}"


def _within(bounds: Sequence[Bound]) -> str:
    return " and ".join(f"{b.start} <= {_affine(b.strides, 0)} < {b.stop}" for b in bounds)


def _affine(strides: Sequence[int], offset: int) -> str:
    terms = [f"i{k}" if s == 1 else f"{s} i{k}" for k, s in enumerate(strides) if s]
    if offset or not terms:
        terms.append(str(offset))
    return " + ".join(terms)


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the strides, in elements, of an array in C order.

    >>> contiguous_strides((2, 3, 4))
    (12, 4, 1)
    """
    strides: list[int] = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))
