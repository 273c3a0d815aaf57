"""Bounds in the CPU's kernels: masks of lanes, and code for vectors that need none.

A region is the part of an index space where several bounds hold. For a vector of lanes it is known
to hold in all lanes, in none, or is mixed. Where most vectors of a kernel are of one or a few kinds
(`Guards.cases`: inside of a stencil's boundary, in one of several arrays laid end to end), they are
found by comparing numbers of the first lane, and computed without masks:

    br (first - start) u< (stop - start - lanes + 1), label %case, label %next

All others are computed under masks, a lane outside a region reading nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod

import numpy as np

from autodiff.codegen.complex_operations import of_parts, parts_of
from autodiff.codegen.cpu_memory import Held, Memory
from autodiff.codegen.operations import Typed
from autodiff.codegen.scalar_types import I1, I32, I64, Value
from autodiff.schedule.kernel_spec import (
    Bound,
    Choose,
    KernelSpec,
    KernelValue,
    Load,
    Position,
    read_by,
)

#: A part of an index space: where all of several bounds hold.
Region = tuple[Bound, ...]

#: Whether regions hold in all lanes of a vector, or in none; mixed ones are missing.
States = Mapping[Region, bool]

#: Kinds of vectors that have code of their own at most, and of what part of all vectors.
MOST_CASES, RAREST = 3, 1 / 16

#: Values of a kernel from which on one kind of vector has code of its own, and not more.
LONG = 30

#: Rows, and vectors of a row, that are looked at to find the kinds.
SAMPLES = 48

_INT64 = np.dtype(np.int64)


def region_of(x: object) -> Region:
    """Return the bounds of a part of a kernel, none for what has no bounds."""
    return x.bounds if isinstance(x, Load | Choose) else ()


def read_in(value: KernelValue, states: States) -> Sequence[int]:
    """Return the values that one is computed from in vectors of a kind."""
    state = states.get(value.bounds) if isinstance(value, Choose) else None
    if state is None or not isinstance(value, Choose):
        return read_by(value)
    chosen = value.operands[0 if state else 1]
    return [chosen] if isinstance(chosen, int) else []


class Guards:
    """The regions and positions of one kernel, along lanes that are rows (`across`) or points."""

    def __init__(self, spec: KernelSpec, memory: Memory, *, across: bool) -> None:
        self.spec = spec
        self.memory = memory
        self.b = memory.b
        self.lanes = memory.lanes
        self.lane_axis = spec.rows - 1 if across else len(spec.shape) - 1
        self._rows: dict[Bound | Position, str] = {}

    def enter_row(self, indices: Sequence[str]) -> None:
        """Work out what follows from the row, or the first row of a block, alone."""
        self._rows = {}
        for x in (*self.spec.loads, *self.spec.values):
            for bound in region_of(x):
                self._rows[bound] = self._sum(bound.strides, indices, -bound.start)
            if isinstance(x, Position):
                self._rows[x] = self._sum(x.strides, indices, x.offset)

    def _sum(self, strides: Sequence[int], indices: Sequence[str], offset: int) -> str:
        total = str(offset)
        for index, stride in zip(indices, strides, strict=False):
            total = self._plus(total, index, stride)
        return total

    def _plus(self, total: str, index: str, stride: int) -> str:
        if not stride or index == "0":
            return total
        term = index if stride == 1 else self.memory.scalar(f"mul i64 {index}, {stride}")
        return term if total == "0" else self.memory.scalar(f"add i64 {total}, {term}")

    def _first(self, x: Bound | Position, index: str) -> str:
        """Return the sum of the vector's first lane, counted from a bound's start."""
        return self._plus(self._rows[x], index, x.strides[-1] if x.strides else 0)

    def _lane_stride(self, strides: Sequence[int]) -> int:
        return strides[self.lane_axis] if strides else 0

    # ---- masks and numbers

    def mask(self, region: Region, index: str) -> Value:
        """Return the lanes of the vector at `index` where a region holds."""
        masks = [self._mask(bound, index) for bound in region]
        total = masks[0]
        for mask in masks[1:]:
            total = self.b.and_(total, mask)
        return total

    def _mask(self, bound: Bound, index: str) -> Value:
        first, extent = self._first(bound, index), self.b.const(bound.stop - bound.start, I64)
        stride = self._lane_stride(bound.strides)
        if stride or self.lanes == 1:
            return self.b.icmp("ult", self._numbers(first, stride), extent)
        inside = self.memory.scalar(f"icmp ult i64 {first}, {bound.stop - bound.start}")
        return Value(self.memory.splat(inside, "i1"), I1)

    def _numbers(self, first: str, stride: int) -> Value:
        """Return the 64-bit integers `first + lane * stride`."""
        if self.lanes == 1:
            return Value(first, I64)
        repeated = Value(self.memory.splat(first, "i64"), I64)
        steps = ", ".join(f"i64 {lane * stride}" for lane in range(self.lanes))
        return self.b.add(repeated, Value(f"<{steps}>", I64)) if stride else repeated

    def position(self, x: Position, index: str) -> Typed:
        """Return the numbers that are the positions of the lanes at `index`."""
        first, stride = self._first(x, index), self._lane_stride(x.strides)
        ends = [abs(s) * (n - 1) for s, n in zip(x.strides, self.spec.shape, strict=True)]
        is_short = abs(x.offset) + sum(ends) < 1 << 31
        wide = x.dtype.kind in "iu" and x.dtype.itemsize == 8
        if wide or not is_short:
            return self.memory.o.cast(Typed(self._numbers(first, stride), _INT64), x.dtype)
        # 32 bits convert to floats by an instruction on every processor.
        narrow = self.memory.scalar(f"trunc i64 {first} to i32")
        lanes = Value(narrow, I32)
        if self.lanes > 1:
            lanes = Value(self.memory.splat(narrow, "i32"), I32)
            if stride:
                steps = ", ".join(f"i32 {lane * stride}" for lane in range(self.lanes))
                lanes = self.b.add(lanes, Value(f"<{steps}>", I32))
        return self.memory.o.cast(Typed(lanes, np.dtype(np.int32)), x.dtype)

    # ---- vectors without masks

    def by_kind(
        self,
        regions: Iterable[Region],
        index: str,
        taken: Sequence[int],
        visit: Callable[[States], dict[int, Held]],
    ) -> dict[int, Held]:
        """Emit `visit` for each kind of vectors, and for all others; return its results.

        Of several kinds these are only the values `taken`, each that of the kind at hand.
        """
        cases = self.cases(regions)
        if not cases:
            return visit({})
        ends: list[tuple[str, dict[int, Held]]] = []
        after = self.b.fresh_label("visited")

        def emit(states: States) -> None:
            known = visit(states)
            ends.append((self.b.block, known))
            self.b.lines.append(f"  br label %{after}")

        for case in cases:
            inside, others = self.b.fresh_label("case"), self.b.fresh_label("others")
            test = self.test(case, index)
            self.b.lines.append(f"  br i1 {test}, label %{inside}, label %{others}")
            self.b.label(inside)
            emit(case)
            self.b.label(others)
        emit({})
        self.b.label(after)
        return {i: self._merged([(block, known[i]) for block, known in ends]) for i in taken}

    def _merged(self, ends: Sequence[tuple[str, Held]]) -> Held:
        """Return the value that was known at the end of the block control comes from."""
        first = ends[0][1]
        parts = []
        for k, part in enumerate(parts_of(first)):
            texts = [(parts_of(x)[k].value.text, block) for block, x in ends]
            edges = ", ".join(f"[ {text}, %{block} ]" for text, block in texts)
            kind = part.value.type
            merged = self.b.assign(f"phi {self.b.text_of(kind)} {edges}", kind)
            parts.append(Typed(merged, part.dtype))
        return of_parts(parts, first.dtype)

    def cases(self, regions: Iterable[Region]) -> list[States]:
        """Return the kinds of vectors that are frequent, the most frequent first."""
        kinds = [region for region in dict.fromkeys(regions) if region]
        if not kinds:
            return []
        axes = self._samples()
        states = np.stack([self._states(region, axes) for region in kinds])
        found, counts = np.unique(states, axis=1, return_counts=True)
        most = MOST_CASES if len(self.spec.values) < LONG else 1
        cases: list[States] = []
        for k in np.argsort(-counts, kind="stable")[:most]:
            if counts[k] >= RAREST * states.shape[1] and not np.any(found[:, k] == _MIXED):
                pairs = zip(kinds, found[:, k].tolist(), strict=True)
                cases.append({region: bool(state) for region, state in pairs})
        return cases

    def _samples(self) -> list[np.ndarray]:
        """Return the indices of the first lanes of some vectors, along each axis."""
        spec = self.spec
        rows = max(1, prod(spec.shape[: spec.rows]))
        places = np.unique(np.linspace(0, rows - 1, SAMPLES).astype(np.int64))
        outer = [*np.unravel_index(places, spec.shape[: spec.rows])] if spec.rows else []
        last = np.unique(np.linspace(0, spec.shape[-1] - 1, SAMPLES).astype(np.int64))
        axes = [np.repeat(x, len(last)) for x in outer]
        axes += [np.tile(last, max(1, len(places)))] if len(spec.shape) > spec.rows else []
        lane = axes[self.lane_axis]
        axes[self.lane_axis] = lane - lane % self.lanes
        return axes

    def _states(self, region: Region, axes: Sequence[np.ndarray]) -> np.ndarray:
        holds = np.ones(len(axes[0]), bool)
        fails = np.zeros(len(axes[0]), bool)
        for bound in region:
            first = sum(s * x for s, x in zip(bound.strides, axes, strict=True))
            last = first + self._lane_stride(bound.strides) * (self.lanes - 1)
            least, largest = np.minimum(first, last), np.maximum(first, last)
            holds &= (least >= bound.start) & (largest < bound.stop)
            fails |= (largest < bound.start) | (least >= bound.stop)
        return np.where(holds, 1, np.where(fails, 0, _MIXED))

    def test(self, case: States, index: str) -> str:
        """Return whether the vector at `index` is of a kind, as the text of a scalar `i1`."""
        total = ""
        for region, holds in case.items():
            tests = [self._test(bound, index, holds) for bound in region]
            one = tests[0]
            for test in tests[1:]:
                one = self.memory.scalar(f"{'and' if holds else 'or'} i1 {one}, {test}")
            total = self.memory.scalar(f"and i1 {total}, {one}") if total else one
        return total

    def _test(self, bound: Bound, index: str, holds: bool) -> str:
        """Return whether a bound holds, or does not hold, in all lanes."""
        first, extent = self._first(bound, index), bound.stop - bound.start
        stride = self._lane_stride(bound.strides)
        span = abs(stride) * (self.lanes - 1)
        least = self._plus(first, "1", stride * (self.lanes - 1)) if stride < 0 else first
        if holds:
            return self.memory.scalar(f"icmp ult i64 {least}, {max(0, extent - span)}")
        largest = self._plus(least, "1", span)
        return self.memory.scalar(f"icmp uge i64 {largest}, {extent + span}")


_MIXED = 2
