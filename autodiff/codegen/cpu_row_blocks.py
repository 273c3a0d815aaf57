"""Rows in blocks: what is computed once a row is computed for a block of rows at a time.

    for each block of rows:
        for each pass:
            for each vector of rows: the values in rows that are known by now, kept in buffers
            for each row: the pass over its points; results of reductions go to buffers
        for each vector of rows: the values in rows that the last pass makes known, and their stores

Without it a logarithm of each row's sum costs a whole vector for the sake of one number. A block
fits into the first cache together with what it reads, so that further passes find it there.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from autodiff.codegen.cpu_memory import Held, element_text
from autodiff.schedule.kernel_spec import KernelSpec, read_by

if TYPE_CHECKING:
    from autodiff.codegen.cpu_kernels import _Emitter

#: Bytes of what the rows of a block read.
BLOCK_BYTES = 1 << 14

#: Rows of a block at most.
MOST_ROWS = 256


def rows_of_block(spec: KernelSpec, lanes: int) -> int:
    """Return how many rows a block has; 1 if rows are rather gone through one by one.

    `lanes`: those of the kernel's vectors, which are points of a row.
    """
    if spec.rows != 1 or spec.total is not None:
        return 1
    row_bytes = sum(
        spec.row_size * load.dtype.itemsize for load in spec.loads if any(load.strides[1:])
    )
    rows = min(MOST_ROWS, spec.row_count, BLOCK_BYTES // max(1, row_bytes))
    return max(1, rows - rows % lanes)


class RowBlocks:
    """The part of an emitter that goes over blocks of rows."""

    def __init__(self, emitter: _Emitter, rows: int) -> None:
        self.emitter = emitter
        self.rows = rows
        self.lanes = emitter.lanes
        spec, needs = emitter.spec, emitter.needs
        self.buffers = {
            i: f"%rows{i}"
            for i in range(needs.first, needs.first + len(spec.values))
            if needs.in_rows[i]
        }

    def allocate(self) -> None:
        """Reserve a number for each row of a block and each value in rows."""
        for i, buffer in self.buffers.items():
            kind = element_text(self.emitter.spec.dtype_of(i))
            line = f"  {buffer} = alloca [{self.rows + self.lanes} x {kind}], align 64"
            self.emitter.b.lines.append(line)

    def emit(self, first: str) -> None:
        """Emit the block of rows from `first` on."""
        emitter, scalar = self.emitter, self.emitter.memory.scalar
        past = scalar(f"add i64 {first}, {self.rows}")
        is_whole = scalar(f"icmp slt i64 {past}, %end")
        stop = scalar(f"select i1 {is_whole}, i64 {past}, i64 %end")
        count = scalar(f"sub i64 {stop}, {first}")
        done: set[int] = set()
        last = emitter.needs.last
        for number in range(last + 1):
            self._values_in_rows(number, first, count, done)

            emitter._loop("row", "0", count, 1, partial(self._row, number, first, done))
            done |= set(emitter.needs.reductions(number))
        self._values_in_rows(last + 1, first, count, done)

    def _row(self, number: int, first: str, done: set[int], place: str) -> None:
        """Emit a pass over the points of the row that is at `place` in its block."""
        emitter = self.emitter
        emitter.place = place
        emitter._enter_row(emitter.memory.scalar(f"add i64 {first}, {place}"))
        for i in done:
            emitter.row_values[i] = self._held(i, place, 0)
        emitter._pass(number, ("0", str(emitter.points)))
        for i in emitter.needs.reductions(number):
            emitter.memory.store_first_lane(emitter.row_values[i], self._at(i, place))

    def _at(self, i: int, place: str) -> str:
        dtype = self.emitter.spec.dtype_of(i)
        return self.emitter.memory.address(self.buffers[i], dtype, (place, 1))

    def _held(self, i: int, place: str, stride: int) -> Held:
        dtype = self.emitter.spec.dtype_of(i)
        return self.emitter.memory.load(self._at(i, place), dtype, stride, None)

    def _values_in_rows(self, number: int, first: str, count: str, done: set[int]) -> None:
        """Emit the values in rows that are known by a pass, for vectors of rows."""
        emitter, needs, spec = self.emitter, self.emitter.needs, self.emitter.spec
        due = [i for i in needs.computed_in_rows() if needs.passes[i] <= number and i not in done]
        is_last = number > needs.last
        stored = needs.stored(rows=True) if is_last else []
        if not due and not stored:
            return
        memory, scalar = emitter.memory, emitter.memory.scalar

        def vector(place: str) -> None:
            row = scalar(f"add i64 {first}, {place}")
            mask = memory.mask(scalar(f"sub i64 {count}, {place}"))
            known: dict[int, Held] = {}
            made: dict[Any, tuple[Held, ...]] = {}

            def read(i: int) -> None:
                if i in known:
                    return
                if i in self.buffers:
                    known[i] = self._held(i, place, 1)
                    return
                load = spec.loads[i]
                stride = load.strides[0]
                base = emitter.pointers[load.operand]
                at = memory.address(base, load.dtype, (row, stride), offset=load.offset)
                known[i] = memory.load(at, load.dtype, stride, mask)

            for i in due:
                value = spec.values[i - needs.first]
                for x in read_by(value):
                    read(x)
                known[i] = emitter._computed(value, known, made, "0", {})
                memory.store(known[i], self._at(i, place), 1, None)
            for k, i in stored:
                read(i)
                store = spec.stores[k]
                base = emitter.pointers[emitter.inputs + k]
                at = memory.address(base, store.dtype, (row, store.strides[0]))
                memory.store(known[i], at, store.strides[0], mask)

        emitter._loop("rows", "0", count, self.lanes, vector)
        done |= set(due)
