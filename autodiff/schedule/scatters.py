"""Updates at places that are given by integer arrays, as kernels whose threads run in any order.

An update's points are *writes*, one for each index tuple, of some elements each. Writes to the same
elements are writes to one *slot*, a number that counts what the indices (and batch axes) can say.
Updates of an element by several writes must come out as if they were made in the order of the
points, whatever order threads run in. How, the update itself decides:

    distinct    no two writes are to one slot: an element is read, combined and written.
    commuting   of integers and truth values, where the order does not show: atomic operations.
    looked for  where writes are few: the first one to a slot looks through all others for those to
                the same, and makes their updates too.
    last        where an update replaces what was there: a first kernel finds the last write to each
                slot, as the largest of their numbers; a second one makes that one only.
    sorted      a first kernel tells each write's slot and number, as one integer; these are sorted;
                then the first write to each slot makes the updates of the following ones as well.

Each of these kernels is a `KernelSpec` again, in which an update is made in its operand's memory
(`over`), after a kernel that fills or copies that memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from autodiff.base import dtypes
from autodiff.ir.graph import Literal
from autodiff.primitives.arithmetic import where
from autodiff.primitives.comparison import equal
from autodiff.primitives.indexing import COMBINATIONS
from autodiff.schedule.kernel_spec import (
    Choose,
    Compute,
    Gather,
    KernelSpec,
    KernelValue,
    Load,
    Location,
    Operand,
    Order,
    Place,
    Position,
    Store,
    Update,
    affine_maps,
    along_axes,
    contiguous_strides,
    place_indices,
    read_by,
    renumbered,
)
from autodiff.schedule.stages import Stage

#: Writes up to which each looks through all others: an estimate of when that takes as long as the
#: launches of a sort.
FEW_WRITES = 256


def write_axes(spec: KernelSpec, update: Update) -> int:
    """Return how many of the first axes number writes; along the others lie a write's elements."""
    count = 0
    varying = [m for i in needed(spec, place_indices(update)) for m in _maps(spec, i)]
    for axis, size in enumerate(spec.shape):
        if size > 1 and (not update.strides[axis] or any(m[axis] for m in varying)):
            count = axis + 1
    return count


def is_distinct(spec: KernelSpec, update: Update) -> bool:
    """Return whether no two points of an update are at one element.

    What is promised to be unique is so of indices in range.
    """
    if update.unique and update.mode in ("drop", "promise"):
        return True
    return all(s or n == 1 for n, s in zip(spec.shape, update.strides, strict=True))


def is_commuting(update: Update) -> bool:
    """Return whether an update is made by atomic operations, in any order.

    Those act on at least 16 bits.
    """
    is_whole = dtypes.kind(update.dtype) in "iu"
    return update.combination.commutes and is_whole and update.dtype.itemsize > 1


def is_direct(spec: KernelSpec, update: Update) -> bool:
    """Return whether threads may make the updates of an element in any order."""
    return is_distinct(spec, update) or is_commuting(update)


def in_scatter_stages(spec: KernelSpec) -> tuple[Stage, ...]:
    """Return a kernel with updates as kernels each of which threads can compute in any order."""
    return _Stages(spec).stages()


def needed(spec: KernelSpec, roots: Iterable[Operand]) -> list[int]:
    """Return these values and those that they are computed from, in order."""
    first = len(spec.loads)
    stack, seen = [x for x in roots if isinstance(x, int)], set()
    while stack:
        i = stack.pop()
        if i not in seen:
            seen.add(i)
            stack += read_by(spec.values[i - first]) if i >= first else ()
    return sorted(seen)


def _maps(spec: KernelSpec, i: int) -> list[tuple[int, ...]]:
    return affine_maps((*spec.loads, *spec.values)[i])


