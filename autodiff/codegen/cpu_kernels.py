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

Running results are carried from step to step like accumulators (cpu_scans.py); in blocks they are
made with lanes as points, else with rows as lanes or one point at a time.

Where there is a single row and no reduction or scan, begin to end are points. A value that costs
much and is needed in several passes is kept in a buffer on the stack; others are computed again.
Sizes and strides of the index space are constants of the text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from autodiff.base import dtypes
from autodiff.base.source_info import short_line
from autodiff.codegen.complex_operations import ComplexOperations, of_parts, parts_of
from autodiff.codegen.cpu_guards import Guards, States, read_in, region_of
from autodiff.codegen.cpu_indexed import Indexed
from autodiff.codegen.cpu_layout import (
    COSTLY,
    UNROLLED,
    instructions_of,
    is_costly,
    lanes_are_rows,
    lanes_of,
    tile_of,
)
from autodiff.codegen.cpu_memory import Held, Memory, element_text
from autodiff.codegen.cpu_row_blocks import RowBlocks, rows_of_block
from autodiff.codegen.cpu_scans import Scans
from autodiff.codegen.cpu_short_rows import ShortRows, are_turned
from autodiff.codegen.kernel_needs import Needs
from autodiff.codegen.operations import Operations, Typed
from autodiff.codegen.scalar_types import Value
from autodiff.codegen.vectors import VectorBuilder
from autodiff.ir.graph import Literal
from autodiff.primitives.lowering import lower
from autodiff.schedule.kernel_spec import (
    Choose,
    Compute,
    Gather,
    KernelSpec,
    KernelValue,
    Operand,
    Position,
    Reduce,
    Scan,
)
from autodiff.schedule.target import Target

_BOOL = np.dtype(bool)

#: Bytes that may be kept on the stack for one value.
KEPT_BYTES = 1 << 16

#: Points at a time of a kernel that updates elements one by one.
UPDATES = 4

#: Values up to which a step of a tile is short: its accumulators are read more seldom.
FEW_VALUES = 8


