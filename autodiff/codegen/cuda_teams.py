"""Threads that share rows of a CUDA kernel: which rows are theirs, and how they combine values.

A *team* is what shares a row. `TeamText` adds to the text of a kernel what follows from the team
alone: the row a thread works on, combinations of values over the team, and over the blocks of a
row where several take one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod

from autodiff.codegen.cuda_elements import held_name
from autodiff.codegen.cuda_launch import Counters, CudaKernel, Scratch
from autodiff.codegen.cuda_text import KernelText, ceil_div
from autodiff.codegen.kernel_needs import Needs
from autodiff.schedule.kernel_spec import Gather, KernelSpec, Reduce

#: Threads of a block, where nothing else decides how many.
THREADS = 256

#: Rows of a block where rows are neighbours in memory.
COLUMNS = 32

#: Blocks a multiprocessor has at most where several blocks take a row.
WAVES = 8

#: Blocks along y that a grid has at most; beyond, they go on along z.
MOST_BLOCKS = 32768


@dataclass(frozen=True, slots=True)
class Team:
    """How threads share a row.

    Args:
        kind: `warp`, `block`, `columns` or `grid`.
        threads: threads of one block that share a row.
        steps: times that a thread takes lanes of a row that it keeps; 0 where it keeps none and
            goes on until the row ends.
        parts: blocks that share a row.
        part: points of each such block.
        width: rows of a block of columns, which are neighbours.
    """

    kind: str
    threads: int
    steps: int = 0
    parts: int = 1
    part: int = 0
    width: int = COLUMNS


def rows_are_neighbours(spec: KernelSpec) -> bool:
    """Return whether going from row to row rather than along rows goes through memory in order."""
    if spec.is_pointwise or not spec.rows or spec.shape[spec.rows - 1] < 8:
        return False
    known = Needs(spec).in_rows
    read = [x for i, x in enumerate(spec.loads) if not known[i]]
    along = across = 0
    for x in (*read, *[value for value in spec.values if isinstance(value, Gather)]):
        along += x.dtype.itemsize * (abs(x.strides[-1]) == 1)
        across += x.dtype.itemsize * (abs(x.strides[spec.rows - 1]) == 1)
    return across > along


class TeamText:
    """What the text of a kernel says of its teams.

    Args:
        text: the kernel's text as it grows.
        team: what shares a row.

    Attributes:
        inside: the text of whether the row is one that no other thread has; empty if it always is.
        thread: the text of a thread's number within its team.
    """

    def __init__(self, text: KernelText, team: Team) -> None:
        self.text = text
        self.team = team
        self.spec = text.spec
        self.b = text.b
        self.inside = ""
        self.thread = "threadIdx.y" if team.kind == "columns" else "threadIdx.x"
        self.shared: dict[str, str] = {}

    def enter(self) -> None:
        """Emit which row a thread works on."""
        b, text, team, spec = self.b, self.text, self.team, self.spec
        if not spec.rows:
            text.enter_row("0")
            return
        index, kind = text.index, team.kind
        if kind == "columns":
            columns = spec.shape[spec.rows - 1]
            text.integer("columns", columns)
            b.statement(f"const {index} column = {team.width} * {self.wide('x')} + threadIdx.x;")
            b.statement("const bool inside = column < columns;")
            self.inside = "inside"
            last = f"i{spec.rows - 1}"
            b.statement(f"const {index} {last} = inside ? column : columns - 1;")
            indices = {spec.rows - 1: last}
            outer = list(range(spec.rows - 1))
            if outer:
                block = "blockIdx.y" if team.parts > 1 else "blockIdx.z * gridDim.y + blockIdx.y"
                b.statement(f"const {index} row = {block};")
                text.integer("rows", prod(spec.shape[: spec.rows - 1]))
                b.statement("if (row >= rows) return;")
                indices |= text.row_indices("row", outer)
            text.starts_of(indices)
            return
        if kind == "warp":
            text.integer("rows", spec.row_count)
            place = f"{self.wide('x')} * blockDim.y + threadIdx.y"
            b.statement(f"const {index} line = {place};")
            b.statement("const bool inside = line < rows;")
            b.statement(f"const {index} row = inside ? line : rows - 1;")
            self.inside = "inside"
        elif kind == "block":
            b.statement(f"const {index} row = blockIdx.x;")
        else:
            b.statement(f"const {index} row = blockIdx.y;")
        text.enter_row("row")

    def wide(self, axis: str) -> str:
        """Return the text of a block's number along an axis, of the type of indices."""
        return f"i64(blockIdx.{axis})" if self.text.long else f"blockIdx.{axis}"

    # ---- across threads

    def declare_shared(self, reductions: Iterable[Reduce]) -> None:
        """Declare memory through which the threads of a block combine values of each type."""
        team = self.team
        if team.kind == "warp" or team.threads == 1:
            return
        room = team.width * team.threads if team.kind == "columns" else team.threads // 32
        for value in reductions:
            kind = held_name(value.accumulated)
            if kind not in self.shared:
                self.shared[kind] = self.b.fresh("shared")
                self.b.statement(f"__shared__ {kind} {self.shared[kind]}[{room}];")

    def combine(self, reductions: Mapping[int, Reduce], held: Mapping[int, str]) -> None:
        """Emit the combination of variables over the team, and over the blocks of a row."""
        if not reductions:
            return
        self._across(reductions, held)
        if self.team.parts > 1:
            self._combine_parts(reductions, held)

    def _across(self, reductions: Mapping[int, Reduce], held: Mapping[int, str]) -> None:
        team = self.team
        if team.threads == 1:
            return
        for i, value in reductions.items():
            struct, name = self.text.combination(value), held[i]
            if team.kind == "warp":
                call = f"over_warp<{struct}, {team.threads}>({name})"
            else:
                function = "over_columns" if team.kind == "columns" else "over_block"
                shared = self.shared[held_name(value.accumulated)]
                call = f"{function}<{struct}, {team.threads}>({name}, {shared})"
            self.b.statement(f"{name} = {call};")

    def parts_of_row(self, stem: str, kind: str, size: int) -> tuple[str, Callable[[str], str]]:
        """Return memory for an element of each part of each row, and its place for a part.

        Args:
            stem: its name.
            kind: the type of an element.
            size: bytes of an element.
        """
        is_column = self.team.kind == "columns"
        size *= self.tiles * self.team.parts * (self.team.width if is_column else 1)
        name = self.text.scratch(stem, kind, Scratch(size))
        place = f"i64({self.tile}) * gridDim.{self.axis}"

        def of_part(part: str) -> str:
            if not is_column:
                return f"({place} + {part})"
            return f"({place} + {part}) * {self.team.width} + threadIdx.x"

        return name, of_part

    @property
    def axis(self) -> str:
        """The axis of the grid along which there are the parts of a row."""
        return "z" if self.team.kind == "columns" else "x"

    @property
    def tile(self) -> str:
        """The text of the number of the rows that this block and others have parts of."""
        is_column = self.team.kind == "columns"
        return "(blockIdx.y * gridDim.x + blockIdx.x)" if is_column else "blockIdx.y"

    @property
    def tiles(self) -> int:
        """How many of these numbers there are."""
        spec = self.spec
        if self.team.kind != "columns":
            return spec.row_count
        across = ceil_div(spec.shape[spec.rows - 1], self.team.width)
        return across * prod(spec.shape[: spec.rows - 1])

    def _combine_parts(self, reductions: Mapping[int, Reduce], held: Mapping[int, str]) -> None:
        """Emit partial results of blocks, and their combination by the last block of a row."""
        b, text = self.b, self.text
        axis, thread = self.axis, self.thread
        partial = {
            i: self.parts_of_row(
                f"partial{i}", held_name(value.accumulated), value.accumulated.itemsize
            )
            for i, value in reductions.items()
        }
        counters = text.scratch("finished", "u32", Counters(self.tiles))
        with b.within(f"if ({thread} == 0)"):
            for i in reductions:
                name, place = partial[i]
                b.statement(f"AD_ST(&{name}[{place(f'blockIdx.{axis}')}], {held[i]});")
        flag = b.fresh("is_last")
        b.statement(f"__shared__ u32 {flag};")
        counter = f"&{counters}[{self.tile}]"
        b.statement(f"if (!is_last_block({counter}, gridDim.{axis}, &{flag})) return;")
        for i, value in reductions.items():
            b.statement(f"{held[i]} = {text.combination(value)}::identity();")
        with b.within(f"for (int k = {thread}; k < gridDim.{axis}; k += {self.team.threads})"):
            for i, value in reductions.items():
                name, place = partial[i]
                other = f"AD_LD(&{name}[{place('k')}])"
                struct = text.combination(value)
                b.statement(f"{held[i]} = {struct}::combine({held[i]}, {other});")
        self._across(reductions, held)

    # ---- the end

    def store_rows(self) -> None:
        """Emit the stores of one element a row."""
        stored = self.text.needs.stored(rows=True)
        if not stored:
            return
        also = f" && {self.inside}" if self.inside else ""
        with self.b.within(f"if ({self.thread} == 0{also})"):
            for s, i in stored:
                self.text.store(s, self.text.row_values[i], "0")

    def launched(self, about: str = "", least_threads: int | None = None) -> CudaKernel:
        """Return the kernel.

        Args:
            about: lines on what a block shares and meets.
            least_threads: how many a multiprocessor must hold at least, as for `KernelText.kernel`.
        """
        team, spec = self.team, self.spec
        rows = spec.row_count
        if team.kind == "warp":
            height = THREADS // team.threads if spec.rows else 1
            mapped = f"x: {team.threads} threads for the points of a row; y: rows"
            threads, grid, block = (
                THREADS,
                (ceil_div(rows, height), 1, 1),
                (team.threads, height, 1),
            )
        elif team.kind == "columns":
            width = ceil_div(spec.shape[spec.rows - 1], team.width)
            outer = prod(spec.shape[: spec.rows - 1])
            deep = 1 if team.parts > 1 else ceil_div(outer, MOST_BLOCKS)
            grid = (width, ceil_div(outer, deep), team.parts if team.parts > 1 else deep)
            mapped = f"x: {team.width} neighbouring rows; y: points" + (
                "; z: parts of rows" if team.parts > 1 else ""
            )
            block = (team.width, team.threads, 1)
            threads = team.width * team.threads
        else:
            threads, block = team.threads, (team.threads, 1, 1)
            is_divided = team.kind == "grid"
            grid = (team.parts, rows, 1) if is_divided else (rows, 1, 1)
            mapped = "x: points of a row" if not is_divided else "x: parts of a row; y: rows"
        lines = "\n".join(line for line in (mapped, about) if line)
        least_blocks = None if least_threads is None else max(1, least_threads // threads)
        return self.text.kernel(lines, threads, grid, block, least_blocks=least_blocks)
