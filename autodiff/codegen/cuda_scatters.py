"""CUDA kernels for updates at places that may be the same, where a thread a point will not do.

Where the order of updates counts, points are *writes* of some elements each, their *columns*
(schedule/scatters.py). The first write to a slot makes the updates of all writes to it, one after
the other in the order of the points; so sums have the bits of a loop over the points, in every run.
How it finds the others:

    looked for   a warp takes one write and 32 columns. It looks through all other writes, 32 at a
                 time: it ends if an earlier one has the same slot, and takes the later ones in.
    sorted       a thread takes one entry of the sorted array and one column, or some of a long
                 row. It ends unless a slot begins at its entry, and goes on until the slot ends.

A slot that many writes of a single column are to, as in a histogram of few bins, is taken by the 32
threads of a warp: each computes one update at a time, and all combine all of them in turn:

    for (i32 p = start;; p += 32) {
      ...                                            // this thread's update, of entry p + lane
      const int count = __popc(__ballot_sync(0xffffffffu, is_there));
      for (int of = 0; of < count; ++of) {
        total = added_float32::combine(total, from_lane(update, of));
      }
      if (count < 32) break;
    }

Where the order does not count, but many updates are of few elements, as in a histogram of integers,
blocks update bins of their own in shared memory, and the array by them at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import prod

import numpy as np

from autodiff.codegen.cuda_elements import Held, element_name, held_name
from autodiff.codegen.cuda_indexed import at_places, atomically, update_element
from autodiff.codegen.cuda_launch import CudaKernel, Extents, Integer, OperandPointer
from autodiff.codegen.cuda_text import KernelText, ceil_div, instructions_at_point, power_of_two
from autodiff.codegen.operations import Typed
from autodiff.schedule.kernel_spec import (
    KernelSpec,
    Operand,
    Order,
    along_axes,
    place_indices,
)
from autodiff.schedule.scatters import is_direct, is_distinct, needed, write_axes

#: Threads of a block.
THREADS = 256

#: Columns that a thread takes, where there are enough: an estimate of what keeps memory busy.
EACH = 4

#: Updates that a thread loads before it combines the first of them, and twice as many where it
#: takes several columns. With twice as many again there were too few registers for sines.
LOADED = 4

#: Instructions of these updates together, at most.
MOST_INSTRUCTIONS = 1000

#: Blocks along y that a grid has at most; beyond, they go on along z.
MOST_BLOCKS = 32768

#: Elements of an array that a block has bins for, at most: 16 kB of shared memory of 64-bit ones.
MOST_BINS = 2048

#: Updates of a block's thread, and of each bin, that there are at least: an estimate of what makes
#: up for emptying and adding up the bins.
LEAST_UPDATES = 16

#: Blocks a multiprocessor has at most where each has bins.
WAVES = 4


def is_ordered(spec: KernelSpec) -> bool:
    """Return whether a kernel makes updates whose order counts."""
    return any(x.order is not None or not is_direct(spec, x) for x in spec.updates)


def is_binned(spec: KernelSpec) -> bool:
    """Return whether a kernel is many updates of few integers."""
    if len(spec.stores) != 1 or not spec.updates:
        return False
    (update,) = spec.updates
    points, bins = spec.row_count * spec.row_size, prod(update.shape)
    is_many = points >= LEAST_UPDATES * max(THREADS, bins)
    return is_many and bins <= MOST_BINS and not is_distinct(spec, update)


def emit_bins(text: KernelText, cores: int) -> CudaKernel:
    """Return the kernel of one update of integers that are few; `cores` are multiprocessors."""
    spec, b, index = text.spec, text.b, text.index
    (update,) = spec.updates
    points, kind = spec.row_count * spec.row_size, element_name(update.dtype)
    struct = text.updating(update)
    text.integer("n", points)
    text.integer("size", prod(update.shape))
    b.statement(f"__shared__ {kind} bins[{MOST_BINS}];")
    every_bin = f"for (int bin = threadIdx.x; bin < size; bin += {THREADS})"
    with b.within(every_bin):
        b.statement(f"AD_ST(&bins[bin], {struct}::identity());")
    b.statement("__syncthreads();")
    x = "i64(blockIdx.x)" if text.long else "blockIdx.x"
    first, step = f"{x} * {THREADS} + threadIdx.x", f"gridDim.x * {THREADS}"
    with b.within(f"for ({index} i = {first}; i < n; i += {step})"):
        indices = text.row_indices("i", range(len(spec.shape)))
        point = indices.pop(len(spec.shape) - 1)
        text.starts_of(indices)
        roots = [update.value, *place_indices(update)]
        update_element(text, 0, text.values_at(needed(spec, roots), point), point, "bins")
    b.statement("__syncthreads();")
    with b.within(every_bin):
        b.statement(f"const {kind} total = AD_LD(&bins[bin]);")
        made = atomically(text, update, f"&{text.outputs[0]}[bin]", "total")
        b.statement(f"if (total != {struct}::identity()) {made}")
    blocks = min(WAVES * cores, ceil_div(points, LEAST_UPDATES * THREADS))
    about = (
        f"x: points, {THREADS} times the blocks apart\n"
        f"{MOST_BINS * update.dtype.itemsize} bytes of shared memory; two barriers, which every "
        "thread of a block meets"
    )
    return text.kernel(about, THREADS, (blocks, 1, 1), (THREADS, 1, 1))


def emit_scatter(spec: KernelSpec, begin: Callable[[KernelSpec], KernelText]) -> CudaKernel:
    """Return the kernel of one update whose order counts.

    Args:
        spec: what it computes, with axes joined.
        begin: returns the text of a kernel with nothing in it.
    """
    (update,) = spec.updates
    axes = write_axes(spec, update)
    if axes == len(spec.shape):
        spec = _with_an_axis(spec)
    scatter = _Scatter(begin(spec), axes)
    if update.order is None:
        return scatter.looked_for()
    return scatter.sorted() if prod(spec.shape[axes:]) > 1 else scatter.sorted_numbers()


def _with_an_axis(spec: KernelSpec) -> KernelSpec:
    """Return the same kernel with a last axis of size 1: that of columns."""

    def along(strides: Sequence[int]) -> tuple[int, ...]:
        return (*strides, 0)

    loads, values, stores = (
        tuple([along_axes(x, along) for x in part])
        for part in (spec.loads, spec.values, spec.stores)
    )
    shape, rows = (*spec.shape, 1), len(spec.shape)
    return replace(spec, shape=shape, rows=rows, loads=loads, values=values, stores=stores)


class _Scatter:
    """The body of one kernel. The first `axes` axes number writes, the others columns."""

    def __init__(self, text: KernelText, axes: int) -> None:
        (update,) = text.spec.updates
        self.text = text
        self.b = text.b
        self.update = update
        self.axes = axes
        self.index = text.index
        self.kind = held_name(update.dtype)
        self.writes = prod(text.spec.shape[:axes])
        self.columns = prod(text.spec.shape[axes:])
        text.integer("writes", self.writes)
        if self.columns > 1:
            text.integer("columns", self.columns)
        #: Of the column that has been entered: the index along each axis, and along the last one.
        self.column: tuple[dict[int, str], str] = {}, "0"
        self.each = 1
        self.width = THREADS
        instructions = max(1, instructions_at_point(text.spec))
        self.most_loaded = max(1, MOST_INSTRUCTIONS // instructions)

    # ---- a write and a column

    def _wide(self, block: str) -> str:
        return f"i64({block})" if self.text.long else block

    def _enter_column(self, column: str) -> None:
        """Work out the indices along the axes of columns."""
        last = len(self.text.spec.shape) - 1
        indices = self.text.row_indices(column, range(self.axes, last + 1))
        self.column = indices, indices.pop(last)

    def _values(self, write: str, *roots: Operand, update: bool = False) -> dict[int, Held]:
        """Return values of a write and of the column, with what they are computed from.

        `update`: whether to work out, too, where the updated array's element is.
        """
        text, spec = self.text, self.text.spec
        values = needed(spec, roots)
        parts = [(*spec.loads, *spec.values)[i] for i in values]
        text.starts.clear()
        indices = text.row_indices(write, range(self.axes))
        placed = [*text.placed(parts), *([self.update] if update else [])]
        text.starts_of(indices | self.column[0], placed)
        return text.values_at(values, self.column[1])

    def _slot(self, write: str) -> tuple[Typed, Typed | None]:
        """Return where the first column of a write is, and whether that is in range."""
        column, self.column = self.column, ({}, "0")
        known = self._values(write, *place_indices(self.update), update=True)
        place, inside = at_places(self.text, self.update, known, "0")
        self.column = column
        return Typed(place, np.dtype(np.int64)), inside

    def _set_update(self, write: str, form: str) -> None:
        """Append a statement in which `{value}` is a write's update of the column."""
        value = self.update.value
        known = self._values(write, value)
        self.text.elements.set(form, self.text.operand_value(value, known))

    @property
    def _total(self) -> str:
        """The variable of the column that has been entered."""
        return "total" if self.each == 1 else "total[k]"

    def _declare_totals(self) -> None:
        count = "" if self.each == 1 else f"[{self.each}]"
        self.b.statement(f"{self.kind} total{count}{'' if count else f' = {self.kind}()'};")

    def _element(self) -> str:
        """Return the element of the slot, which begins at `slot_at`, that the column is at."""
        self.text.starts.clear()
        self.text.starts_of(self.column[0], [self.update])
        return f"&{self.text.outputs[0]}[slot_at + {self.text.place(self.update, self.column[1])}]"

    def _load_total(self) -> None:
        elements, element = self.text.elements, self._element()
        before = elements.read(f"AD_LD({element})", self.update.dtype, "before")
        elements.set(f"{self._total} = {{value}};", before)

    def _store_total(self) -> None:
        elements, element = self.text.elements, self._element()
        total = elements.variable(self._total, self.update.dtype)
        elements.write(f"AD_ST({element}, {{value}});", total)

    def _combine(self, update: str, total: str | None = None) -> None:
        total, struct = total or self._total, self.text.updating(self.update)
        self.b.statement(f"{total} = {struct}::combine({total}, {update});")

    def _column_blocks(self, width: int) -> tuple[str, int, int]:
        """Return which block of columns this is, and the extents of the grid along y and z."""
        blocks = ceil_div(self.columns, width)
        deep = ceil_div(blocks, MOST_BLOCKS)
        return self._wide("(blockIdx.z * gridDim.y + blockIdx.y)"), ceil_div(blocks, deep), deep

    # ---- writes that are looked for

    def looked_for(self) -> CudaKernel:
        """Return the kernel in which a warp looks through all writes."""
        b, index, across = self.b, self.index, THREADS // 32
        block, high, deep = self._column_blocks(32)
        b.statement("const int lane = threadIdx.x;")
        b.statement(f"const {index} write = {self._wide('blockIdx.x')} * {across} + threadIdx.y;")
        b.statement("if (write >= writes) return;")
        self._declare_slot("write", "slot_at")
        if self.update.mode == "drop":
            b.statement("if (slot_at < 0) return;")
        with b.within(f"for ({index} start = 0; start < write; start += 32)"):
            self._declare_same("other < write")
            b.statement("if (__any_sync(0xffffffffu, is_same)) return;")
        if self.columns > 1:
            b.statement(f"const {index} column = 32 * {block} + lane;")
            b.statement("const bool inside = column < columns;")
            b.statement(f"const {index} within = inside ? column : columns - 1;")
        else:
            b.statement("const bool inside = lane == 0;")
        self._enter_column("within" if self.columns > 1 else "0")
        self._declare_totals()
        with b.within("if (inside)"):
            self._load_total()
        head = f"for ({index} start = write / 32 * 32; start < writes; start += 32)"
        with b.within(head):
            self._declare_same("other >= write && other < writes")
            b.statement("u32 found = __ballot_sync(0xffffffffu, is_same);")
            with b.within("for (; found; found &= found - 1)"):
                b.statement(f"const {index} next = start + __ffs(found) - 1;")
                with b.within("if (inside)"):
                    self._set_update("next", f"const {self.kind} update = {{value}};")
                    self._combine("update")
        with b.within("if (inside)"):
            self._store_total()
        about = f"x: writes, {across} a block; y, z: columns, 32 a warp"
        grid = (ceil_div(self.writes, across), high, deep)
        return self._launched(about, grid, (32, across, 1))

    def _declare_slot(self, write: str, name: str) -> None:
        """Declare where the first column of a write is, -1 if it is dropped."""
        slot, inside = self._slot(write)
        slot = slot if inside is None else self.text.o.where(inside, slot, -1)
        self.text.elements.set(f"const i64 {name} = {{value}};", slot)

    def _declare_same(self, condition: str) -> None:
        """Declare whether the write that this lane looks at is to the same slot."""
        b = self.b
        b.statement(f"const {self.index} other = start + lane;")
        b.statement("bool is_same = false;")
        with b.within(f"if ({condition})"):
            self._declare_slot("other", "its_slot")
            b.statement("is_same = its_slot == slot_at;")

    # ---- writes that are sorted

    def _begin_sorted(self) -> Order:
        """Add the parameters that say where writes of a slot are."""
        order, parameters = self.update.order, self.text.parameters
        assert order is not None
        bits = 8 * order.dtype.itemsize
        self.entry = element_name(order.dtype)
        pointer = OperandPointer(order.operand)
        parameters.append((f"const {self.entry}* __restrict__ entries", pointer))
        parameters.append((f"const {self.entry} slots", Integer(order.slots, bits)))
        parameters.append(("const i32 bits", Integer(order.bits)))
        return order

    def _declare_head(self, condition: str) -> None:
        """Declare the slot of entry `first`, and whether it begins there."""
        b = self.b
        b.statement(f"{self.entry} entry = 0, slot = slots;")
        b.statement("bool is_first = false;")
        with b.within(f"if ({condition})"):
            b.statement("entry = AD_LD(&entries[first]);")
            b.statement("slot = entry >> bits;")
            before = "first == 0 || AD_LD(&entries[first - 1]) >> bits != slot"
            b.statement(f"is_first = slot != slots && ({before});")

    def _declare_write(self, entry: str) -> None:
        mask = f"(({self.entry}(1) << bits) - 1)"
        self.b.statement(f"const {self.index} write = {entry} & {mask};")

    @contextmanager
    def _each_column(self, *, enter: bool = True) -> Iterator[None]:
        """Emit what is appended within for each of a thread's columns, which is entered before."""
        b, known = self.b, self.column
        if self.each == 1:
            yield
            return
        b.statement("#pragma unroll")
        with b.within(f"for (int k = 0; k < {self.each}; ++k)"):
            b.statement(f"const {self.index} at_column = column + {self.width} * k;")
            with b.within("if (at_column < columns)"):
                if enter:
                    self._enter_column("at_column")
                yield
        self.column = known

    def _combine_all(self) -> None:
        """Combine the updates of all entries of a slot from `first` on."""
        b = self.b
        wanted = LOADED if self.each == 1 else 2 * LOADED
        steps = max(1, min(wanted, self.most_loaded) // self.each)
        update = "updates[step]" if self.each == 1 else "updates[step][k]"
        with b.within(f"for ({self.index} p = first;; p += {steps})"):
            across = "" if self.each == 1 else f"[{self.each}]"
            b.statement(f"{self.kind} updates[{steps}]{across};")
            b.statement("int count = 0;")
            b.statement("#pragma unroll")
            each = f"for (int step = 0; step < {steps}; ++step)"
            with b.within(each), b.within("if (p + step < writes)"):
                b.statement(f"const {self.entry} next = AD_LD(&entries[p + step]);")
                with b.within("if (next >> bits == slot)"):
                    self._declare_write("next")
                    with self._each_column():
                        self._set_update("write", f"{update} = {{value}};")
                    b.statement("++count;")
            b.statement("#pragma unroll")
            with b.within(each), b.within("if (step < count)"), self._each_column(enter=False):
                self._combine(update)
            b.statement(f"if (count < {steps}) break;")

    def sorted(self) -> CudaKernel:
        """Return the kernel in which a thread takes columns of a slot."""
        b, index = self.b, self.index
        self._begin_sorted()
        self.each = EACH if self.columns >= 32 * EACH and self.most_loaded >= EACH else 1
        self.width = min(THREADS, power_of_two(ceil_div(self.columns, self.each)))
        across = THREADS // self.width
        block, high, deep = self._column_blocks(self.width * self.each)
        taken = self.width * self.each
        b.statement(f"const {index} column = {block} * {taken} + threadIdx.x;")
        x = self._wide("blockIdx.x")
        b.statement(f"const {index} first = {x} * {across} + threadIdx.y;")
        self._declare_head("first < writes && column < columns")
        b.statement("if (!is_first) return;")
        self._declare_write("entry")
        self.text.elements.set("const i64 slot_at = {value};", self._slot("write")[0])
        if self.each == 1:
            self._enter_column("column")
        self._declare_totals()
        with self._each_column():
            self._load_total()
        self._combine_all()
        with self._each_column():
            self._store_total()
        mapped = f"x: columns, {self.each} a thread" if self.each > 1 else "x: columns"
        about = f"{mapped}; y: entries\nthe grid's x: entries; y, z: columns"
        grid = (ceil_div(self.writes, across), high, deep)
        return self._launched(about, grid, (self.width, across, 1))

    def sorted_numbers(self) -> CudaKernel:
        """Return the kernel in which a thread takes a slot, or a warp one with many writes."""
        b, index = self.b, self.index
        self._begin_sorted()
        x = self._wide("blockIdx.x")
        b.statement("const int lane = threadIdx.x % 32;")
        b.statement(f"const {index} first = {x} * {THREADS} + threadIdx.x;")
        self._declare_head("first < writes")
        b.statement("bool is_long = is_first && first + 32 < writes;")
        b.statement("if (is_long) is_long = AD_LD(&entries[first + 32]) >> bits == slot;")
        self._declare_totals()
        b.statement("i64 slot_at = 0;")
        with b.within("if (is_first)"):
            self._declare_write("entry")
            self.text.elements.set("slot_at = {value};", self._slot("write")[0])
            self._load_total()
        with b.within("if (is_first && !is_long)"):
            self._combine_all()
        b.statement("// slots of more than 32 writes, one after the other by the whole warp")
        b.statement("const u32 long_ones = __ballot_sync(0xffffffffu, is_long);")
        with b.within("for (u32 left = long_ones; left; left &= left - 1)"):
            b.statement("const int owner = __ffs(left) - 1;")
            b.statement(f"const {self.entry} its_slot = from_lane(slot, owner);")
            b.statement(f"{self.kind} its_total = from_lane(total, owner);")
            with b.within(f"for ({index} p = from_lane(first, owner);; p += 32)"):
                b.statement(f"{self.kind} update = {self.kind}();")
                b.statement("bool is_there = false;")
                with b.within("if (p + lane < writes)"):
                    b.statement(f"const {self.entry} next = AD_LD(&entries[p + lane]);")
                    b.statement("is_there = next >> bits == its_slot;")
                    with b.within("if (is_there)"):
                        self._declare_write("next")
                        self._set_update("write", "update = {value};")
                b.statement("const int count = __popc(__ballot_sync(0xffffffffu, is_there));")
                b.statement("#pragma unroll 8")
                with b.within("for (int of = 0; of < count; ++of)"):
                    self._combine("from_lane(update, of)", "its_total")
                b.statement("if (count < 32) break;")
            b.statement("if (lane == owner) total = its_total;")
        with b.within("if (is_first)"):
            self._store_total()
        about = "x: entries\nshuffles and votes, which every thread of a warp meets"
        return self._launched(about, (ceil_div(self.writes, THREADS), 1, 1), (THREADS, 1, 1))

    def _launched(self, about: str, grid: Extents, block: Extents) -> CudaKernel:
        return self.text.kernel(about, THREADS, grid, block)