def emit_kernel(spec: KernelSpec, target: Target, name: str, contract: bool = True) -> str:
    """Return the text of a module that defines the kernel `name`.

    Args:
        spec: a kernel that `collapsed` has returned.
        target: the processor.
        name: the function's name, a valid symbol.
        contract: whether a product and a sum may be rounded once (fused multiply-add).
    """
    return _Emitter(spec, target, name, contract).module()


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
        self.guards = Guards(spec, self.memory, across=self.across)
        self.scans = Scans(self.o)
        self.indexed = Indexed(self)
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
        self.pointers: list[str] = []
        self.inputs = 0
        self.loads: list[str] = []  # addresses of the first point of the row
        self.stores: list[str] = []
        self.row_mask: Value | None = None

    def _is_costly(self, i: int) -> bool:
        """Return whether a value is rather kept than computed, or gathered, again."""
        if i < self.needs.first:
            return self.across and self._along_lanes(self.spec.loads[i].strides) not in (0, 1)
        value = self.spec.values[i - self.needs.first]
        if isinstance(value, Compute):
            return is_costly(value, self.spec, self.target)
        return isinstance(value, Scan | Gather)

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
        if self.across or instructions <= COSTLY or self._has_guarded_rows():
            return 1
        rows = rows_of_block(self.spec, self.lanes)
        kept = [rows * self._room * self.spec.dtype_of(i).itemsize for i in self.kept]
        return rows if max(kept, default=0) <= KEPT_BYTES else 1

    def _has_guarded_rows(self) -> bool:
        """Return whether a value in rows depends on where its row is."""
        parts = (*self.spec.loads, *self.spec.values)
        return any(
            self.needs.in_rows[i] and (isinstance(part, Position) or bool(region_of(part)))
            for i, part in enumerate(parts)
        )

    def _fits(self, i: int) -> bool:
        lanes = self.lanes if self.across else 1
        return self.points * lanes * self.spec.dtype_of(i).itemsize <= KEPT_BYTES

    # ---- the module

    def module(self) -> str:
        b = self.b
        b.lines.append("entry:")
        self.inputs = len(self.spec.operand_types)
        self.pointers = [self._pointer(k) for k in range(self.inputs + len(self.spec.stores))]
        for i, buffer in self.kept.items():
            kind = element_text(self.spec.dtype_of(i))
            room = self.points * self.lanes if self.across else self.block * self._room
            b.lines.append(f"  {buffer} = alloca [{room} x {kind}], align 64")
        if self.tile > 1:
            for i, value in self._carried(0).items():
                kind, room = element_text(value.accumulated), self.tile * UNROLLED * self.lanes
                b.lines.append(f"  %sums{i} = alloca [{room} x {kind}], align 64")
        self.indexed.prepare()
        is_one_row = self.spec.row_count == 1 and self.spec.is_pointwise

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

    def _carried(self, number: int) -> dict[int, Reduce | Scan]:
        """Return the values of a pass for which something is carried from point to point."""
        return {**self.needs.reductions(number), **self.needs.scans(number, self._read(number))}

    def _read(self, number: int) -> set[int]:
        """Return the values that a pass finds in buffers."""
        return {i for i in self.kept if self.kept_in[i] < number}

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
            start(self.pointers[self.inputs + k], store.dtype, store.strides, store.offset)
            for k, store in enumerate(spec.stores)
        ]
        self.row_values = {}
        self.guards.enter_row(indices)
        for i in range(len(spec.loads)):
            if self.needs.in_rows[i]:
                self.row_values[i] = self._loaded(i, "0", self.row_mask, {})
        self.indexed.enter_row(start)

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
            if not isinstance(value, Reduce) and is_due and i not in self.row_values:
                self.row_values[i] = self._computed(value, self.row_values, made, "0", {})

    def _computed(
        self,
        value: KernelValue,
        known: dict[int, Held],
        made: dict[Any, tuple[Held, ...]],
        index: str,
        states: States,
    ) -> Held:
        """Return a value, given those it needs; `made` are the outputs of what was applied here."""
        if isinstance(value, Position):
            return self.guards.position(value, index)
        if isinstance(value, Choose):
            return self._chosen(value, known, index, states)
        assert isinstance(value, Compute)
        outputs = made.get(value.application)
        if outputs is None:
            outputs = made[value.application] = self._applied(value, known)
        return outputs[value.output]

    def _applied(self, value: Compute, known: dict[int, Held]) -> tuple[Held, ...]:
        """Emit an operation and return its outputs."""
        line = short_line(value.source)
        self.b.comment(f"{value.primitive.name}{f'  ({line})' if line else ''}")
        operands = self._all_known(value.operands, known)
        return lower(self.o, value.primitive, operands, dict(value.params))

    def _all_known(self, operands: Sequence[Operand], known: dict[int, Held]) -> list[Any]:
        return [self._operand(x, known) for x in operands]

    def _operand(self, x: Operand, known: dict[int, Held]) -> Held:
        return self.o.constant(x.value.item(), x.aval.dtype) if isinstance(x, Literal) else known[x]

    def _chosen(self, value: Choose, known: dict[int, Held], index: str, states: States) -> Held:
        state = states.get(value.bounds)
        if state is not None:
            return self._operand(value.operands[0 if state else 1], known)
        mask = self.guards.mask(value.bounds, index)
        inside, outside = (self._operand(x, known) for x in value.operands)
        return self.o.where(Typed(mask, _BOOL), inside, outside)

    def _loaded(self, i: int, index: str, mask: Value | None, states: States) -> Held:
        """Return the elements that a load reads."""
        load = self.spec.loads[i]
        state = states.get(load.bounds) if load.bounds else True
        if state is False:
            return self.o.constant(0, load.dtype)
        in_rows = self.needs.in_rows[i]
        stride = 0 if in_rows and not self.across else self._along_lanes(load.strides)
        place = self.memory.address(self.loads[i], load.dtype, (index, load.strides[-1]))
        if state:
            return self.memory.load(place, load.dtype, stride, mask)
        inside = self.guards.mask(load.bounds, index)
        if mask is not None:
            inside = self.b.and_(inside, mask)
        elsewhere = self.pointers[load.operand]
        return self.memory.load_within(inside, place, load.dtype, stride, elsewhere)

    # ---- a tile of blocks of rows

    def _tile(self, first: str) -> None:
        """Emit the blocks from `first` on, at most a tile, the points in the outer loop."""
        scalar, memory = self.memory.scalar, self.memory
        past = scalar(f"add i64 {first}, {self.tile}")
        is_whole = scalar(f"icmp slt i64 {past}, %end")
        stop = scalar(f"select i1 {is_whole}, i64 {past}, i64 %end")
        reductions, scans = self.needs.reductions(0), self.needs.scans(0)
        carried = self._carried(0)

        def place(i: int, k: int, row: str) -> str:
            """Return where the k-th accumulator of a reduction, or a scan's result, is."""
            within = scalar(f"sub i64 {row}, {first}")
            step = (within, UNROLLED * self.lanes)
            dtype = carried[i].accumulated
            return memory.address(f"%sums{i}", dtype, step, offset=k * self.lanes)

        def each_block(body: Callable[[str], None]) -> None:
            self._loop("row", first, stop, 1, body)

        def begin(row: str) -> None:
            for i, value in reductions.items():
                for k in range(UNROLLED):
                    memory.store(self._identity(value), place(i, k, row), 1, None)
            for i, value in scans.items():
                memory.store(self.scans.before_first(value), place(i, 0, row), 1, None)

        def visit(row: str, point: str, times: int) -> None:
            self._enter_row(row)
            kept = [(i, k) for i in reductions for k in range(min(times, UNROLLED))]
            at = {(i, k): place(i, k, row) for i, k in kept}
            held = {
                key: memory.load(at[key], reductions[key[0]].accumulated, 1, None) for key in kept
            }
            first = {i: place(i, 0, row) for i in scans}
            self.scans.carried = {
                i: memory.load(first[i], value.dtype, 1, None) for i, value in scans.items()
            }
            for k in range(times):
                where = point if k == 0 else scalar(f"add i64 {point}, {k}")
                known = self._step(0, where, self.row_mask)
                for i, value in reductions.items():
                    key = i, k % UNROLLED
                    held[key] = self._combined(value, held[key], known[value.operand])
            for i in scans:
                memory.store(self.scans.carried[i], first[i], 1, None)
            for i, k in kept:
                memory.store(held[i, k], at[i, k], 1, None)

        def visit_all(point: str, times: int) -> None:
            each_block(lambda row: visit(row, point, times))

        def finish(row: str) -> None:
            self._enter_row(row)
            for i, value in reductions.items():
                totals = [
                    memory.load(place(i, k, row), value.accumulated, 1, None)
                    for k in range(UNROLLED)
                ]
                total = totals[0]
                for other in totals[1:]:
                    total = self._combined(value, total, other)
                self.row_values[i] = self.o.cast(total, value.dtype)
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
        if reductions or self.needs.stored(rows=True):
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
        if self.spec.updates and self.lanes == 1:
            times = UPDATES
        totals = self._points(number, span, reductions, times)
        for place, (i, value) in enumerate(reductions.items()):
            mine = totals[place * times : (place + 1) * times]
            total = mine[0]
            for other in mine[1:]:
                total = self._combined(value, total, other)
            total = total if self.across else self._across_lanes(value, total)
            self.row_values[i] = self.o.cast(total, value.dtype)

    def _points(
        self, number: int, span: tuple[str, str], reductions: dict[int, Reduce], times: int
    ) -> list[Held]:
        """Emit the loop over whole steps and the one over what is left; return accumulators."""
        scalar = self.memory.scalar
        width = 1 if self.across else self.lanes
        step = width * times
        start, stop = span
        scans = self.needs.scans(number, self._read(number))
        is_free = not (reductions or scans or self.across)
        may_repeat = is_free and not (self.spec.reuses or self.spec.updates)
        if may_repeat and self.spec.total is None and self.points >= width:
            self._points_overlapping(number, start, stop)
            return []
        kinds = [value.accumulated for value in reductions.values() for _ in range(times)]
        begun = [self._identity(value) for value in reductions.values() for _ in range(times)]
        begun += [self.scans.before_first(value) for value in scans.values()]

        kinds += [value.dtype for value in scans.values()]

        def set_carried(held: Sequence[Any]) -> list[Any]:
            """Hand on what scans carry; return the accumulators of reductions."""
            count = len(held) - len(scans)
            self.scans.carried = dict(zip(scans, held[count:], strict=True))
            return list(held[:count])

        length = scalar(f"sub i64 {stop}, {start}")
        whole = scalar(f"add i64 {start}, {scalar(f'and i64 {length}, {-step}')}")

        def steps(index: str, *carried: Value) -> list[Value]:
            held = _grouped(carried, kinds)
            updated = set_carried(held)
            for k in range(times):
                where = index if k == 0 else scalar(f"add i64 {index}, {k * width}")
                known = self._step(number, where, self.row_mask)
                for place, value in enumerate(reductions.values()):
                    at = place * times + k
                    updated[at] = self._combined(value, held[at], known[value.operand])
            return _flat([*updated, *self.scans.carried.values()])

        def rest(index: str, *carried: Value) -> list[Value]:
            left = None
            if self.across:
                mask, chosen = self.row_mask, None
            else:
                left = scalar(f"sub i64 {stop}, {index}")
                mask = chosen = self.memory.mask(left)
            held = _grouped(carried, kinds)
            updated = set_carried(held)
            known = self._step(number, index, mask, left)
            for place, value in enumerate(reductions.values()):
                at = place * times
                new = self._combined(value, held[at], known[value.operand])
                if chosen is not None:
                    new = self.o.where(Typed(chosen, _BOOL), new, held[at])
                updated[at] = new
            return _flat([*updated, *self.scans.carried.values()])

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
        """Return two elements combined, in the type that they are combined in."""
        combine = value.primitive.combine
        assert combine is not None
        wide = [self.o.cast(operand, value.accumulated) for operand in (x, y)]
        return combine(self.o, *wide)

    def _step(
        self, number: int, index: str, mask: Value | None, left: str | None = None
    ) -> dict[int, Held]:
        """Emit a vector of points of a pass, by its kind; return what its reductions take.

        `left`: how many of its lanes are points where `mask` says so, None for all. What scans
        carry on is that of the kind at hand.
        """
        read = self._read(number)
        parts, wanted = (*self.spec.loads, *self.spec.values), self.needs.wanted(number, read)
        is_whole = mask is self.row_mask and not self.spec.updates
        regions = [region_of(parts[i]) for i in wanted] if is_whole else []
        before = {i: self.scans.carried[i] for i in self.needs.scans(number, read)}

        def visit(states: States) -> dict[int, Held]:
            self.scans.carried = dict(before)
            known = self._visit(number, index, mask, left, states)
            return {**known, **{_carried(i): x for i, x in self.scans.carried.items()}}

        taken = {value.operand for value in self.needs.reductions(number).values()}
        known = self.guards.by_kind(regions, index, [*sorted(taken), *map(_carried, before)], visit)
        self.scans.carried = {i: known[_carried(i)] for i in before}
        return known

    def _wanted(self, number: int, states: States) -> list[int]:
        """Return the values that vectors of a kind need in a pass, and those needed later."""
        values, first, read = self.spec.values, self.needs.first, self._read(number)
        later = [i for i in self.kept if self.kept_in[i] == number]
        later += self.needs.scans(number, read)
        return self.needs.wanted(number, read, later, lambda i: read_in(values[i - first], states))

    def _visit(
        self, number: int, index: str, mask: Value | None, left: str | None, states: States
    ) -> dict[int, Held]:
        """Emit a vector of points of a pass: what it needs, and its stores."""
        needs, spec = self.needs, self.spec
        known: dict[int, Held] = dict(self.row_values)
        made: dict[Any, tuple[Held, ...]] = {}
        read = self._read(number)
        for i in self._wanted(number, states):
            if i in read:
                dtype = spec.dtype_of(i)
                known[i] = self.memory.load(self._buffer(i, index), dtype, 1, None)
            elif i < needs.first:
                known[i] = self._loaded(i, index, mask, states)
            else:
                value = spec.values[i - needs.first]
                if isinstance(value, Scan):
                    operands = self._all_known(value.operands, known)
                    known[i] = self.scans.step(i, value, operands, index)
                elif isinstance(value, Gather):
                    known[i] = self.indexed.read(i, value, known, index, mask)
                else:
                    known[i] = self._computed(value, known, made, index, states)
            if i in self.kept and i not in read:
                self.memory.store(known[i], self._buffer(i, index), 1, None)
        for k, i in needs.stored(rows=False):
            if needs.passes[i] == number:
                store = spec.stores[k]
                place = self.memory.address(self.stores[k], store.dtype, (index, store.strides[-1]))
                self.memory.store(known[i], place, self._along_lanes(store.strides), mask)
        for k, update in needs.updates():
            self.indexed.write(k, update, known, index, mask, left)
        return known

    def _buffer(self, i: int, index: str) -> str:
        """Return where a kept value of some points is; buffers have room for whole vectors."""
        stride = self.lanes if self.across else 1
        terms = (index, stride), (self.place, self._room)
        return self.memory.address(self.kept[i], self.spec.dtype_of(i), *terms)

    # ---- reductions

    def _identity(self, value: Reduce) -> Held:
        assert value.primitive.identity is not None
        number = value.primitive.identity(value.accumulated).item()
        return self.o.constant(number, value.accumulated)

    def _across_lanes(self, value: Reduce, x: Held) -> Held:
        """Return the combination of all lanes, in every lane."""
        width = self.lanes
        while width > 1:
            width //= 2
            order = ", ".join(f"i32 {lane ^ width}" for lane in range(self.lanes))
            parts = [self._shuffled(part, order) for part in parts_of(x)]
            x = self._combined(value, x, of_parts(parts, value.accumulated))
        return x

    def _shuffled(self, x: Typed, order: str) -> Typed:
        vector = self.b.text_of(x.value.type)
        rest = f"{vector} poison, <{self.lanes} x i32> <{order}>"
        swapped = self.b.assign(f"shufflevector {vector} {x.value.text}, {rest}", x.value.type)
        return Typed(swapped, x.dtype)


def _carried(i: int) -> int:
    """Return the number under which what a scan carries stands beside the numbers of values."""
    return -1 - i


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