class _Stages:
    """The stages as they grow; `made` counts the arrays between them, which are -1, -2, ..."""

    def __init__(self, spec: KernelSpec) -> None:
        self.spec = spec
        self.found: list[Stage] = []
        self.made = 0

    def stages(self) -> tuple[Stage, ...]:
        begun = {k: self._begun(x) for k, x in self._updates()}
        ordered = {k: x for k, x in self._updates() if not is_direct(self.spec, x)}
        direct = [k for k in range(len(self.spec.stores)) if k not in ordered]
        if direct:
            stored = [self.spec.stores[k] for k in direct]
            part = _Part(self.spec, self._roots(stored))
            for k, x in zip(direct, stored, strict=True):
                part.store(x, begun.get(k))
            self.found.append(part.stage(direct))
        for k, x in ordered.items():
            writes = prod(self.spec.shape[: write_axes(self.spec, x)])
            if writes <= FEW_WRITES:
                part = _Part(self.spec, self._roots([x]))
                part.store(x, begun[k])
                self.found.append(part.stage([k]))
            elif x.combination.replaces:
                self._last(k, x, begun[k])
            else:
                self._sorted(k, x, begun[k])
        return tuple(self.found)

    def _updates(self) -> list[tuple[int, Update]]:
        return [(k, x) for k, x in enumerate(self.spec.stores) if isinstance(x, Update)]

    @staticmethod
    def _roots(stores: Sequence[Store | Update]) -> list[Operand]:
        return [
            x
            for store in stores
            for x in (store.value, *(place_indices(store) if isinstance(store, Update) else ()))
        ]

    def _between(self) -> int:
        self.made += 1
        return -self.made

    # ---- what an update begins with

    def _begun(self, x: Update) -> int:
        """Return the number of the array that an update is made in, as it is at first."""
        if x.over is not None:
            return x.over
        place = self._between()
        if isinstance(x.initial, Literal):
            self._filled(place, x.initial, x.dtype, x.shape)
        else:
            count = prod(x.shape)
            load, store = Load(0, x.dtype, (1,)), Store(0, x.dtype, (1,), x.shape)
            spec = KernelSpec((count,), 0, (load,), (), (store,))
            self.found.append(Stage(spec, (x.initial,), (place,)))
        return place

    def _filled(self, place: int, x: Literal, dtype: np.dtype, shape: tuple[int, ...]) -> None:
        number = Choose((), (x, x), dtype)
        store = Store(0, dtype, (1,), shape)
        spec = KernelSpec((prod(shape),), 0, (), (number,), (store,))
        self.found.append(Stage(spec, (), (place,)))

    # ---- updates that are found among others

    def _sorted(self, k: int, x: Update, begun: int) -> None:
        axes = write_axes(self.spec, x)
        writes = self.spec.shape[:axes]
        strides, places, slots = self._slots(x, axes)
        bits = (prod(writes) - 1).bit_length()
        assert (slots << bits).bit_length() < 64, "there is memory for fewer writes and slots"
        dtype = np.dtype(np.uint32 if (slots << bits) < 1 << 32 else np.uint64)
        numbers = contiguous_strides(writes)
        part = _Part(self.spec, place_indices(x), axes)
        found = Location(
            dtype,
            tuple([(s << bits) + n for s, n in zip(strides, numbers, strict=True)]),
            tuple([replace(place, stride=place.stride << bits) for place in places]),
            x.mode,
            slots << bits,
        )
        listed = self._between()
        number = part.value(renumbered(found, part.at))
        part.stores.append(Store(number, dtype, numbers, (prod(writes),)))
        self.found.append(replace(part.stage([listed]), is_sorted=True))
        part = _Part(self.spec, self._roots([x]))
        order = Order(part.operand(listed), dtype, axes, bits, slots)
        part.store(replace(x, order=order), begun)
        self.found.append(part.stage([k]))

    def _last(self, k: int, x: Update, begun: int) -> None:
        axes = write_axes(self.spec, x)
        writes = self.spec.shape[:axes]
        strides, places, slots = self._slots(x, axes)
        dtype = np.dtype(np.int32 if prod(writes) < 1 << 31 else np.int64)
        none, latest = Literal(dtype.type(-1)), COMBINATIONS["max"]
        last = self._between()
        self._filled(last, none, dtype, (slots,))
        part = _Part(self.spec, place_indices(x), axes)
        number = part.value(Position(dtype, contiguous_strides(writes)))
        found = Update(number, dtype, strides, (slots,), 0, places, x.mode, latest, none)
        part.store(replace(found, places=part.placed(places)), last, placed=True)
        self.found.append(part.stage([last]))

        part = _Part(self.spec, self._roots([x]))
        rest = (0,) * (len(self.spec.shape) - axes)
        wide = np.dtype(np.int64)
        slot = Location(wide, (*strides, *rest), part.placed(places), x.mode)
        at = Location(wide, (0,) * len(self.spec.shape), part.placed(x.places), x.mode)
        here = part.value(at)
        kept = Gather(
            part.operand(last),
            dtype,
            (0,) * len(self.spec.shape),
            0,
            (Place(part.value(slot), slots, 1),),
            "fill",
            none,
        )
        number = Position(dtype, (*contiguous_strides(writes), *rest))
        both = (part.value(kept), part.value(number))
        is_last = part.value(Compute(equal, both, (), np.dtype(bool)))
        index = part.value(Compute(where, (is_last, here, Literal(wide.type(-1))), (), wide))
        place = Place(index, prod(x.shape), 1)
        value = part.at(x.value) if isinstance(x.value, int) else x.value
        made = replace(x, value=value, places=(place,), mode="drop", unique=True)
        part.store(made, begun, placed=True)
        self.found.append(part.stage([k]))

    def _slots(self, x: Update, axes: int) -> tuple[tuple[int, ...], tuple[Place, ...], int]:
        """Return the strides of axes and the places that give a write's slot; the slots' number."""
        count, places, strides = 1, [], [0] * axes
        for place in reversed(x.places):
            places.insert(0, replace(place, stride=count))
            count *= place.size
        for axis in reversed(range(axes)):
            if x.strides[axis]:
                strides[axis] = count
                count *= self.spec.shape[axis]
        return tuple(strides), tuple(places), count


