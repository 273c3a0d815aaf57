"""Blocks of short rows that follow one another in memory: read whole, and turned in registers.

Lanes are rows. What the lanes need of one point lies apart in memory, but all that a block of rows
needs lies together, and fills as many vectors as a row has points. So these are read as they lie,
and turned by shuffles of two vectors at a time; what is stored is turned back. The points of a row
are written out one after another: values that several passes need stay in registers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from autodiff.base import dtypes
from autodiff.codegen.cpu_memory import Held
from autodiff.codegen.operations import Typed, memory_type
from autodiff.codegen.scalar_types import Value
from autodiff.codegen.vectors import VectorBuilder
from autodiff.schedule.kernel_spec import Gather, KernelSpec, Load, Scan, Store, Update

if TYPE_CHECKING:
    from autodiff.codegen.cpu_kernels import _Emitter

#: Points of a short row at most: as many registers hold a block of rows.
SHORT_ROW = 16


def is_together(spec: KernelSpec, place: Load | Store | Update) -> bool:
    """Return whether rows that follow one another lie so in memory, without gaps."""
    is_whole = not isinstance(place, Load) or not place.bounds
    return (
        is_whole
        and not dtypes.is_complex(place.dtype)
        and place.strides[-1] == 1
        and place.strides[spec.rows - 1] == spec.row_size
        and spec.row_size > 1
    )


def are_turned(spec: KernelSpec, lanes: int) -> bool:
    """Return whether the rows of a kernel, whose lanes are rows, are read whole and turned.

    The last block of rows overlaps the one before it, which must not have been written over.
    """
    may_repeat = not spec.reuses or spec.shape[spec.rows - 1] % lanes == 0
    places = [*spec.loads, *spec.stores]
    return (
        may_repeat
        and not any(isinstance(value, Scan | Gather) for value in spec.values)
        and 1 < spec.row_size <= SHORT_ROW
        and any(is_together(spec, place) for place in places)
    )


class ShortRows:
    """The part of an emitter that goes over a block of short rows."""

    def __init__(self, emitter: _Emitter) -> None:
        self.emitter = emitter
        self.turned: dict[int, list[Held]] = {}
        self.kept: list[dict[int, Held]] = []

    def enter(self) -> None:
        """Emit the loads of a block whose addresses the emitter has worked out."""
        emitter, spec = self.emitter, self.emitter.spec
        self.kept = [{} for _ in range(emitter.points)]
        self.turned = {}
        for i, load in enumerate(spec.loads):
            if is_together(spec, load):
                self.turned[i] = self._read(emitter.loads[i], load)

    def _read(self, address: str, load: Load) -> list[Held]:
        emitter = self.emitter
        memory, stored = emitter.memory, memory_type(load.dtype)
        vectors = []
        for m in range(emitter.points):
            at = memory.address(address, load.dtype, offset=m * emitter.lanes)
            vectors.append(memory.load_as_stored(at, stored))
        points = turned(emitter.b, vectors, emitter.points)
        return [emitter.o.loaded(x, load.dtype) for x in points]

    def go_over_points(self, number: int) -> None:
        """Emit a pass: everything at points, reductions, stores."""
        emitter, needs = self.emitter, self.emitter.needs
        reductions = needs.reductions(number)
        stores = {k: i for k, i in needs.stored(rows=False) if needs.passes[i] == number}
        to_store: dict[int, list[Held]] = {k: [] for k in stores}
        totals = {
            i: [emitter._identity(value) for _ in range(emitter.unrolled)]
            for i, value in reductions.items()
        }
        for point in range(emitter.points):
            known = self._step(number, point)
            for i, value in reductions.items():
                place = point % emitter.unrolled
                totals[i][place] = emitter._combined(value, totals[i][place], known[value.operand])
            for k in stores:
                to_store[k].append(known[stores[k]])
        for i, value in reductions.items():
            total, *others = totals[i]
            for other in others:
                total = emitter._combined(value, total, other)
            emitter.row_values[i] = emitter.o.cast(total, value.dtype)
        for k in stores:
            self._write(k, to_store[k])

    def _step(self, number: int, point: int) -> dict[int, Held]:
        """Return the values at a point that a pass needs."""
        emitter, spec, needs = self.emitter, self.emitter.spec, self.emitter.needs
        kept = self.kept[point]
        known = {**emitter.row_values, **kept}
        made: dict = {}
        for i in needs.wanted(number, kept.keys()):
            if i in known:
                continue
            if i in self.turned:
                known[i] = self.turned[i][point]
            elif i < needs.first:
                known[i] = emitter._loaded(i, str(point), None, {})
            else:
                value = spec.values[i - needs.first]
                known[i] = emitter._computed(value, known, made, str(point), {})
            if i in emitter.kept_in:
                kept[i] = known[i]
        return known

    def _write(self, k: int, points: list[Held]) -> None:
        emitter, spec = self.emitter, self.emitter.spec
        store, memory = spec.stores[k], emitter.memory
        if not is_together(spec, store):
            for point, x in enumerate(points):
                terms = (str(point), store.strides[-1])
                at = memory.address(emitter.stores[k], store.dtype, terms)
                memory.store(x, at, emitter._along_lanes(store.strides), None)
            return
        values = [emitter.o.stored(x) for x in points if isinstance(x, Typed)]
        for m, vector in enumerate(turned_back(emitter.b, values)):
            at = memory.address(emitter.stores[k], store.dtype, offset=m * emitter.lanes)
            memory.store_as_stored(vector, at)


def turned(b: VectorBuilder, vectors: list[Value], points: int) -> list[Value]:
    """Return the points of rows that lie one after another in vectors: lane r is that of row r."""
    return [
        _collected(b, vectors, [r * points + point for r in range(b.lanes)])
        for point in range(points)
    ]


def turned_back(b: VectorBuilder, points: list[Value]) -> list[Value]:
    """Return rows one after another in vectors, given their points."""
    count, lanes = len(points), b.lanes
    vectors = []
    for m in range(count):
        flat = [m * lanes + lane for lane in range(lanes)]
        vectors.append(_collected(b, points, [i % count * lanes + i // count for i in flat]))
    return vectors


def _collected(b: VectorBuilder, vectors: list[Value], places: list[int]) -> Value:
    """Return a vector of elements of several, counted through all of them.

    Two vectors at a time give their elements, which are then put together.
    """
    lanes, text = b.lanes, b.text_of(vectors[0].type)
    found: Value | None = None
    for first in range(0, len(vectors), 2):
        pair = vectors[first : first + 2]
        span = range(first * lanes, (first + len(pair)) * lanes)
        order = [str(place - span.start) if place in span else None for place in places]
        if not any(order):
            continue
        other = pair[1].text if len(pair) == 2 else "poison"
        part = _shuffled(b, text, pair[0], other, order)
        if found is not None:
            mine = [str(i if x is None else lanes + i) for i, x in enumerate(order)]
            part = _shuffled(b, text, found, part.text, mine)
        found = part
    assert found is not None
    return found


def _shuffled(b: VectorBuilder, text: str, x: Value, y: str, order: Sequence[str | None]) -> Value:
    indices = ", ".join("i32 poison" if i is None else f"i32 {i}" for i in order)
    operands = f"{text} {x.text}, {text} {y}, <{b.lanes} x i32> <{indices}>"
    return b.assign(f"shufflevector {operands}", x.type)
