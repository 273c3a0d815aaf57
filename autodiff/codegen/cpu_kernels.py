"""Kernels for the CPU: from a `KernelSpec` to LLVM text.

A kernel is a function `(pointers, sizes, begin, end)`. Lanes of vectors are points of one row:

    for each row:                                   rows begin to end
        values known in rows
        for each pass:
            for each vector of points: loads, values, accumulators of reductions, stores
            for the points that fill no vector the same under a mask, or without a reduction as
            one more vector that begins earlier
            reductions across the lanes, and the values in rows that need them

or, where something costly is done once a row, blocks of rows (cpu_row_blocks.py); or, where rows
are short or their points lie apart in memory, neighbouring rows:

    for each block of as many rows as there are lanes:      blocks begin to end
        the same, point by point; reductions need nothing across the lanes
        (short rows that lie one after another are turned in registers: cpu_short_rows.py)

or, where one pass over such rows would jump through memory, a tile of blocks at a time:

    for each tile:                                          blocks begin to end
        for each point: for each block of the tile: loads, values, accumulators kept on the stack
        for each block of the tile: values in rows

Where there is a single row and no reduction, begin to end are points. A value that costs much and
is needed in several passes is kept in a buffer on the stack; others are computed again. Sizes and
strides of the index space are constants of the text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from math import prod
from typing import Any

import numpy as np

from autodiff.base import dtypes
from autodiff.base.source_info import short_line
from autodiff.codegen.complex_operations import ComplexOperations, of_parts, parts_of
from autodiff.codegen.cpu_memory import Held, Memory, element_text
from autodiff.codegen.cpu_row_blocks import RowBlocks, rows_of_block
from autodiff.codegen.cpu_short_rows import SHORT_ROW, ShortRows, are_turned
from autodiff.codegen.kernel_needs import Needs
from autodiff.codegen.operations import Operations, Typed, held_type, memory_type
from autodiff.codegen.scalar_types import Value
from autodiff.codegen.vectors import VectorBuilder
from autodiff.ir.graph import Literal
from autodiff.ir.primitive import CACHE_LIMIT, Primitive
from autodiff.primitives.lowering import lower
from autodiff.schedule.kernel_spec import Compute, KernelSpec, Reduce
from autodiff.schedule.target import Target

_BOOL = np.dtype(bool)

#: Bytes that may be kept on the stack for one value.
KEPT_BYTES = 1 << 16

#: Vectors of points that a pass with a reduction works on at a time, each with accumulators of its
#: own. It is the same whatever else the pass computes: so a sum is rounded alike in all kernels.
UNROLLED = 2

#: Instructions beyond which a value is rather kept than computed again.
COSTLY = 8

#: Bytes from one point to the next from which on blocks of rows go over the points together.
FAR = 1024

#: Bytes of the accumulators of a tile.
TILE_BYTES = 1 << 14

#: Values up to which a step of a tile is short: its accumulators are read more seldom.
FEW_VALUES = 8

#: Registers that a vector of rows fills where little is computed: more is read in one go.
REGISTERS = 4


class CannotEmit(Exception):
    """Why a kernel cannot be emitted; the text is the stated reason."""


def collapsed(spec: KernelSpec) -> KernelSpec:
    """Return the same kernel with axes joined that all loads and stores go through as one.

    Raises:
        CannotEmit: points of a row are not one axis, and there is a reduction.
    """
    rows = spec.rows if spec.reduces else len(spec.shape)
    maps = [*[load.strides for load in spec.loads], *[store.strides for store in spec.stores]]
    parts = [_joined(spec.shape, maps, 0, rows), _joined(spec.shape, maps, rows, len(spec.shape))]
    if spec.reduces and len(parts[1]) > 1:
        raise CannotEmit("the points of a row are not one axis for all of its operands")
    if not spec.reduces:  # the last axis is the points of a row, the others number rows
        parts = [parts[0][:-1], parts[0][-1:]]
    groups = [*parts[0], *(parts[1] or [[]])]
    shape = tuple(prod(spec.shape[i] for i in group) for group in groups)

    def along(strides: Sequence[int]) -> tuple[int, ...]:
        return tuple(strides[group[-1]] if group else 0 for group in groups)

    return KernelSpec(
        shape,
        len(parts[0]),
        tuple(replace(load, strides=along(load.strides)) for load in spec.loads),
        spec.values,
        tuple(replace(store, strides=along(store.strides)) for store in spec.stores),
        spec.total,
    )


def _joined(
    shape: Sequence[int], maps: Sequence[Sequence[int]], start: int, stop: int
) -> list[list[int]]:
    """Return groups of axes that can be gone through as one, axes of size 1 left out."""
    groups: list[list[int]] = []
    for axis in range(start, stop):
        if shape[axis] == 1:
            continue
        if groups and all(m[groups[-1][-1]] == m[axis] * shape[axis] for m in maps):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    return groups


def emit_kernel(spec: KernelSpec, target: Target, name: str, contract: bool = True) -> str:
    """Return the text of a module that defines the kernel `name`.

    Args:
        spec: a kernel that `collapsed` has returned.
        target: the processor.
        name: the function's name, a valid symbol.
        contract: whether a product and a sum may be rounded once (fused multiply-add).
    """
    return _Emitter(spec, target, name, contract).module()


def span_of(spec: KernelSpec, target: Target) -> int:
    """Return how many rows, blocks of rows or points there are to be divided over begin to end."""
    if lanes_are_rows(spec, target):
        *outer, inner = spec.shape[: spec.rows]
        lanes = lanes_of(spec, target)
        return prod(outer) * -(-inner // lanes)
    is_one_row = spec.row_count == 1 and not spec.reduces
    return spec.row_size if is_one_row else spec.row_count


def lanes_are_rows(spec: KernelSpec, target: Target) -> bool:
    """Return whether the lanes of a vector are neighbouring rows, not points of one row."""
    if not spec.reduces or not spec.rows or spec.total is not None:
        return False
    width = _width(spec, target)
    if spec.shape[spec.rows - 1] < width:
        return False
    read = [load.strides for load in spec.loads if load.strides[-1]]
    apart = sum(strides[-1] != 1 for strides in read)
    return spec.row_size <= SHORT_ROW or 2 * apart > len(read)


def _width(spec: KernelSpec, target: Target) -> int:
    """Return how many elements of the widest type fill a register; complex ones fill two."""
    held = [spec.dtype_of(i) for i in range(len(spec.loads) + len(spec.values))]
    sizes = [dtypes.real_dtype(dtype).itemsize for dtype in held]
    wide = [size if size > 2 else 4 for size in sizes]  # half precisions are computed in single
    return max(1, target.vector_bits // (8 * max(wide, default=4)))


def lanes_of(spec: KernelSpec, target: Target) -> int:
    """Return the lanes of a kernel's vectors."""
    width = _width(spec, target)
    if not lanes_are_rows(spec, target):
        return width
    if are_turned(spec, width):
        return width
    rows = spec.shape[spec.rows - 1]
    is_simple = not any(
        isinstance(value, Compute) and is_costly(value, spec, target) for value in spec.values
    )
    times = REGISTERS if is_simple else 1
    while times > 1 and times * width > rows:
        times //= 2
    return times * width


