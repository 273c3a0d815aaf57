"""Elements read and written where integer values say: what a `Gather` and an `Update` become.

Where a place is the same in all lanes, its elements are read and written as vectors. Else they are
gathered, and written one lane after the other, in the order of the points: so updates of one
element are made as NumPy makes them, with its bits. An index out of range never leads outside the
array: it is replaced before an address is made of it, and in mode "drop" its update goes to an
element that nothing reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from autodiff.base import dtypes
from autodiff.codegen.operations import Typed, memory_type
from autodiff.codegen.scalar_types import I1, I64, Value
from autodiff.ir.graph import Literal
from autodiff.schedule.kernel_spec import (
    Choose,
    Compute,
    Gather,
    KernelSpec,
    Load,
    Operand,
    Place,
    Position,
    Update,
    affine_maps,
    in_rows,
    place_indices,
    read_by,
)

if TYPE_CHECKING:
    from autodiff.codegen.cpu_kernels import _Emitter

_INT64, _BOOL = np.dtype(np.int64), np.dtype(bool)


@dataclass(frozen=True, slots=True)
class Located:
    """A place that is the same in all lanes: the address there, and whether it is in range.

    `inside` is None where every index counts as in range.
    """

    address: str
    inside: Value | None


def is_one_place(x: Gather | Update, spec: KernelSpec) -> bool:
    """Return whether a place is known when a row is entered, and is that of all of its points.

    The points of a row that an update is at must besides be different elements.
    """
    first = len(spec.loads)
    is_known = all(
        not isinstance(i, int) or (i < first and in_rows(spec)[i]) for i in place_indices(x)
    )
    return is_known and (isinstance(x, Gather) or x.strides[-1] != 0 or spec.row_size == 1)


class Indexed:
    """The part of an emitter that reads and writes at places.

    `bases` are the addresses of gathers, by value, at the first point of a row, `located` the
    places that are one for all of its points: of gathers by value, of outputs by `-1 - number`.
    """

    def __init__(self, emitter: _Emitter) -> None:
        self.emitter = emitter
        self.o = emitter.o
        self.b = emitter.b
        self.memory = emitter.memory
        self.bases: dict[int, str] = {}
        self.located: dict[int, Located] = {}

    # ---- a kernel and its rows

    def prepare(self) -> None:
        """Emit, at the kernel's beginning, outputs as they are at first."""
        emitter = self.emitter
        for k, update in emitter.needs.updates():
            initial = update.initial
            source = emitter.pointers[initial] if isinstance(initial, int) else None
            self._begin(k, update, emitter.pointers[emitter.inputs + k], source)

    def enter_row(self, start: Callable[..., str]) -> None:
        """Work out where gathers begin, and the places that are one for all points of the row.

        `start(pointer, dtype, strides, offset)` is the address of the first point of the row.
        """
        emitter, spec = self.emitter, self.emitter.spec
        self.bases, self.located = {}, {}
        known = emitter.row_values
        for i, x in enumerate(spec.values, emitter.needs.first):
            if isinstance(x, Gather):
                self.bases[i] = start(emitter.pointers[x.operand], x.dtype, x.strides, x.offset)
                if not emitter.across and is_one_place(x, spec):
                    indices = emitter._all_known(place_indices(x), known)
                    self.located[i] = self._locate(self.bases[i], x, indices)
        for k, update in emitter.needs.updates():
            if is_one_place(update, spec):
                indices = emitter._all_known(place_indices(update), known)
                self.located[-1 - k] = self._locate(emitter.stores[k], update, indices)

    def read(
        self, i: int, x: Gather, known: dict[int, Any], index: str, mask: Value | None
    ) -> Typed:
        """Return a gather, value `i`, at a vector of points from `index` on."""
        emitter = self.emitter
        stride = emitter._along_lanes(x.strides)
        at = self.located.get(i)
        if at is not None:
            return self._read_located(x, at, index, stride, mask)
        indices = emitter._all_known(place_indices(x), known)
        base = self.memory.address(self.bases[i], x.dtype, (index, x.strides[-1]))
        if all(map(self._is_same_in_lanes, place_indices(x))):
            return self._read_located(x, self._locate(base, x, indices), "0", stride, mask)
        return self._read_lanes(x, base, indices, stride, mask)

    def _is_same_in_lanes(self, x: Operand) -> bool:
        """Return whether all lanes have the same value."""
        if isinstance(x, Literal):
            return True
        emitter, spec = self.emitter, self.emitter.spec
        part = (*spec.loads, *spec.values)[x]
        if any(map(emitter._along_lanes, affine_maps(part))):
            return False
        if isinstance(part, Load):
            return True
        is_pointwise = isinstance(part, Compute | Choose | Position)
        return is_pointwise and all(map(self._is_same_in_lanes, read_by(part)))

    def write(
        self,
        k: int,
        x: Update,
        known: dict[int, Any],
        index: str,
        mask: Value | None,
        left: str | None,
    ) -> None:
        """Emit the updates of output `k` by a vector of points from `index` on.

        `mask`, and `left`, how many lanes it leaves, say which lanes are points; None for all.
        """
        emitter = self.emitter
        (value,) = emitter._all_known([x.value], known)
        at = self.located.get(-1 - k)
        if at is not None:
            self._write_located(x, at, index, value, mask)
            return
        indices = emitter._all_known(place_indices(x), known)
        base = self.memory.address(emitter.stores[k], x.dtype, (index, x.strides[-1]))
        self._write_lanes(k, x, base, indices, value, left)

    # ---- places

    def _locate(self, base: str, x: Gather | Update, indices: Sequence[Typed]) -> Located:
        """Return the place that indices give which are the same in all lanes."""
        offset, inside = self._offset_within(x.places, indices, x.mode)
        first = self._first_lane(offset, "i64")
        kind = memory_type(x.dtype).name
        address = self.memory.scalar(f"getelementptr {kind}, ptr {base}, i64 {first}")
        return Located(address, inside)

    def _offset(
        self, places: Sequence[Place], indices: Sequence[Typed], mode: str
    ) -> tuple[Value, Value | None]:
        """Return the offset that places add, and where all are in range (None: everywhere)."""
        total: Typed | None = None
        inside: Typed | None = None
        for place, x in zip(places, indices, strict=True):
            index, ok = self._in_range(x, place.size, mode)
            term = self.o.cast(index, _INT64)
            term = term if place.stride == 1 else self.o.multiply(term, place.stride)
            total = term if total is None else self.o.add(total, term)
            if ok is not None:
                inside = ok if inside is None else self.o.logical_and(inside, ok)
        assert total is not None
        return total.value, None if inside is None else inside.value

    def _offset_within(
        self, places: Sequence[Place], indices: Sequence[Typed], mode: str
    ) -> tuple[Value, Value | None]:
        """Return the same, but an offset of 0 where a place is out of range."""
        offset, inside = self._offset(places, indices, mode)
        if inside is not None:
            offset = self.b.select(inside, offset, self.b.const(0, I64))
        return offset, inside

    def _in_range(self, x: Typed, size: int, mode: str) -> tuple[Typed, Typed | None]:
        """Return an index in range and, for modes that skip others, where it was so already."""
        if x.dtype == np.uint64:  # as the reference does, whose indices are int64
            x = self.o.cast(self.o.minimum(x, 2**63 - 1), _INT64)
        if size > np.iinfo(x.dtype).max:
            x = self.o.cast(x, _INT64)
        last = self.o.constant(size - 1, x.dtype)
        if mode == "wrap":
            return self.o.remainder(x, size), None
        if mode in ("fill", "drop"):
            below = self.b.icmp("ule", x.value, last.value)  # a negative one is a large one
            return x, Typed(below, _BOOL)
        if dtypes.kind(x.dtype) == "i":
            x = self.o.maximum(x, 0)
        return self.o.minimum(x, last), None

    def _first_lane(self, x: Value, kind: str) -> str:
        if self.b.lanes == 1:
            return x.text
        vector = self.b.text_of(x.type)
        return self.memory.scalar(f"extractelement {vector} {x.text}, i32 0")

    def _spread(self, offset: Value, stride: int) -> Value:
        """Return offsets with what the lanes themselves add."""
        if not stride or self.b.lanes == 1:
            return offset
        steps = ", ".join(f"i64 {i * stride}" for i in range(self.b.lanes))
        return self.b.add(offset, Value(f"<{steps}>", I64))

    def _addresses(self, base: str, offset: Value, dtype: np.dtype) -> str:
        kind = memory_type(dtype).name
        return self.memory.scalar(
            f"getelementptr {kind}, ptr {base}, {self.b.text_of(I64)} {offset.text}"
        )

    # ---- reading

    def _read_located(
        self, x: Gather, at: Located, index: str, stride: int, mask: Value | None
    ) -> Typed:
        """Return a gather at a place that is the same in all lanes, which are `stride` apart."""
        address = self.memory.address(at.address, x.dtype, (index, x.strides[-1]))
        return self._filled(x, self.memory.load(address, x.dtype, stride, mask), at.inside)

    def _read_lanes(
        self, x: Gather, base: str, indices: Sequence[Typed], stride: int, mask: Value | None
    ) -> Typed:
        """Return a gather whose place differs from lane to lane; `base` is that of the points."""
        offset, inside = self._offset_within(x.places, indices, x.mode)
        offset = self._spread(offset, stride)
        if mask is not None:  # the first point's element is in the array
            offset = self.b.select(mask, offset, self.b.const(0, I64))
        stored = memory_type(x.dtype)
        addresses = self._addresses(base, offset, x.dtype)
        vector, align = self.b.text_of(stored), stored.bits // 8
        if self.b.lanes == 1:
            loaded = self.b.assign(f"load {vector}, ptr {addresses}, align {align}", stored)
            return self._filled(x, self.o.loaded(loaded, x.dtype), inside)
        lanes, masks = self.b.lanes, self.b.text_of(I1)
        full = f"llvm.masked.gather.v{lanes}{stored.suffix}.v{lanes}p0"
        pointers = f"<{lanes} x ptr>"
        self.b.declarations[full] = f"declare {vector} @{full}({pointers}, i32, {masks}, {vector})"
        rest = f"i32 {align}, {masks} splat (i1 true), {vector} poison"
        call = f"call {vector} @{full}({pointers} {addresses}, {rest})"
        return self._filled(x, self.o.loaded(self.b.assign(call, stored), x.dtype), inside)

    def _filled(self, x: Gather, read: Any, inside: Value | None) -> Typed:
        if inside is None:
            return read
        assert x.fill is not None
        fill = self.o.constant(x.fill.value.item(), x.dtype)
        return self.o.where(Typed(inside, _BOOL), read, fill)

    # ---- writing

    def _begin(self, k: int, x: Update, address: str, source: str | None) -> None:
        """Emit output `k`, at an address, as it is at first, and room for its lanes.

        `source`: where the array is that it begins as; None where that is a number.
        """
        stored = memory_type(x.dtype)
        count, size = prod(x.shape), stored.bits // 8
        self.b.lines += [
            f"  %where{k} = alloca [{self.b.lanes} x ptr], align 64",
            f"  %what{k} = alloca [{self.b.lanes} x {stored.name}], align 64",
            f"  %nowhere{k} = alloca {stored.name}, align 8",
            f"  store {stored.name} zeroinitializer, ptr %nowhere{k}",
        ]
        if source is not None:
            copy, after = self.b.fresh_label("copy"), self.b.fresh_label("copied")
            is_there = self.memory.scalar(f"icmp eq ptr {address}, {source}")  # see `Update.over`
            self.b.lines.append(f"  br i1 {is_there}, label %{after}, label %{copy}")
            self.b.label(copy)
            self._memory_call("memcpy", f"ptr {address}, ptr {source}", count * size)
            self.b.lines.append(f"  br label %{after}")
            self.b.label(after)
            return
        assert isinstance(x.initial, Literal)
        element = np.asarray(x.initial.value)
        if not any(element.tobytes()):
            self._memory_call("memset", f"ptr {address}, i8 0", count * size)
            return
        with self._one_lane():
            number = self.o.stored(self.o.constant(element.item(), x.dtype)).text
        wide = 64 // size
        vector = f"<{wide} x {stored.name}> splat ({stored.name} {number})"
        whole = count - count % wide

        def fill(what: str, start: int) -> Callable[[str], None]:
            step = wide if start == 0 else 1

            def one(i: str) -> None:
                at = self.memory.address(address, x.dtype, (i, step), offset=start)
                self.b.lines.append(f"  store {what}, ptr {at}, align {size}")

            return one

        if whole:
            self._each("fill", str(whole // wide), fill(vector, 0))
        if whole < count:
            rest = fill(f"{stored.name} {number}", whole)
            self._each("rest", str(count - whole), rest)

    def _memory_call(self, name: str, operands: str, count: int) -> None:
        full = f"llvm.{name}.p0.{'p0.' if name == 'memcpy' else ''}i64"
        taken = "ptr, ptr" if name == "memcpy" else "ptr, i8"
        self.b.declarations[full] = f"declare void @{full}({taken}, i64, i1)"
        self.b.lines.append(f"  call void @{full}({operands}, i64 {count}, i1 false)")

    def _write_located(
        self, x: Update, at: Located, index: str, value: Typed, mask: Value | None
    ) -> None:
        """Emit an update at a place that is the same in all lanes, which are different elements."""
        b, stride = self.b, x.strides[-1]
        after = None
        if at.inside is not None:
            inside, after = b.fresh_label("inside"), b.fresh_label("written")
            test = self._first_lane(at.inside, "i1")
            b.lines.append(f"  br i1 {test}, label %{inside}, label %{after}")
            b.label(inside)
        address = self.memory.address(at.address, x.dtype, (index, stride))
        before = self.memory.load(address, x.dtype, stride, mask)
        self.memory.store(x.combination.combine(self.o, before, value), address, stride, mask)
        if after is not None:
            b.lines.append(f"  br label %{after}")
            b.label(after)

    def _write_lanes(
        self,
        k: int,
        x: Update,
        base: str,
        indices: Sequence[Typed],
        value: Typed,
        count: str | None,
    ) -> None:
        """Emit output `k`'s updates by the first `count` lanes (None: all), one after the other.

        `base`: the address that the places of the first point add to.
        """
        offset, inside = self._offset(x.places, indices, x.mode)
        addresses = self._addresses(base, self._spread(offset, x.strides[-1]), x.dtype)
        kind = "ptr" if self.b.lanes == 1 else f"<{self.b.lanes} x ptr>"
        if inside is not None:
            nowhere = self._nowhere(k)
            masks = self.b.text_of(I1)
            chosen = f"select {masks} {inside.text}, {kind} {addresses}, {kind} {nowhere}"
            addresses = self.memory.scalar(chosen)
        if self.b.lanes == 1:
            self._write_one(x, addresses, value)
            return
        self.b.lines.append(f"  store {kind} {addresses}, ptr %where{k}, align 8")
        self.memory.store(value, f"%what{k}", 1, None)
        if count is not None:
            self._each("lane", count, lambda lane: self._write_lane(k, x, lane))
            return
        for lane in range(self.b.lanes):
            self._write_lane(k, x, str(lane))

    def _nowhere(self, k: int) -> str:
        if self.b.lanes == 1:
            return f"%nowhere{k}"
        kind = f"<{self.b.lanes} x ptr>"
        one = self.memory.scalar(f"insertelement {kind} poison, ptr %nowhere{k}, i32 0")
        zeros = f"<{self.b.lanes} x i32> zeroinitializer"
        return self.memory.scalar(f"shufflevector {kind} {one}, {kind} poison, {zeros}")

    def _write_lane(self, k: int, x: Update, lane: str) -> None:
        scalar = self.memory.scalar
        with self._one_lane():
            slot = scalar(f"getelementptr ptr, ptr %where{k}, i64 {lane}")
            address = scalar(f"load ptr, ptr {slot}")
            value = self.memory.load(
                self.memory.address(f"%what{k}", x.dtype, (lane, 1)), x.dtype, 1, None
            )
            self._write_one(x, address, value)

    def _write_one(self, x: Update, address: str, value: Any) -> None:
        before = self.memory.load(address, x.dtype, 1, None)
        self.memory.store(x.combination.combine(self.o, before, value), address, 1, None)

    # ---- inside

    @contextmanager
    def _one_lane(self) -> Iterator[None]:
        """Emit scalar code."""
        lanes = self.b.lanes
        self.b.lanes = self.memory.lanes = 1
        try:
            yield
        finally:
            self.b.lanes = self.memory.lanes = lanes

    def _each(self, stem: str, count: str, body: Callable[[str], None]) -> None:
        """Emit `for i in range(count): body(i)`."""
        b = self.b
        inside, after = b.fresh_label(stem), b.fresh_label(f"{stem}.end")
        before, index, following = b.block, b.fresh_name(), b.fresh_name()
        b.lines.append(f"  br label %{inside}")
        b.label(inside)
        place = len(b.lines)
        body(index)
        b.lines.insert(place, f"  {index} = phi i64 [ 0, %{before} ], [ {following}, %{b.block} ]")
        b.lines.append(f"  {following} = add i64 {index}, 1")
        again = self.memory.scalar(f"icmp slt i64 {following}, {count}")
        b.lines.append(f"  br i1 {again}, label %{inside}, label %{after}")
        b.label(after)
