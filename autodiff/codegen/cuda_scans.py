"""CUDA kernels with running results: threads that share a row take it stretch by stretch.

A *stretch* is some neighbouring points that one thread takes at a time. What is known of it (their
sum, say) is combined over the threads of the team, so that each thread learns what comes before its
stretch; from there it goes on from point to point as the operation's `advance` says. A tile is what
a team takes at a time; what is known up to its end is carried to the next one.

    Lanes<float, 4> v0_kept[1];
    float part1[1];
    ...
    v0_kept[0] = load_lanes<4>(x0, j);
    for (int lane = 0; lane < 4; ++lane) {
      part1[0] = lane == 0 ? v0 : cumsum_float32::combine(part1[0], v0);
    }
    carry_over_block<cumsum_float32, 256>(part1, carried1, parts_of_block);
    float running1 = cumsum_float32::value(part1[0]);
    for (int lane = 0; lane < 4; ++lane) {
      running1 = running1 + v0;
      y0_lanes[lane] = running1;
    }

The teams are:

    columns   rows are neighbours in memory: a thread takes a row from point to point. Where these
              would be too few threads, a column of 8 takes a row.
    warp      2 to 32 neighbouring threads; rows of up to 1024 points
    block     a block of threads
    grid      few long rows: several blocks take a row. One launch finds what is known of each
              block's part, the next one goes on from what the parts before amount to.

*Several blocks.* Elements of a long row are so read twice, the second time from the cache where it
holds the row. A single pass in which each block looks back for what others have found would read
them once, but blocks that wait for others need that these make progress, and an order that timing
does not decide needs that they are combined one after the other. Two launches need neither.

*Order.* A spec's blocks say an order of rounding for vectors of a processor, and mean nothing here.
Here the order follows from the row's length, from how many rows there are and how they lie, and
from the number of multiprocessors; never from which thread comes first, so a result has the same
bits in every run. A result is rounded once for each point from the beginning of its stretch (at
most 8), about log2(threads) + steps times within its tile, once for each tile before it in its part
and, in a grid, about log2(threads) + parts / threads times more. One thread a row gives the order,
and for floats the bits, of NumPy. Half precisions are carried in single precision, and rounded
where they are used.

*Products.* An operation that is not associative as floats round, but linear in the result before,
is combined by its factors: `Scaled` and `Affine` in the prelude. Products of factors have exponents
of their own, so that a stretch whose product is too large does not turn a zero before it into NaN.
Where NumPy's running product has left the range of the type and later factors lead back, it is
infinite or 0 to the end; here this holds within a stretch.

A scan of a scan is of the next *level*: for each level a tile is gone through once more, with what
is needed again kept in registers; over several blocks there is a launch for each. A row that is
read backwards in memory is gone through from the last tile to the first one, each read forwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from autodiff.base import dtypes
from autodiff.codegen.cuda_elements import Held, element_name, held_name
from autodiff.codegen.cuda_launch import CudaKernel
from autodiff.codegen.cuda_stretches import carried_type, has_factor, part_type, stretch
from autodiff.codegen.cuda_teams import (
    COLUMNS,
    THREADS,
    WAVES,
    Team,
    TeamText,
    rows_are_neighbours,
)
from autodiff.codegen.cuda_text import (
    KernelText,
    ceil_div,
    instructions_at_point,
    lanes_of,
    power_of_two,
)
from autodiff.codegen.kernel_needs import Needs
from autodiff.codegen.operations import Typed
from autodiff.codegen.scalar_types import I1
from autodiff.codegen.scan_phases import Phase, Phases
from autodiff.schedule.kernel_spec import (
    KernelSpec,
    Reduce,
    Scan,
    from_the_end,
)
from autodiff.schedule.target import Target

#: Points of a row up to which a warp or less takes it.
WARP_ROW = 1024

#: Stretches of a thread in a tile at most. Like the numbers below it is an estimate, which only a
#: card can settle.
STEPS = 4

#: Bytes of registers that what is kept and known of a thread's stretches takes at most.
KEPT_BYTES = 160

#: Threads that a multiprocessor has room for at least: each may have 128 registers.
LEAST_THREADS = 512

#: Instructions at a point beyond which a thread takes one stretch of a tile, as where factors are
#: combined: memory is waited for less, and compiling takes time for every copy of them.
LIGHT = 50

#: Neighbouring points of a stretch where rows are neighbours: as many loads are on the way.
STRETCH = 8

#: Points of a stretch at least where factors are combined: that takes longer than it does to read
#: memory in another order.
FEWEST = 4

#: Threads that share a row where rows are neighbours, and rows of a block where one takes a row.
DEEP, WIDE = 8, 128

#: Rows for each multiprocessor from which on there are enough threads with one a row.
ENOUGH = 512

#: Points that a block takes at least where several blocks take a row, and never less than a tile.
LEAST_PART = 256


def turned(spec: KernelSpec) -> tuple[KernelSpec, bool]:
    """Return a kernel that goes through memory forwards, and whether its rows go backwards then."""
    known = Needs(spec).in_rows
    stored = [x.strides[-1] for x in spec.stores if any(x.strides[spec.rows :])]
    read = [x.strides[-1] for i, x in enumerate(spec.loads) if not known[i]]
    if sum((step < 0) - (step > 0) for step in stored or read) <= 0:
        return spec, False
    axis, size = len(spec.shape) - 1, spec.row_size
    loads, values, stores = (
        tuple([from_the_end(x, axis, size) for x in part])
        for part in (spec.loads, spec.values, spec.stores)
    )
    return replace(spec, loads=loads, values=values, stores=stores), True


def stretch_of(spec: KernelSpec, lanes: int) -> int:
    """Return how many neighbouring points a stretch is of, where `lanes` can be read together."""
    if rows_are_neighbours(spec):
        return STRETCH
    return FEWEST if lanes == 1 and any(map(has_factor, spec.scans)) else lanes


def team_of(spec: KernelSpec, target: Target, lanes: int) -> Team:
    """Return the team that suits a kernel with scans, over several blocks if rows are few."""
    rows, points = spec.row_count, spec.row_size
    if rows_are_neighbours(spec):
        blocks = rows // spec.shape[spec.rows - 1] * ceil_div(spec.shape[spec.rows - 1], COLUMNS)
        if points < 4 * DEEP * STRETCH or rows >= ENOUGH * target.cores:
            return Team("columns", 1, 1, width=WIDE)
        return _divided(Team("columns", DEEP, 1), blocks, DEEP * STRETCH, points, target)
    items = stretch_of(spec, lanes)
    chunks = ceil_div(points, items)
    known = sum(part_type(scan)[1] for scan in spec.scans)
    room = KEPT_BYTES // (items * Phases(spec).kept_bytes() + known)
    most = max(1, min(STEPS, power_of_two(room + 1) // 2))
    if instructions_at_point(spec) > LIGHT or any(map(has_factor, spec.scans)):
        most = 1
    if points <= WARP_ROW:
        threads = min(32, power_of_two(chunks)) if spec.rows else 32
        return Team("warp", threads, min(most, power_of_two(ceil_div(chunks, threads))))
    for threads in (THREADS // 2, THREADS):
        steps = power_of_two(ceil_div(chunks, threads))
        if steps <= most:
            return Team("block", threads, steps)
    team = Team("block", THREADS, most)
    divided = _divided(team, rows, team.threads * most * items, points, target)
    if divided is team and rows < 2 * target.cores:
        return Team("block", 2 * THREADS, most)
    return divided


def _divided(team: Team, blocks: int, tile: int, points: int, target: Target) -> Team:
    """Return a team of several blocks a row, if one a row would leave the GPU idle."""
    least = max(LEAST_PART, tile)
    if blocks >= target.cores or points < 2 * least:
        return team
    parts = min(WAVES * target.cores // blocks, points // least)
    part = ceil_div(ceil_div(points, parts), tile) * tile
    kind = "grid" if team.kind == "block" else team.kind
    return replace(team, kind=kind, parts=ceil_div(points, part), part=part)


def scans_are_for_stages(spec: KernelSpec, target: Target) -> bool:
    """Return whether rows are so few and long that each pass should be a kernel of its own."""
    spec, _ = turned(spec)
    lanes = 1 if rows_are_neighbours(spec) else lanes_of(spec, target, True)
    return Needs(spec).last > 0 and team_of(spec, target, lanes).parts > 1


def emit_scans(text: KernelText, target: Target, backwards: bool) -> CudaKernel:
    """Return a kernel with scans; `backwards`: from the last point of a row to the first."""
    team = team_of(text.spec, target, text.lanes)
    if text.needs.last > 0 and team.parts > 1:
        kind = "block" if team.kind == "grid" else team.kind
        team = replace(team, kind=kind, parts=1, part=0)
    scans = _Scans(text, team, backwards)
    if team.parts > 1:
        for level in range(1, scans.phases.depth + 1):
            scans.function(level)
            name = f"{text.name}_parts" + (f"_{level}" if level > 1 else "")
            about = "launched before: what is known of parts of rows"
            text.end_function(name, about + (f", for level {level}" if level > 1 else ""))
    return scans.kernel()


class _Scans:
    """The functions of one kernel, for one team."""

    def __init__(self, text: KernelText, team: Team, backwards: bool) -> None:
        self.text = text
        self.team = team
        self.backwards = backwards
        self.spec = spec = text.spec
        self.needs = text.needs
        self.is_alone = team.kind == "columns" and team.threads == 1
        self.phases = Phases(spec, self.is_alone)
        self.items = stretch_of(spec, text.lanes)
        #: Whether the last stretch of a row may be shorter than the others.
        self.is_ragged = self.items > 1 and (text.lanes == 1 or not spec.rows)
        #: For each scan the memory for what is known of parts, and the place there of a part.
        self.known_parts: dict[int, tuple[str, Any]] = {}

    def kernel(self) -> CudaKernel:
        """Return the kernel, whose last function is emitted here."""
        self.function(None)
        self.text.compute_row_values(self.needs.last + 1)
        self.rows.store_rows()
        return self.rows.launched(self._about(), LEAST_THREADS)

    def function(self, last: int | None) -> None:
        """Emit all passes, or what finds the scans of a level for each part."""
        text = self.text
        self.b = text.b
        self.rows = TeamText(text, self.team)
        self.carried: dict[int, str] = {}
        self.running: dict[int, str] = {}
        text.integer("n", self.spec.row_size)
        self._declare_shared()
        self.rows.enter()
        text.load_row_values()
        self._declare_range()
        for number in range(self.needs.last + 1):
            text.compute_row_values(number)
            self._pass(number, last)

    def _scan(self, i: int) -> Scan:
        value = self.spec.values[i - self.needs.first]
        assert isinstance(value, Scan)
        return value

    def _declare_shared(self) -> None:
        """Declare memory through which the threads of a block tell each other what is known."""
        team = self.team
        self.rows.declare_shared(x for x in self.spec.values if isinstance(x, Reduce))
        self.shared: dict[str, str] = {}
        if team.kind == "warp" or self.is_alone:
            return
        room = COLUMNS * team.threads if team.kind == "columns" else team.threads // 32
        for scan in self.spec.scans:
            kind, _ = part_type(scan)
            if kind not in self.shared:
                self.shared[kind] = self.b.fresh("known")
                self.b.statement(f"__shared__ {kind} {self.shared[kind]}[{room}];")

    def _declare_range(self) -> None:
        """Emit which stretches of the row are this block's, and which of a tile this thread's."""
        b, team, index = self.b, self.team, self.text.index
        self.all = "n"
        if self.items > 1 and not self.is_alone:
            b.statement(f"const {index} stretches = (n + {self.items - 1}) / {self.items};")
            self.all = "stretches"
        self.begin, self.end = "0", self.all
        if team.parts > 1:
            self.text.integer("part", team.part // self.items)
            b.statement(f"const {index} begin = {self.rows.wide(self.rows.axis)} * part;")
            end = f"begin + part < {self.all} ? begin + part : {self.all}"
            b.statement(f"const {index} end = {end};")
            self.begin, self.end = "begin", "end"
        self.own = f" + {self.rows.thread}"
        if team.kind in ("block", "grid") and team.steps > 1:
            warp = f"threadIdx.x / 32 * {32 * team.steps}"
            b.statement(f"const int own = {warp} + threadIdx.x % 32;")
            self.own = " + own"

    # ---- one pass

    def _pass(self, number: int, last: int | None) -> None:
        b, text = self.b, self.text
        phases = self.phases.of_pass(number, last)
        reductions = self.needs.reductions(number) if last is None else {}
        held: dict[int, str] = {}
        for i, value in reductions.items():
            held[i] = b.fresh(f"{value.primitive.name.rstrip('_')}{i}")
            kind = held_name(value.accumulated)
            b.statement(f"{kind} {held[i]} = {text.combination(value)}::identity();")
        self.reductions, self.held = reductions, held
        for i in sorted({i for phase in phases for i in phase.found}):
            self._declare_carried(i, is_known=last is None or self.phases.levels[i] < last)
        if self.is_alone:
            for i in self.needs.scans(number):
                self._declare_running(i, f"{stretch(text, self._scan(i))}::identity()")
        with b.within(self._loop()):
            self._tile(phases)
        if last is not None:
            self._store_parts(phases[-1].found)
        self.rows.combine(reductions, held)
        for i, value in reductions.items():
            text.row_values[i] = text.reduced(value, held[i])

    def _loop(self) -> str:
        """Return the head of the loop over tiles."""
        index, items = self.text.index, self.items
        if not self.is_alone:
            tile = self.team.steps * self.team.threads
            return f"for ({index} first = {self.begin}; first < {self.end}; first += {tile})"
        if self.backwards:
            return f"for ({index} j = (n - 1) / {items} * {items}; j >= 0; j -= {items})"
        return f"for ({index} j = 0; j < n; j += {items})"

    def _declare_carried(self, i: int, is_known: bool) -> None:
        """Declare what is known up to the tile: of the parts before this one, if they are known."""
        b, team, scan = self.b, self.team, self._scan(i)
        struct, (kind, size) = stretch(self.text, scan), part_type(scan)
        name = self.carried[i] = b.fresh(f"carried{i}")
        b.statement(f"{kind} {name} = {struct}::identity();")
        if team.parts == 1:
            return
        if i not in self.known_parts:
            self.known_parts[i] = self.rows.parts_of_row(f"parts{i}", kind, size)
        if not is_known:
            return
        memory, place = self.known_parts[i]
        apart = team.width if team.kind == "columns" else 1
        axis = self.rows.axis
        counts = f"{apart}, blockIdx.{axis}, gridDim.{axis}, {self.rows.thread}"
        before = b.fresh(f"before{i}")
        call = f"of_parts<{struct}, {team.threads}>(&{memory}[{place('0')}], {counts})"
        b.statement(f"{kind} {before}[1] = {{{{{call}}}}};")
        b.statement(f"{self._carry(scan)}({before}, {name}, {self.shared[kind]});")

    def _carry(self, scan: Scan) -> str:
        team, struct = self.team, stretch(self.text, scan)
        over = {"warp": "warp", "columns": "columns"}.get(team.kind, "block")
        return f"carry_over_{over}<{struct}, {team.threads}>"

    def _declare_running(self, i: int, start: str) -> None:
        scan = self._scan(i)
        self.running[i] = self.b.fresh(f"running{i}")
        start = f"{stretch(self.text, scan)}::value({start})"
        self.b.statement(f"{held_name(carried_type(scan))} {self.running[i]} = {start};")

    def _store_parts(self, found: Sequence[int]) -> None:
        b = self.b
        with b.within(f"if ({self.rows.thread} == 0)"):
            for i in found:
                memory, place = self.known_parts[i]
                at = place(f"blockIdx.{self.rows.axis}")
                b.statement(f"AD_ST(&{memory}[{at}], {self.carried[i]});")

    # ---- one tile

    def _tile(self, phases: Sequence[Phase]) -> None:
        b, team = self.b, self.team
        self.kept: dict[int, str] = {}
        self.part: dict[int, str] = {}
        if self.is_alone:
            self._declare_left()
        elif team.steps == 1:
            b.statement(f"const {self.text.index} stretch = first{self.own};")
        for phase in phases:
            for i in phase.kept:
                self._declare_kept(i)
            for i in phase.found:
                self.part[i] = b.fresh(f"part{i}")
                b.statement(f"{part_type(self._scan(i))[0]} {self.part[i]}[{team.steps}];")
            with self._steps(phase):
                self._stretch(phase)
            for i in phase.found:
                scan = self._scan(i)
                given = [self.part[i], self.carried[i]]
                given += [self.shared[part_type(scan)[0]]] if team.kind != "warp" else []
                b.statement(f"{self._carry(scan)}({', '.join(given)});")

    def _declare_left(self) -> None:
        if self.is_ragged:
            left = f"n - j < {self.items} ? n - j : {self.items}"
            self.b.statement(f"const int left = {left};")

    def _declare_kept(self, i: int) -> None:
        dtype = self.spec.dtype_of(i)
        self.kept[i] = self.b.fresh(f"v{i}_kept")
        kind = element_name(dtype) if i < self.needs.first else held_name(dtype)
        many = f"[{self.items}]" if self.items > 1 else ""
        if self._is_wide(i):
            kind, many = f"Lanes<{kind}, {self.items}>", ""
        self.b.statement(f"{kind} {self.kept[i]}[{self.team.steps}]{many};")

    def _is_wide(self, i: int) -> bool:
        return i < self.needs.first and self.text.is_wide(self.spec.loads[i])

    @contextmanager
    def _steps(self, phase: Phase) -> Iterator[None]:
        """Emit the stretches of a thread in a tile, and where each begins."""
        b, team, index, items = self.b, self.team, self.text.index, self.items
        self.step = "0"
        if self.is_alone:
            yield
            return
        with ExitStack() as blocks:
            if team.steps > 1:
                self.step = "step"
                b.statement("#pragma unroll")
                head = f"for (int step = 0; step < {team.steps}; ++step)"
                blocks.enter_context(b.within(head))
                apart = team.threads if team.kind == "warp" else 32
                b.statement(f"const {index} stretch = first{self.own} + {apart} * step;")
            for i in phase.found:
                struct = stretch(self.text, self._scan(i))
                b.statement(f"{self.part[i]}[{self.step}] = {struct}::identity();")
            blocks.enter_context(b.within(f"if (stretch < {self.end})"))
            place = f"({self.all} - 1 - stretch)" if self.backwards else "stretch"
            b.statement(f"const {index} j = {place if items == 1 else f'{items} * {place}'};")
            self._declare_left()
            yield

    def _stretch(self, phase: Phase) -> None:
        """Emit a stretch of a thread: its values, what is known of it, its stores."""
        b, text, items = self.b, self.text, self.items
        lanes: dict[int, str] = {}
        for i in phase.computed:
            if self._is_wide(i):
                call = text.lanes_at(i, "j", self.is_ragged)
                if i in phase.kept:
                    b.statement(f"{self.kept[i]}[{self.step}] = {call};")
                    lanes[i] = f"{self.kept[i]}[{self.step}]"
                else:
                    lanes[i] = b.fresh(f"v{i}_lanes")
                    kind = element_name(self.spec.loads[i].dtype)
                    b.statement(f"const Lanes<{kind}, {items}> {lanes[i]} = {call};")
        results: dict[int, str] = {}
        for k, _ in phase.stored:
            if text.is_wide(text.stores[k]):
                results[k] = b.fresh(f"y{k}_lanes")
                kind = element_name(text.stores[k].dtype)
                b.statement(f"Lanes<{kind}, {items}> {results[k]};")
        for i in phase.computed:
            if i in self.part:
                self._declare_running(i, f"{self.part[i]}[{self.step}]")
        with ExitStack() as blocks:
            point, lane = "j", ""
            if items > 1:
                point, lane = "j + lane", "[lane]"
                b.statement("#pragma unroll")
                head = f"for (int lane = 0; lane < {items}; ++lane)"
                if self.backwards:
                    head = f"for (int lane = {items - 1}; lane >= 0; --lane)"
                blocks.enter_context(b.within(head))
                if self.is_ragged:
                    b.statement("if (lane >= left) continue;")
            known = self._values(phase, lanes, point, lane)
            for i in phase.found:
                self._know(i, known)
            for i in phase.reduced:
                value, name = self.reductions[i], self.held[i]
                x = text.o.cast(known[value.operand], value.accumulated)
                combined = f"{text.combination(value)}::combine({name}, {{value}})"
                text.elements.set(f"{name} = {combined};", x)
            for k, i in phase.stored:
                if k in results:
                    text.elements.write(f"{results[k]}[lane] = {{value}};", known[i])
                else:
                    with self._inside(True):
                        text.store(k, known[i], point)
        with self._inside(bool(results)):
            for k, name in results.items():
                text.store_lanes(k, name, "j", self.is_ragged)

    @contextmanager
    def _inside(self, is_needed: bool) -> Iterator[None]:
        """Emit what only threads do whose row no other thread has."""
        with ExitStack() as blocks:
            if is_needed and self.rows.inside:
                blocks.enter_context(self.b.within(f"if ({self.rows.inside})"))
            yield

    def _values(
        self, phase: Phase, lanes: dict[int, str], point: str, lane: str
    ) -> dict[int, Held]:
        """Return the values at a point, those of rows among them."""
        text, known, made = self.text, dict(self.text.row_values), {}
        for i in sorted((*phase.computed, *phase.read)):
            dtype, is_load = self.spec.dtype_of(i), i < self.needs.first
            if i in phase.read:
                element = f"{self.kept[i]}[{self.step}]{lane}"
                read = text.elements.read(element, dtype, f"v{i}") if is_load else None
                known[i] = read or text.elements.variable(element, dtype)
                continue
            if i in lanes:
                known[i] = text.elements.read(f"{lanes[i]}{lane}", dtype, f"v{i}")
                continue
            if is_load:
                known[i] = text.load(i, point)
            elif isinstance(self.spec.values[i - self.needs.first], Scan):
                known[i] = self._advanced(i, known, point)
            else:
                known[i] = text.computed(i, known, made, point)
            if i in phase.kept:
                keep = text.elements.write if is_load else text.elements.set
                keep(f"{self.kept[i]}[{self.step}]{lane} = {{value}};", known[i])
        return known

    def _operands(self, scan: Scan, known: dict[int, Held]) -> list[Held]:
        found = [self.text.operand_value(x, known) for x in scan.operands]
        return [self.text.o.cast(x, carried_type(scan)) for x in found]

    def _know(self, i: int, known: dict[int, Held]) -> None:
        """Emit that a point is added to what is known of its stretch."""
        scan, elements, part = self._scan(i), self.text.elements, f"{self.part[i]}[{self.step}]"
        struct, operands = stretch(self.text, scan), self._operands(scan, known)
        own = "{value}"
        if has_factor(scan):
            names = [self.b.fresh("x") for _ in operands]
            for name, x in zip(names, operands, strict=True):
                elements.set(f"const {held_name(carried_type(scan))} {name} = {{value}};", x)
            own = self.b.fresh("own")
            of = f"{struct}::of({', '.join(names)})"
            self.b.statement(f"const {part_type(scan)[0]} {own} = {of};")
        combined = own
        if self.items > 1:
            first = self.items - 1 if self.backwards else 0
            combined = f"lane == {first} ? {own} : {struct}::combine({part}, {own})"
        elements.set(f"{part} = {combined};", operands[-1])

    def _advanced(self, i: int, known: dict[int, Held], point: str) -> Held:
        """Return the running result at a point, with which the next one begins."""
        text, scan, dtype = self.text, self._scan(i), carried_type(self._scan(i))
        o, elements, operands = text.o, text.elements, self._operands(scan, known)
        text.comment(scan.source)
        before = elements.variable(self.running[i], dtype)
        assert scan.primitive.advance is not None
        result = scan.primitive.advance(o, before, *operands)
        if has_factor(scan) or dtypes.is_complex(dtype):  # where nothing is before, as it is
            first = "n - 1" if self.backwards else "0"
            is_first = Typed(self.b.expression(I1, f"({point} == {first})"), np.dtype(bool))
            result = o.where(is_first, operands[-1], result)
        elements.set(f"{self.running[i]} = {{value}};", result)
        return o.cast(elements.variable(self.running[i], dtype), scan.dtype)

    def _about(self) -> str:
        """Return what the kernel does, and what a block meets."""
        lines = ["from the last point of a row to the first"] if self.backwards else []
        if self.is_alone:
            lines.append("a thread takes a row from point to point")
        else:
            tile = self.team.threads * self.team.steps * self.items
            lines.append(f"tiles of {tile} points")
        if not self.is_alone and self.team.kind != "warp":
            lines.append("two barriers for each scan of a tile, met by every thread")
        return "\n".join(lines)