class _Part:
    """A kernel that computes some values of another one, along the first `axes` of its axes."""

    def __init__(self, spec: KernelSpec, roots: Iterable[Operand], axes: int | None = None) -> None:
        kept = slice(axes)
        self.shape = spec.shape[kept]

        def along(strides: Sequence[int]) -> tuple[int, ...]:
            return tuple(strides[kept])

        self.operands: list[int] = []
        self.stores: list[Store | Update] = []
        self.values: list[KernelValue] = []
        self.loads: list[Load] = []
        self._number: dict[int, int] = {}
        first = len(spec.loads)
        for i in needed(spec, roots):
            self._number[i] = len(self._number)
            part = along_axes((*spec.loads, *spec.values)[i], along)
            if i < first:
                self.loads.append(replace(part, operand=self.operand(part.operand)))
                continue
            value = renumbered(part, self.at)
            if isinstance(value, Gather):
                value = replace(value, operand=self.operand(value.operand))
            self.values.append(value)

    def at(self, i: int) -> int:
        """Return the number that a value of the whole kernel has here."""
        return self._number[i]

    def operand(self, number: int) -> int:
        """Return the number that an operand of the whole kernel, or an array between, has here."""
        if number not in self.operands:
            self.operands.append(number)
        return self.operands.index(number)

    def value(self, value: KernelValue) -> int:
        """Append a value, and return its number."""
        self.values.append(value)
        return len(self.loads) + len(self.values) - 1

    def placed(self, places: Sequence[Place]) -> tuple[Place, ...]:
        """Return places of the whole kernel with the numbers that their indices have here."""
        return tuple(
            [replace(x, index=self.at(x.index)) if isinstance(x.index, int) else x for x in places]
        )

    def store(self, x: Store | Update, begun: int | None, placed: bool = False) -> None:
        """Append an output: an update is made in the memory of an array, which it is told of.

        `placed`: whether its values have the numbers that they have here.
        """
        if isinstance(x, Store):
            self.stores.append(replace(x, value=self.at(x.value), over=None))
            return
        assert begun is not None
        own = self.operand(begun)
        if not placed:
            value = self.at(x.value) if isinstance(x.value, int) else x.value
            x = replace(x, value=value, places=self.placed(x.places))
        self.stores.append(replace(x, initial=own, over=own))

    def stage(self, outputs: Sequence[int]) -> Stage:
        """Return the kernel as a stage that makes these outputs."""
        spec = KernelSpec(self.shape, 0, tuple(self.loads), tuple(self.values), tuple(self.stores))
        return Stage(spec, tuple(self.operands), tuple(outputs))
