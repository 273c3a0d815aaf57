"""CUDA kernels with reductions: threads that share a row go over its points, once a pass.

What shares a row is a *team*, chosen by the rows' number, length and order in memory:

    warp     2 to 32 neighbouring threads; rows of up to 1024 points, kept in registers
    block    a block of threads; rows of up to 32768 points are kept in registers, longer ones read
             again in each pass
    columns  the threads of one column of a block, whose x axis is 32 neighbouring rows: for points
             that lie apart in memory while rows are neighbours
    grid     several blocks a row, for few long rows and a single pass: each block leaves a partial
             result, and the last one to finish combines them, always in the same order

A pass, in a team of a warp:

    float m = max_float32::identity();
    for (int step = 0; step < 4; ++step) {
      const i32 j = 4 * (threadIdx.x + 32 * step);
      if (j < n) {
        v0_kept[step] = load_lanes<4>(x0, at + j);
        for (int lane = 0; lane < 4; ++lane) m = max_float32::combine(m, v0_kept[step][lane]);
      }
    }
    m = over_warp<max_float32, 32>(m);

Sums are thus made in an order that the shape alone decides. Threads beyond the last row work on it
too, without writing: every thread meets every shuffle and barrier.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from autodiff.codegen.cuda_elements import Held, element_name, held_name
from autodiff.codegen.cuda_launch import CudaKernel
from autodiff.codegen.cuda_teams import (
    COLUMNS,
    THREADS,
    WAVES,
    Team,
    TeamText,
    rows_are_neighbours,
)
from autodiff.codegen.cuda_text import KernelText, ceil_div, lanes_of, power_of_two
from autodiff.codegen.kernel_needs import Needs
from autodiff.schedule.kernel_spec import KernelSpec, Reduce
from autodiff.schedule.target import Target

#: Points of a row up to which a warp or less takes it.
WARP_ROW = 1024

#: Points that a thread of a block keeps, where there are enough threads; and where there are not.
KEPT, MOST_KEPT = 16, 32

#: 32-bit registers that kept lanes take at most: of 128, with which half the threads of a
#: multiprocessor can run.
KEPT_REGISTERS = 80

#: Threads along the points where rows are neighbours.
DEEP = 16

#: Points that a block takes at least where several blocks take a row.
LEAST_PART = 8192


def team_of(spec: KernelSpec, target: Target, lanes: int) -> Team:
    """Return the team that suits a kernel with reductions."""
    needs = Needs(spec)
    rows, points = spec.row_count, spec.row_size
    if rows_are_neighbours(spec):
        blocks = ceil_div(rows, COLUMNS)
        if needs.last > 0 or blocks >= 2 * target.cores or points < 8 * DEEP:
            return Team("columns", DEEP)
        return _divided("columns", DEEP, blocks, 4 * DEEP, points, target)
    chunks = ceil_div(points, lanes)
    kept = _kept_bytes(spec, needs)
    if points <= WARP_ROW:
        threads = min(32, power_of_two(chunks)) if spec.rows else 32
        steps = power_of_two(ceil_div(chunks, threads))
        return Team("warp", threads, steps if _fits(steps * lanes, kept) else 0)
    if needs.last == 0 and rows < target.cores and points >= 2 * LEAST_PART:
        return _divided("grid", THREADS, rows, LEAST_PART, points, target)
    for threads in (128, 256, 512, 1024):
        most = MOST_KEPT if threads == 1024 else KEPT
        steps = power_of_two(ceil_div(chunks, threads))
        if steps * lanes <= most and _fits(steps * lanes, kept):
            return Team("block", threads, steps)
    return Team("block", 1024 if rows < 2 * target.cores else 512)


def is_for_stages(spec: KernelSpec, target: Target) -> bool:
    """Return whether rows are so few and long that each pass should be a kernel of its own.

    One block a row would leave most of the GPU idle while it reads the row again and again.
    """
    if not Needs(spec).last > 0:
        return False
    team = team_of(spec, target, 1 if rows_are_neighbours(spec) else lanes_of(spec, target, True))
    blocks = spec.row_count
    if team.kind == "columns":
        blocks = ceil_div(spec.row_count, COLUMNS)
        return 2 * blocks < target.cores and spec.row_size >= 64 * DEEP
    return team.kind == "block" and not team.steps and 2 * blocks < target.cores


def _divided(kind: str, threads: int, blocks: int, least: int, points: int, target: Target) -> Team:
    """Return a team of several blocks a row: enough to fill the GPU, each with enough to do."""
    parts = max(1, min(WAVES * target.cores // blocks, points // least))
    step = THREADS * 16 if kind == "grid" else threads
    part = ceil_div(ceil_div(points, parts), step) * step
    return Team(kind, threads, 0, ceil_div(points, part), part)


def _kept_bytes(spec: KernelSpec, needs: Needs) -> int:
    """Return the bytes of what several passes need at a point, at most."""
    wanted = [set(needs.wanted(number)) for number in range(needs.last + 1)]
    several = {i for one in wanted for i in one if sum(i in other for other in wanted) > 1}
    return sum(spec.dtype_of(i).itemsize for i in several if i < needs.first) + 4


def _fits(points: int, kept: int) -> bool:
    return points * kept <= 4 * KEPT_REGISTERS


def emit_reductions(text: KernelText, target: Target) -> CudaKernel:
    """Return a kernel with reductions."""
    return _Reductions(text, team_of(text.spec, target, text.lanes)).kernel()


class _Reductions:
    """The body of one kernel, for one team."""

    def __init__(self, text: KernelText, team: Team) -> None:
        self.text = text
        self.team = team
        self.rows = TeamText(text, team)
        self.spec = spec = text.spec
        self.b = text.b
        self.needs = text.needs
        self.lanes = text.lanes
        self.kept_in = self.needs.kept(text.is_costly) if team.steps else {}
        self.kept: dict[int, str] = {}
        self.is_whole = spec.row_count > 1 or self.lanes == 1  # rows are made of whole lanes

    # ---- the kernel

    def kernel(self) -> CudaKernel:
        b, text, team, spec = self.b, self.text, self.team, self.spec
        text.integer("n", spec.row_size)
        self.rows.declare_shared(x for x in spec.values if isinstance(x, Reduce))
        self.rows.enter()
        text.load_row_values()
        for i in self.kept_in:
            self.kept[i] = b.fresh(f"v{i}_kept")
            kind = self._kept_type(i)
            kind = f"Lanes<{kind}, {self.lanes}>" if self.lanes > 1 else kind
            count = f"[{team.steps}]" if team.steps > 1 else ""
            b.statement(f"{kind} {self.kept[i]}{count};")
        if team.steps == 1:
            b.statement(f"const {text.index} j = {self._first('threadIdx.x')};")
        for number in range(self.needs.last + 1):
            text.compute_row_values(number)
            self._pass(number)
        text.compute_row_values(self.needs.last + 1)
        self.rows.store_rows()
        return self.rows.launched(self._about())

    def _kept_type(self, i: int) -> str:
        dtype = self.spec.dtype_of(i)
        return element_name(dtype) if i < self.needs.first else held_name(dtype)

    # ---- one pass

    def _pass(self, number: int) -> None:
        b, text = self.b, self.text
        reductions = self.needs.reductions(number)
        held: dict[int, str] = {}
        for i, value in reductions.items():
            held[i] = b.fresh(f"{value.primitive.name.rstrip('_')}{i}")
            kind = held_name(value.accumulated)
            b.statement(f"{kind} {held[i]} = {text.combination(value)}::identity();")
        if self.team.steps:
            with self._kept_steps() as step:
                self._visit(number, step, reductions, held)
        else:
            self._loop(number, reductions, held)
        self.rows.combine(reductions, held)
        for i, value in reductions.items():
            text.row_values[i] = text.reduced(value, held[i])

    def _first(self, thread: str) -> str:
        """Return the text of the first point that a thread takes."""
        if self.lanes == 1:
            return thread
        return f"{self.lanes} * ({thread})" if " " in thread else f"{self.lanes} * {thread}"

    @contextmanager
    def _kept_steps(self) -> Iterator[str]:
        """Emit the steps of a thread whose lanes are kept; yield which of them a step has."""
        b, team = self.b, self.team
        with ExitStack() as blocks:
            if team.steps > 1:
                b.statement("#pragma unroll")
                head = f"for (int step = 0; step < {team.steps}; ++step)"
                blocks.enter_context(b.within(head))
                place = self._first(f"threadIdx.x + {team.threads} * step")
                b.statement(f"const {self.text.index} j = {place};")
            blocks.enter_context(b.within("if (j < n)"))
            yield "[step]" if team.steps > 1 else ""

    def _loop(self, number: int, reductions: dict[int, Reduce], held: dict[int, str]) -> None:
        """Emit the loop of a thread over a row, or over its block's part of it.

        What fills no lanes at the end of a single row comes after the loop, point by point: so the
        loop has no branches, and reads ahead.
        """
        b, team, index = self.b, self.team, self.text.index
        thread = "threadIdx.y" if team.kind == "columns" else "threadIdx.x"
        first, end = self._first(thread), "n"
        if team.parts > 1:
            self.text.integer("part", team.part)
            axis = "z" if team.kind == "columns" else "x"
            b.statement(f"const {index} begin = {self.rows.wide(axis)} * part;")
            b.statement(f"const {index} end = begin + part < n ? begin + part : n;")
            first, end = f"begin + {first}", "end"
        whole = end
        if not self.is_whole:
            whole = b.fresh("whole")
            b.statement(f"const {index} {whole} = {end} / {self.lanes} * {self.lanes};")
        b.statement("#pragma unroll 4")
        step = team.threads * self.lanes
        with b.within(f"for ({index} j = {first}; j < {whole}; j += {step})"):
            self._visit(number, "", reductions, held)
        if self.is_whole:
            return
        with b.within(f"if ({whole} + {thread} < {end})"):
            b.statement(f"const {index} j = {whole} + {thread};")
            lanes = self.lanes
            self.lanes = self.text.lanes = 1
            self._visit(number, "", reductions, held)
            self.lanes = self.text.lanes = lanes

    def _visit(
        self, number: int, step: str, reductions: dict[int, Reduce], held: dict[int, str]
    ) -> None:
        """Emit lanes of points of a pass: what it needs, its reductions and its stores."""
        b, text, needs, spec, lanes = self.b, self.text, self.needs, self.spec, self.lanes
        read = {i for i in self.kept if self.kept_in[i] < number}
        wanted = needs.wanted(number, read)
        arrays = {i: f"{self.kept[i]}{step}" for i in wanted if i in self.kept}
        guarded = bool(self.team.steps) and not self.is_whole
        if guarded:
            b.statement(f"const int left = n - j < {lanes} ? n - j : {lanes};")
        for i in wanted:
            if i < needs.first and i not in read and text.is_wide(spec.loads[i]):
                self._load_lanes(i, arrays, guarded)
        results: dict[int, str] = {}
        due = [(s, i) for s, i in needs.stored(rows=False) if needs.passes[i] == number]
        for s, _ in due:
            if text.is_wide(text.stores[s]):
                results[s] = b.fresh(f"y{s}_lanes")
                kind = element_name(text.stores[s].dtype)
                b.statement(f"Lanes<{kind}, {lanes}> {results[s]};")
        with ExitStack() as blocks:
            point, lane = "j", ""
            if lanes > 1:
                b.statement("#pragma unroll")
                blocks.enter_context(b.within(f"for (int lane = 0; lane < {lanes}; ++lane)"))
                point, lane = "j + lane", "[lane]"
                if guarded:
                    b.statement("if (lane >= left) break;")
            known, made = dict(text.row_values), {}
            for i in wanted:
                known[i] = self._value(i, read, arrays, known, made, point, lane)
                if i in self.kept and i not in read and not self._is_loaded_wide(i):
                    keep = text.elements.write if i < needs.first else text.elements.set
                    keep(f"{arrays[i]}{lane} = {{value}};", known[i])
            for i, value in reductions.items():
                self._accumulate(value, held[i], known[value.operand])
            for s, i in due:
                if s in results:
                    text.elements.write(f"{results[s]}[lane] = {{value}};", known[i])
                    continue
                with ExitStack() as only:
                    if self.rows.inside:
                        only.enter_context(b.within(f"if ({self.rows.inside})"))
                    text.store(s, known[i], point)
        self._store_lanes(results, guarded)

    def _is_loaded_wide(self, i: int) -> bool:
        return i < self.needs.first and self.text.is_wide(self.spec.loads[i])

    def _load_lanes(self, i: int, arrays: dict[int, str], guarded: bool) -> None:
        b = self.b
        call = self.text.lanes_at(i, "j", guarded)
        if i in arrays:
            b.statement(f"{arrays[i]} = {call};")
            return
        arrays[i] = b.fresh(f"v{i}_lanes")
        kind = element_name(self.spec.loads[i].dtype)
        b.statement(f"const Lanes<{kind}, {self.lanes}> {arrays[i]} = {call};")

    def _store_lanes(self, results: dict[int, str], guarded: bool) -> None:
        with ExitStack() as only:
            if self.rows.inside and results:
                only.enter_context(self.b.within(f"if ({self.rows.inside})"))
            for s, name in results.items():
                self.text.store_lanes(s, name, "j", guarded)

    def _value(
        self,
        i: int,
        read: set[int],
        arrays: dict[int, str],
        known: dict[int, Held],
        made: dict[Any, Sequence[Held]],
        point: str,
        lane: str,
    ) -> Held:
        """Return a value at a point: from kept or loaded lanes, from memory, or computed."""
        text = self.text
        is_load = i < self.needs.first
        if i in read or (i in arrays and self._is_loaded_wide(i)):
            element, dtype = f"{arrays[i]}{lane}", self.spec.dtype_of(i)
            if is_load:
                return text.elements.read(element, dtype, f"v{i}")
            return text.elements.variable(element, dtype)
        return text.load(i, point) if is_load else text.computed(i, known, made, point)

    def _accumulate(self, value: Reduce, name: str, x: Held) -> None:
        text = self.text
        combined = text.o.cast(x, value.accumulated)
        form = f"{name} = {text.combination(value)}::combine({name}, {{value}});"
        text.elements.set(form, combined)

    def _about(self) -> str:
        """Return what a block meets; a warp meets nothing but its own threads."""
        if self.team.kind == "warp":
            return ""
        count = sum(isinstance(value, Reduce) for value in self.spec.values)
        return f"two barriers for each of {count} reductions, met by every thread"
