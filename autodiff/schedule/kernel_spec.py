"""A kernel as data: what is computed at every point of an index space, and what of it is stored.

    spec     ::=  shape rows loads values stores
    load     ::=  operand dtype strides offset
    value    ::=  compute | reduce
    store    ::=  value dtype strides over

The index space is a box; its first `rows` axes number the rows, the others are the points of a row.
Values are numbered: loads first, then the others in order; each is known at points or in rows. What
is computed of values in rows alone is in rows, everything else at points, where a value in rows is
the same all along its row. A reduction takes a value at points to one in rows. A value at points
that needs a reduction's result belongs to a later pass over the row than that reduction; `passes`
numbers them. Strides are in elements; a stride of 0 repeats, a negative one goes backwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from autodiff.ir.graph import Literal
from autodiff.ir.primitive import Primitive

#: What a value is computed from: the number of another value, or a number.
Operand = int | Literal


@dataclass(frozen=True, slots=True)
class Load:
    """An array read at element `offset + sum(index * strides)`.

    It is known in rows if all strides of the points of a row are 0.
    """

    operand: int
    dtype: np.dtype
    strides: tuple[int, ...]
    offset: int = 0


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
    """A value of a row: another one, known at points, combined over the points of the row."""

    primitive: Primitive
    operand: int
    dtype: np.dtype
    source: Any = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Store:
    """An output array, written at element `sum(index * strides)`.

    It may take the memory of the operand `over`, each element of which is read only for the one
    that is written there.
    """

    value: int
    dtype: np.dtype
    strides: tuple[int, ...]
    shape: tuple[int, ...]
    over: int | None = None


@dataclass(frozen=True, slots=True, repr=False)
class KernelSpec:
    """One kernel. Equal specs are one kernel, whatever lines they come from.

    `total`: the points of all rows together, where the last row has fewer than the others.
    """

    shape: tuple[int, ...]
    rows: int
    loads: tuple[Load, ...]
    values: tuple[Compute | Reduce, ...]
    stores: tuple[Store, ...]
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

    def dtype_of(self, value: int) -> np.dtype:
        """Return a value's element type."""
        if value < len(self.loads):
            return self.loads[value].dtype
        return self.values[value - len(self.loads)].dtype

    def __str__(self) -> str:
        return format_spec(self)

    def __repr__(self) -> str:
        return f"<kernel over {self.shape}>"


def in_rows(spec: KernelSpec) -> tuple[bool, ...]:
    """Return which values are known in rows (the others at points)."""
    flags = [not any(load.strides[spec.rows :]) for load in spec.loads]
    for value in spec.values:
        if isinstance(value, Reduce):
            flags.append(True)
        else:
            flags.append(all(flags[x] for x in value.operands if isinstance(x, int)))
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
            known = [number[x] for x in value.operands if isinstance(x, int)]
            number.append(max(known, default=0))
    return tuple(number)


def format_spec(spec: KernelSpec) -> str:
    """Return a kernel as text: one load, value and store a line."""
    rows, points = spec.shape[: spec.rows], spec.shape[spec.rows :]
    where = f"rows {list(rows)}, points {list(points)}" if spec.rows else f"points {list(points)}"
    where += f" of {spec.total}" if spec.total is not None else ""
    lines = [f"kernel over {where} {{"]
    for i, load in enumerate(spec.loads):
        place = _affine(load.strides, load.offset)
        lines.append(f"  v{i}: {load.dtype.name} = load {load.operand} at {place}")
    for i, value in enumerate(spec.values, len(spec.loads)):
        if isinstance(value, Reduce):
            text = f"{value.primitive.name} over points of v{value.operand}"
        else:
            operands = " ".join(_operand(x) for x in value.operands)
            inside = " ".join(f"{k}={v}" for k, v in value.params)
            text = f"{value.primitive.name}{f'[{inside}]' if inside else ''} {operands}"
            if value.primitive.multiple_outputs:
                text = f"output {value.output} of {text}"
        lines.append(f"  v{i}: {value.dtype.name} = {text}")
    for k, store in enumerate(spec.stores):
        over = f" over {store.over}" if store.over is not None else ""
        lines.append(f"  store {k} at {_affine(store.strides, 0)}{over}: v{store.value}")
    return "\n".join([*lines, "}"])


def _operand(x: Operand) -> str:
    return f"v{x}" if isinstance(x, int) else f"{x.value.item()!r}"


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