def tile_of(spec: KernelSpec, target: Target) -> int:
    """Return how many blocks of rows go over the points together, which reads memory in order."""
    if not lanes_are_rows(spec, target):
        return 1
    needs = Needs(spec)
    reductions = needs.reductions(0).values()
    is_far = any(abs(x.strides[-1]) * x.dtype.itemsize >= FAR for x in spec.loads)
    computed = [needs.passes[i] for i in needs.computed_in_rows()]
    if needs.last > 0 or not reductions or not is_far or 0 in computed:
        return 1
    parts = [dtypes.real_dtype(value.dtype) for value in reductions]
    if any(held_type(part).bits > memory_type(part).bits for part in parts):
        return 1  # an accumulator of half precision is held in single
    lanes = lanes_of(spec, target)
    size = sum(UNROLLED * lanes * value.dtype.itemsize for value in reductions)
    return max(1, min(-(-spec.shape[spec.rows - 1] // lanes), TILE_BYTES // size))


def is_costly(value: Compute, spec: KernelSpec, target: Target) -> bool:
    """Return whether a value takes more than some instructions."""
    return instructions_of(value, spec, target) > COSTLY


def instructions_of(value: Compute, spec: KernelSpec, target: Target) -> int:
    """Return how many instructions compute a value, as its rule writes them."""
    taken = [x.aval.dtype if isinstance(x, Literal) else spec.dtype_of(x) for x in value.operands]
    return instructions_for(value.primitive, tuple(taken), value.params, target)


@lru_cache(maxsize=CACHE_LIMIT)
def instructions_for(
    primitive: Primitive,
    operands: tuple[np.dtype, ...],
    params: tuple[tuple[str, Any], ...],
    target: Target,
) -> int:
    """Return how many instructions an elementwise operation takes on these types."""
    b = VectorBuilder(target, 1)
    lower(ComplexOperations(Operations(b)), primitive, list(map(any_value, operands)), dict(params))
    return len(b.lines)


def any_value(dtype: np.dtype) -> Held:
    """Return a value of an element type of which nothing is known."""
    part = dtypes.real_dtype(dtype)
    one = Typed(Value("%x", held_type(part)), part)
    return of_parts([one, one] if dtypes.is_complex(dtype) else [one], dtype)


class _Emitter:
    """The text of one kernel as it grows."""

    def __init__(self, spec: KernelSpec, target: Target, name: str, contract: bool) -> None:
        self.spec = spec
        self.target = target
        self.name = name
        self.across = lanes_are_rows(spec, target)
        self.lanes = lanes_of(spec, target)
        self.b = VectorBuilder(target, self.lanes)
        self.b.contract = contract
        self.o = ComplexOperations(Operations(self.b))
        self.memory = Memory(self.b, self.o)
        self.needs = Needs(spec)
        self.points = spec.row_size
        self.tile = tile_of(spec, target)
        self.kept_in = self.needs.kept(self._is_costly)
        self.kept = {i: f"%kept{i}" for i in self.kept_in if self._fits(i)}
        self.block = self._block()
        is_turned = self.across and are_turned(spec, self.lanes)
        self.short_rows = ShortRows(self) if is_turned else None
        self.unrolled = UNROLLED
        self.place = "0"  # of the row in its block
        self.row_values: dict[int, Held] = {}
        self.loads: list[str] = []  # addresses of the first point of the row
        self.stores: list[str] = []
        self.row_mask: Value | None = None

    def _is_costly(self, i: int) -> bool:
        """Return whether a value is rather kept than computed, or gathered, again."""
        if i < self.needs.first:
            return self.across and self._along_lanes(self.spec.loads[i].strides) not in (0, 1)
        value = self.spec.values[i - self.needs.first]
        return isinstance(value, Compute) and is_costly(value, self.spec, self.target)

    @property
    def _room(self) -> int:
        """Elements of a row in a buffer: there is room for whole vectors."""
        return self.points + self.lanes

    def _block(self) -> int:
        """Return how many rows are gone through together, for what is done once a row."""
        in_rows = [self.spec.values[i - self.needs.first] for i in self.needs.computed_in_rows()]
        instructions = sum(
            instructions_of(value, self.spec, self.target)
            for value in in_rows
            if isinstance(value, Compute)
        )
        if self.across or instructions <= COSTLY:
            return 1
        rows = rows_of_block(self.spec, self.lanes)
        kept = [rows * self._room * self.spec.dtype_of(i).itemsize for i in self.kept]
        return rows if max(kept, default=0) <= KEPT_BYTES else 1

    def _fits(self, i: int) -> bool:
        lanes = self.lanes if self.across else 1
        return self.points * lanes * self.spec.dtype_of(i).itemsize <= KEPT_BYTES

    # ---- the module

    def module(self) -> str:
        b = self.b
        b.lines.append("entry:")
        inputs = max((load.operand for load in self.spec.loads), default=-1) + 1
        self.inputs = inputs
        self.pointers = [self._pointer(k) for k in range(inputs + len(self.spec.stores))]
        for i, buffer in self.kept.items():
            kind = element_text(self.spec.dtype_of(i))
            room = self.points * self.lanes if self.across else self.block * self._room
            b.lines.append(f"  {buffer} = alloca [{room} x {kind}], align 64")
        if self.tile > 1:
            for i, value in self.needs.reductions(0).items():
                kind, room = element_text(value.dtype), self.tile * UNROLLED * self.lanes
                b.lines.append(f"  %sums{i} = alloca [{room} x {kind}], align 64")
        is_one_row = self.spec.row_count == 1 and not self.spec.reduces

        def row(index: str) -> None:
            self._enter_row(index)
            self._row(("0", self._row_end(index)))

        if is_one_row and not self.across:
            self._enter_row("0")
            self._row(("%begin", "%end"))
        elif self.block > 1:
            blocks = RowBlocks(self, self.block)
            blocks.allocate()
            self._loop("block", "%begin", "%end", self.block, blocks.emit)
        elif self.tile > 1:
            self._loop("tile", "%begin", "%end", self.tile, self._tile)
        else:
            self._loop("row", "%begin", "%end", 1, row)
        b.lines.append("  ret void")
        declarations = sorted(b.declarations.values())
        signature = f"define void @{self.name}(ptr %pointers, ptr %sizes, i64 %begin, i64 %end)"
        return "\n".join(
            [
                *[f"; {line}" for line in str(self.spec).split("\n")],
                f"; lanes of vectors are {'rows' if self.across else 'points of a row'}",
                f'target triple = "{self.target.triple}"',
                f"{signature} {{",
                *b.lines,
                "}",
                *declarations,
                "",
            ]
        )

    def _row_end(self, row: str) -> str:
        """Return how many points a row has."""
        if self.spec.total is None:
            return str(self.points)
        scalar = self.memory.scalar
        left = scalar(f"sub i64 {self.spec.total}, {scalar(f'mul i64 {row}, {self.points}')}")
        is_last = scalar(f"icmp slt i64 {left}, {self.points}")
        return scalar(f"select i1 {is_last}, i64 {left}, i64 {self.points}")

    def _pointer(self, k: int) -> str:
        slot = self.memory.scalar(f"getelementptr ptr, ptr %pointers, i64 {k}")
        return self.memory.scalar(f"load ptr, ptr {slot}")

    def _loop(
        self,
        stem: str,
        start: str,
        stop: str,
        step: int,
        body: Callable[..., Sequence[Value] | None],
        carried: Sequence[Value] = (),
    ) -> list[Value]:
        """Emit `for i in range(start, stop, step): carried = body(i, *carried)`; return carried."""
        b = self.b
        head, inside, after = (b.fresh_label(f"{stem}.{part}") for part in ("head", "body", "end"))
        before, index, following = b.block, b.fresh_name(), b.fresh_name()
        b.lines.append(f"  br label %{head}")
        b.label(head)
        place = len(b.lines)
        held = [Value(b.fresh_name(), x.type) for x in carried]
        test = self.memory.scalar(f"icmp slt i64 {index}, {stop}")
        b.lines.append(f"  br i1 {test}, label %{inside}, label %{after}")
        b.label(inside)
        updated = body(index, *held) or ()
        b.lines.append(f"  {following} = add i64 {index}, {step}")
        b.lines.append(f"  br label %{head}")
        phis = [f"  {index} = phi i64 [ {start}, %{before} ], [ {following}, %{b.block} ]"]
        for x, begun, went_on in zip(held, carried, updated, strict=True):
            edges = f"[ {begun.text}, %{before} ], [ {went_on.text}, %{b.block} ]"
            phis.append(f"  {x.text} = phi {b.text_of(x.type)} {edges}")
        b.lines[place:place] = phis
        b.label(after)
        return held

    # ---- one row, or one block of rows

    def _enter_row(self, row: str) -> None:
        """Work out where the row, or block of rows, begins everywhere; load what is read once."""
        indices = self._indices(row)
        memory, spec = self.memory, self.spec

        def start(base: str, dtype: Any, strides: Sequence[int], offset: int) -> str:
            terms = zip(indices, strides[: spec.rows], strict=True)
            return memory.address(base, dtype, *terms, offset=offset)

        self.loads = [
            start(self.pointers[load.operand], load.dtype, load.strides, load.offset)
            for load in spec.loads
        ]
        self.stores = [
            start(self.pointers[self.inputs + k], store.dtype, store.strides, 0)
            for k, store in enumerate(spec.stores)
        ]
        self.row_values = {}
        for i, load in enumerate(spec.loads):
            if self.needs.in_rows[i]:
                stride = self._along_lanes(load.strides) if self.across else 0
                self.row_values[i] = memory.load(self.loads[i], load.dtype, stride, self.row_mask)

    def _indices(self, row: str) -> list[str]:
        """Return the index along each axis that numbers rows."""
        sizes = list(self.spec.shape[: self.spec.rows])
        if row == "0" or not sizes:
            return ["0"] * len(sizes)
        scalar = self.memory.scalar
        inner = sizes[-1]
        if self.across:  # the last axis is counted in blocks
            sizes[-1] = -(-inner // self.lanes)
        indices = []
        rest = row
        for size in reversed(sizes[1:]):
            indices.append(scalar(f"urem i64 {rest}, {size}"))
            rest = scalar(f"udiv i64 {rest}, {size}")
        indices = [*indices, rest][::-1]
        if self.across:
            indices[-1] = scalar(f"mul i64 {indices[-1]}, {self.lanes}")
            whole = inner % self.lanes == 0
            if self.short_rows is not None and not whole:
                last = inner - self.lanes
                is_whole = scalar(f"icmp slt i64 {indices[-1]}, {last}")
                indices[-1] = scalar(f"select i1 {is_whole}, i64 {indices[-1]}, i64 {last}")
            elif not whole:
                self.row_mask = self.memory.mask(scalar(f"sub i64 {inner}, {indices[-1]}"))
        return indices

    def _along_lanes(self, strides: Sequence[int]) -> int:
        """Return the stride from one lane to the next."""
        return strides[self.spec.rows - 1] if self.across else strides[-1]

    def _row(self, span: tuple[str, str]) -> None:
        if self.short_rows is not None:
            self.short_rows.enter()
        for number in range(self.needs.last + 1):
            self._row_computations(number)
            if self.short_rows is not None:
                self.short_rows.go_over_points(number)
            else:
                self._pass(number, span)
        self._finish_row()

    def _finish_row(self) -> None:
        """Emit the values that the last pass makes known, and store what is one of each row."""
        self._row_computations(self.needs.last + 1)
        for k, i in self.needs.stored(rows=True):
            if self.across:
                stride = self._along_lanes(self.spec.stores[k].strides)
                self.memory.store(self.row_values[i], self.stores[k], stride, self.row_mask)
            else:
                self.memory.store_first_lane(self.row_values[i], self.stores[k])

    def _row_computations(self, number: int) -> None:
        """Emit the values in rows that are known by a pass."""
        made: dict[Any, tuple[Held, ...]] = {}
        for i, value in enumerate(self.spec.values, self.needs.first):
            is_due = self.needs.in_rows[i] and self.needs.passes[i] <= number
            if isinstance(value, Compute) and is_due and i not in self.row_values:
                self.row_values[i] = self._computed(value, self.row_values, made)

    def _computed(
        self, value: Compute, known: dict[int, Held], made: dict[Any, tuple[Held, ...]]
    ) -> Held:
        """Return a value, given those it needs; `made` are the outputs of what was applied here."""
        outputs = made.get(value.application)
        if outputs is None:
            outputs = made[value.application] = self._applied(value, known)
        return outputs[value.output]

    def _applied(self, value: Compute, known: dict[int, Held]) -> tuple[Held, ...]:
        """Emit an operation and return its outputs."""
        line = short_line(value.source)
        self.b.comment(f"{value.primitive.name}{f'  ({line})' if line else ''}")
        operands = []
        for x in value.operands:
            if isinstance(x, Literal):
                operands.append(self.o.constant(x.value.item(), x.aval.dtype))
            else:
                operands.append(known[x])
        return lower(self.o, value.primitive, operands, dict(value.params))

    # ---- a tile of blocks of rows

    def _tile(self, first: str) -> None:
        """Emit the blocks from `first` on, at most a tile, the points in the outer loop."""
        scalar, memory = self.memory.scalar, self.memory
        past = scalar(f"add i64 {first}, {self.tile}")
        is_whole = scalar(f"icmp slt i64 {past}, %end")
        stop = scalar(f"select i1 {is_whole}, i64 {past}, i64 %end")
        reductions = self.needs.reductions(0)

        def place(i: int, k: int, row: str) -> str:
            """Return where the k-th accumulator of a reduction is for a block."""
            within = scalar(f"sub i64 {row}, {first}")
            step = (within, UNROLLED * self.lanes)
            return memory.address(f"%sums{i}", reductions[i].dtype, step, offset=k * self.lanes)

        def each_block(body: Callable[[str], None]) -> None:
            self._loop("row", first, stop, 1, body)

        def begin(row: str) -> None:
            for i, value in reductions.items():
                for k in range(UNROLLED):
                    memory.store(self._identity(value), place(i, k, row), 1, None)

        def visit(row: str, point: str, times: int) -> None:
            self._enter_row(row)
            kept = [(i, k) for i in reductions for k in range(min(times, UNROLLED))]
            at = {(i, k): place(i, k, row) for i, k in kept}
            held = {key: memory.load(at[key], reductions[key[0]].dtype, 1, None) for key in kept}
            for k in range(times):
                where = point if k == 0 else scalar(f"add i64 {point}, {k}")
                known = self._step(0, where, self.row_mask)
                for i, value in reductions.items():
                    key = i, k % UNROLLED
                    held[key] = self._combined(value, held[key], known[value.operand])
            for i, k in kept:
                memory.store(held[i, k], at[i, k], 1, None)

        def visit_all(point: str, times: int) -> None:
            each_block(lambda row: visit(row, point, times))

        def finish(row: str) -> None:
            self._enter_row(row)
            for i, value in reductions.items():
                totals = [
                    memory.load(place(i, k, row), value.dtype, 1, None) for k in range(UNROLLED)
                ]
                total = totals[0]
                for other in totals[1:]:
                    total = self._combined(value, total, other)
                self.row_values[i] = total
            self._finish_row()

        each_block(begin)
        done = 0
        for times in (self._depth(), UNROLLED, 1):
            whole = self.points - (self.points - done) % times
            if whole > done:
                self._loop(
                    f"points{times}", str(done), str(whole), times, partial(visit_all, times=times)
                )
            done = whole
        each_block(finish)

    def _depth(self) -> int:
        """Return how many points of a block are read for each time its accumulators are."""
        is_short = len(self.spec.values) <= FEW_VALUES and not any(
            isinstance(value, Compute) and is_costly(value, self.spec, self.target)
            for value in self.spec.values
        )
        return 4 * UNROLLED if is_short else UNROLLED

    # ---- one pass over the points

    def _pass(self, number: int, span: tuple[str, str]) -> None:
        reductions = self.needs.reductions(number)
        times = UNROLLED if reductions else 1
        totals = self._points(number, span, reductions, times)
        for place, (i, value) in enumerate(reductions.items()):
            mine = totals[place * times : (place + 1) * times]
            total = mine[0]
            for other in mine[1:]:
                total = self._combined(value, total, other)
            self.row_values[i] = total if self.across else self._across_lanes(value, total)

    def _points(
        self, number: int, span: tuple[str, str], reductions: dict[int, Reduce], times: int
    ) -> list[Held]:
        """Emit the loop over whole steps and the one over what is left; return accumulators."""
        scalar = self.memory.scalar
        width = 1 if self.across else self.lanes
        step = width * times
        start, stop = span
        may_repeat = not (reductions or self.across or self.spec.reuses)
        if may_repeat and self.spec.total is None and self.points >= width:
            self._points_overlapping(number, start, stop)
            return []
        kinds = [value.dtype for value in reductions.values() for _ in range(times)]
        begun = [self._identity(value) for value in reductions.values() for _ in range(times)]
        length = scalar(f"sub i64 {stop}, {start}")
        whole = scalar(f"add i64 {start}, {scalar(f'and i64 {length}, {-step}')}")

        def steps(index: str, *carried: Value) -> list[Value]:
            held = _grouped(carried, kinds)
            updated = list(held)
            for k in range(times):
                where = index if k == 0 else scalar(f"add i64 {index}, {k * width}")
                known = self._step(number, where, self.row_mask)
                for place, value in enumerate(reductions.values()):
                    at = place * times + k
                    updated[at] = self._combined(value, held[at], known[value.operand])
            return _flat(updated)

        def rest(index: str, *carried: Value) -> list[Value]:
            if self.across:
                mask, chosen = self.row_mask, None
            else:
                mask = chosen = self.memory.mask(scalar(f"sub i64 {stop}, {index}"))
            known = self._step(number, index, mask)
            held = _grouped(carried, kinds)
            updated = list(held)
            for place, value in enumerate(reductions.values()):
                at = place * times
                new = self._combined(value, held[at], known[value.operand])
                if chosen is not None:
                    new = self.o.where(Typed(chosen, _BOOL), new, held[at])
                updated[at] = new
            return _flat(updated)

        totals = self._loop("points", start, whole, step, steps, _flat(begun))
        if step > 1:
            totals = self._loop("rest", whole, stop, width, rest, totals)
        return _grouped(totals, kinds)

    def _points_overlapping(self, number: int, start: str, stop: str) -> None:
        """Emit a loop whose last vector ends where the points end.

        It computes some points again, to the same values, and saves the text of a step under a
        mask: half of what there is to compile.
        """
        scalar = self.memory.scalar
        last = scalar(f"sub i64 {stop}, {self.lanes}")

        def step(index: str) -> None:
            is_whole = scalar(f"icmp slt i64 {index}, {last}")
            self._step(number, scalar(f"select i1 {is_whole}, i64 {index}, i64 {last}"), None)

        self._loop("points", start, stop, self.lanes, step)

    def _combined(self, value: Reduce, x: Held, y: Held) -> Held:
        combine = value.primitive.combine
        assert combine is not None
        return combine(self.o, x, y)

    def _step(self, number: int, index: str, mask: Value | None) -> dict[int, Held]:
        """Emit a vector of points of a pass: what it needs, and its stores."""
        needs, spec = self.needs, self.spec
        known: dict[int, Held] = dict(self.row_values)
        made: dict[Any, tuple[Held, ...]] = {}
        read = {i for i in self.kept if self.kept_in[i] < number}
        for i in needs.wanted(number, read):
            if i in read:
                dtype = spec.dtype_of(i)
                known[i] = self.memory.load(self._buffer(i, index), dtype, 1, None)
            elif i < needs.first:
                known[i] = self._loaded(i, index, mask)
            else:
                value = spec.values[i - needs.first]
                assert isinstance(value, Compute)
                known[i] = self._computed(value, known, made)
            if i in self.kept and i not in read:
                self.memory.store(known[i], self._buffer(i, index), 1, None)
        for k, i in needs.stored(rows=False):
            if needs.passes[i] == number:
                store = spec.stores[k]
                place = self.memory.address(self.stores[k], store.dtype, (index, store.strides[-1]))
                self.memory.store(known[i], place, self._along_lanes(store.strides), mask)
        return known

    def _loaded(self, i: int, index: str, mask: Value | None = None) -> Held:
        load = self.spec.loads[i]
        place = self.memory.address(self.loads[i], load.dtype, (index, load.strides[-1]))
        return self.memory.load(place, load.dtype, self._along_lanes(load.strides), mask)

    def _buffer(self, i: int, index: str) -> str:
        """Return where a kept value of some points is; buffers have room for whole vectors."""
        stride = self.lanes if self.across else 1
        terms = (index, stride), (self.place, self._room)
        return self.memory.address(self.kept[i], self.spec.dtype_of(i), *terms)

    # ---- reductions

    def _identity(self, value: Reduce) -> Held:
        assert value.primitive.identity is not None
        number = value.primitive.identity(value.dtype).item()
        return self.o.constant(number, value.dtype)

    def _across_lanes(self, value: Reduce, x: Held) -> Held:
        """Return the combination of all lanes, in every lane."""
        width = self.lanes
        while width > 1:
            width //= 2
            order = ", ".join(f"i32 {lane ^ width}" for lane in range(self.lanes))
            parts = [self._shuffled(part, order) for part in parts_of(x)]
            x = self._combined(value, x, of_parts(parts, value.dtype))
        return x

    def _shuffled(self, x: Typed, order: str) -> Typed:
        vector = self.b.text_of(x.value.type)
        rest = f"{vector} poison, <{self.lanes} x i32> <{order}>"
        swapped = self.b.assign(f"shufflevector {vector} {x.value.text}, {rest}", x.value.type)
        return Typed(swapped, x.dtype)


def _flat(held: Sequence[Held]) -> list[Value]:
    """Return the registers that hold values, both of a complex one."""
    return [part.value for x in held for part in parts_of(x)]


def _grouped(values: Sequence[Value], kinds: Sequence[np.dtype]) -> list[Held]:
    """Return the values of these types that `_flat` has taken apart."""
    rest, grouped = iter(values), []
    for kind in kinds:
        part, count = dtypes.real_dtype(kind), 2 if dtypes.is_complex(kind) else 1
        grouped.append(of_parts([Typed(next(rest), part) for _ in range(count)], kind))
    return grouped
