"""The text that all shapes of CUDA kernels share: parameters, places of elements, values.

`KernelText` grows the body of one kernel. Points are visited `lanes` at a time: neighbouring
elements of one row, read and written by one instruction where the operands allow it.
"""

from __future__ import annotations

import linecache
import re
from collections.abc import Callable, Iterable, Sequence
from os.path import basename
from typing import Any

import numpy as np

from autodiff.base.source_info import VALUES, file_and_line, sweep_of
from autodiff.codegen.cpu_layout import instructions_of
from autodiff.codegen.cuda_builder import CudaBuilder
from autodiff.codegen.cuda_elements import Elements, Held, element_name, held_name
from autodiff.codegen.cuda_indexed import gathered, location
from autodiff.codegen.cuda_launch import (
    Counters,
    CudaKernel,
    Divisor,
    Extents,
    Integer,
    OperandNumber,
    OperandPointer,
    OutputPointer,
    Parameter,
    Scratch,
)
from autodiff.codegen.kernel_needs import Needs
from autodiff.codegen.operations import Typed
from autodiff.codegen.scalar_types import I1, I32, I64
from autodiff.ir.graph import Literal
from autodiff.primitives.lowering import lower
from autodiff.schedule.kernel_spec import (
    Bound,
    Choose,
    Compute,
    Gather,
    KernelSpec,
    KernelValue,
    Load,
    Location,
    Operand,
    Position,
    Reduce,
    Scan,
    Store,
    Update,
)
from autodiff.schedule.target import AVX2, Target

#: Elements from which on indices have 64 bits.
LONG = 1 << 31

#: Points that a thread takes at a time at most: with 16 of one byte each there were too few
#: registers for a division.
MOST_LANES = 8

#: Instructions beyond which a thread takes one point at a time: at 500 for 8 bytes a GPU computes
#: several times as long as it reads, and compiling takes a quarter of the time.
HEAVY = 500

#: What has a place for every point of an index space.
Placed = Load | Store | Update | Gather | Bound | Position | Location

#: Characters of the user's line that a comment shows.
_SHOWN = 72

#: Names of sizes and indices.
_OWN_NAMES = ("i", "j", "k", "n", "row", "rows", "line", "lines", "lane", "left", "step")

_ASSIGNMENT = re.compile(r"^\s*([A-Za-z_]\w*)\s*(?::[^=]*)?=[^=]")


def lanes_of(spec: KernelSpec, target: Target, aligned: bool) -> int:
    """Return how many neighbouring points a thread takes at a time.

    As many as fill 16 bytes of the widest type, at most `MOST_LANES`, if all arrays whose points
    are neighbours in memory can be read so: each row must begin at a multiple of that. Bounds are
    those of single elements: a kernel with scans reads what has some one by one, others all.
    """
    known = Needs(spec).in_rows
    if not spec.scans and any(x.bounds and not known[i] for i, x in enumerate(spec.loads)):
        return 1
    read = [x for i, x in enumerate(spec.loads) if not known[i] and not x.bounds]
    flat = [x for x in read if x.strides[-1] == 1]
    stores = [x for x in spec.stores if isinstance(x, Store)]
    written = [x for x in stores if x.strides and x.strides[-1] == 1]
    everything: list[Load | Store] = [*flat, *written]
    if not aligned or not everything or is_heavy(spec) or spec.updates:
        return 1  # what is written at places is so element by element
    lanes = min(MOST_LANES, *[target.lanes(x.dtype) for x in everything])
    if spec.row_count > 1 and spec.row_size % lanes:
        return 1
    for x in everything:
        offset = x.offset if isinstance(x, Load) else 0
        if offset % lanes or any(stride % lanes for stride in x.strides[: spec.rows]):
            return 1
    return lanes


def is_heavy(spec: KernelSpec) -> bool:
    """Return whether so much is computed at a point that memory is waited for in any case."""
    return instructions_at_point(spec) > HEAVY


def instructions_at_point(spec: KernelSpec) -> int:
    """Return how many instructions are computed at a point.

    They are counted as those of a processor: formulas are much the same.
    """
    computed = [value for value in spec.values if isinstance(value, Compute)]
    return sum(instructions_of(value, spec, AVX2) for value in computed)


def is_long(spec: KernelSpec) -> bool:
    """Return whether indices or places of elements need 64 bits."""
    total = spec.row_count * spec.row_size
    for x in (*spec.loads, *spec.values, *spec.stores):
        if not isinstance(x, Load | Gather | Store | Update | Position | Location):
            continue
        reach = sum(abs(s) * (n - 1) for s, n in zip(x.strides, spec.shape, strict=True))
        if isinstance(x, Gather | Update | Location):
            reach += sum(abs(place.stride) * place.size for place in x.places)
        total = max(total, reach + abs(x.missing if isinstance(x, Location) else x.offset))
    return total >= LONG - (1 << 20)  # a grid may reach beyond the points


class KernelText:
    """The body of one kernel as it grows.

    Args:
        spec: a kernel whose points are one axis, the last.
        target: the GPU.
        name: the kernel's name.
        numbers: operands without axes that are given by value.
        lanes: points that a thread takes at a time.
        contract: whether a product and a sum may be rounded once.
    """

    def __init__(
        self,
        spec: KernelSpec,
        target: Target,
        name: str,
        numbers: frozenset[int],
        lanes: int,
        contract: bool,
    ) -> None:
        self.spec = spec
        self.name = name
        self.numbers = numbers
        self.lanes = lanes
        self.long = is_long(spec)
        self.index = "i64" if self.long else "i32"
        self.contract = contract
        self._begin(CudaBuilder(target, (name, *_OWN_NAMES)))
        self.needs = Needs(spec)
        self.parameters: list[tuple[str, Parameter]] = []
        self.strides: dict[int, str] = {}
        self.bounds: dict[int, str] = {}
        self.structs: dict[str, str] = {}
        self.pointers = [self._operand(load) for load in spec.loads]
        gathers = enumerate(spec.values, self.needs.first)
        self.gathered = {i: self._operand(x) for i, x in gathers if isinstance(x, Gather)}
        self.stores = spec.stores
        self.outputs = [self._output(k, store) for k, store in enumerate(self.stores)]
        self.starts: dict[tuple[int, ...], str] = {}
        self.row_values: dict[int, Held] = {}
        self._names = _names(spec)
        self._line: Any = None
        self._functions: list[tuple[str, str, list[str]]] = []

    def _begin(self, builder: CudaBuilder) -> None:
        self.b = builder
        self.b.contract = self.contract
        self.elements = Elements(self.b)
        self.o = self.elements.o

    def end_function(self, name: str, about: str) -> None:
        """Make what has been emitted a function that is launched before the kernel.

        What follows is the next function, of the same parameters.

        Args:
            name: the function's name.
            about: lines that say what it does.
        """
        self._functions.append((name, about, self.b.rendered(1)))
        given = [declaration.rpartition(" ")[2] for declaration, _ in self.parameters]
        functions = self.b.functions
        self._begin(CudaBuilder(self.b.target, (self.name, *_OWN_NAMES, *given)))
        self.b.functions = functions
        self.starts.clear()
        self.row_values.clear()
        self._line = None

    # ---- parameters

    def _given(self, declaration: str, parameter: Parameter) -> str:
        """Add a parameter, unless it is there, and return its name."""
        for known, other in self.parameters:
            if other == parameter and not isinstance(parameter, Scratch | Counters):
                return known.rpartition(" ")[2]
        self.parameters.append((declaration, parameter))
        return declaration.rpartition(" ")[2]

    def _operand(self, load: Load | Gather) -> str:
        kind, operand = element_name(load.dtype), load.operand
        if operand in self.numbers:
            parameter: Parameter = OperandNumber(operand)
            return self._given(f"const {kind} {self.b.fresh(f'x{operand}')}", parameter)
        parameter = OperandPointer(operand, load.offset * load.dtype.itemsize)
        if all(parameter != other for _, other in self.parameters):
            name = self.b.fresh(f"x{operand}")
            self.parameters.append((f"const {kind}* __restrict__ {name}", parameter))
        return self._given("", parameter)

    def _output(self, k: int, store: Store | Update) -> str:
        kind = element_name(store.dtype)
        name = self.b.fresh(f"y{k}")
        return self._given(f"{kind}* __restrict__ {name}", OutputPointer(k))

    def integer(self, name: str, value: int) -> str:
        """Return the name of a parameter of the indices' type."""
        declared = f"const {self.index} {name}", Integer(value, 64 if self.long else 32)
        if declared not in self.parameters:
            self.parameters.append(declared)
        return name

    def stride(self, value: int) -> str:
        """Return the text of a stride: equal ones are one parameter."""
        if value in (0, 1):
            return str(value)
        if value not in self.strides:
            self.strides[value] = self.integer(self.b.fresh(f"s{len(self.strides)}"), value)
        return self.strides[value]

    def number(self, value: int) -> str:
        """Return the text of a number that follows from sizes: equal ones are one parameter."""
        if value == 0:
            return "0"
        if value not in self.bounds:
            self.bounds[value] = self.integer(self.b.fresh(f"c{len(self.bounds)}"), value)
        return self.bounds[value]

    def divisor(self, size: int) -> str:
        """Return the name of a size to divide by."""
        parameter = Divisor(size)
        for declaration, other in self.parameters:
            if other == parameter:
                return declaration.rpartition(" ")[2]
        name = self.b.fresh(f"d{sum(isinstance(p, Divisor) for _, p in self.parameters)}")
        self.parameters.append((f"const Divisor {name}", parameter))
        return name

    def scratch(self, stem: str, kind: str, parameter: Scratch | Counters) -> str:
        """Return the name of memory of the kernel's own."""
        name = self.b.fresh(stem)
        self.parameters.append((f"{kind}* {name}", parameter))
        return name

    # ---- where elements are

    def enter_row(self, row: str) -> None:
        """Work out where the row begins in every array."""
        self.starts_of(self.row_indices(row, range(self.spec.rows)))

    def row_indices(self, row: str, axes: Sequence[int]) -> dict[int, str]:
        """Return the index along each of some axes, of which `row` counts all places."""
        indices: dict[int, str] = {}
        rest, b = row, self.b
        for axis in reversed(axes[1:]):
            size = self.spec.shape[axis]
            index, before = b.fresh(f"i{axis}"), b.fresh("q")
            if self.long:
                over = self.integer(b.fresh(f"n{axis}"), size)
                b.statement(f"const i64 {before} = {rest} / {over};")
                b.statement(f"const i64 {index} = {rest} - {before} * {over};")
            else:
                over = self.divisor(size)
                b.statement(f"const i32 {before} = quotient({rest}, {over});")
                b.statement(f"const i32 {index} = {rest} - {before} * {over}.size;")
            indices[axis], rest = index, before
        if axes:
            indices[axes[0]] = rest
        return indices

    def starts_of(self, indices: dict[int, str], arrays: Sequence[Placed] | None = None) -> None:
        """Emit where the row begins in arrays and bounds, by default in all.

        There is one place for equal strides.
        """
        everything = (*self.spec.loads, *self.spec.values, *self.stores)
        for x in self.placed(everything) if arrays is None else arrays:
            key = x.strides[: self.spec.rows]
            if key in self.starts:
                continue
            terms = []
            for axis, stride in enumerate(key):
                if stride and axis in indices:
                    by = self.stride(stride)
                    terms.append(indices[axis] if by == "1" else f"{indices[axis]} * {by}")
            if not terms:
                self.starts[key] = ""
            elif len(terms) == 1 and " " not in terms[0]:
                self.starts[key] = terms[0]
            else:
                name = self.b.fresh("at")
                self.b.statement(f"const {self.index} {name} = {' + '.join(terms)};")
                self.starts[key] = name

    @staticmethod
    def placed(parts: Iterable[Load | KernelValue | Store | Update]) -> list[Placed]:
        """Return of parts of a kernel everything whose place depends on the row."""
        found: list[Placed] = []
        for x in parts:
            found += x.bounds if isinstance(x, Load | Choose) else ()
            if not isinstance(x, Compute | Reduce | Scan | Choose):
                found.append(x)
        return found

    def holds(self, bounds: Sequence[Bound], point: str) -> str:
        """Return the text of whether all bounds hold at a point."""
        texts = []
        for bound in bounds:
            place = self.place(bound, point)
            reach = [s * (n - 1) for s, n in zip(bound.strides, self.spec.shape, strict=True)]
            if sum(min(0, r) for r in reach) < bound.start:
                texts.append(f"{place} >= {self.number(bound.start)}")
            if sum(max(0, r) for r in reach) >= bound.stop:
                texts.append(f"{place} < {self.number(bound.stop)}")
        return " && ".join(texts) or "true"

    def place(self, x: Placed, point: str) -> str:
        """Return `sum(index * strides)` at a point of the row: an element's index in its array."""
        start, stride = self.starts[x.strides[: self.spec.rows]], x.strides[-1]
        term = ""
        if stride == 1:
            term = point
        elif stride:
            inside = f"({point})" if " " in point else point
            term = f"{inside} * {self.stride(stride)}"
        return " + ".join(part for part in (start, term) if part) or "0"

    # ---- values

    def load(self, i: int, point: str) -> Held:
        """Return a loaded element at a point."""
        load, pointer = self.spec.loads[i], self.pointers[i]
        if load.operand in self.numbers:
            return self.elements.given(pointer, load.dtype)
        return self.elements.read(self.element(i, point), load.dtype, f"v{i}")

    def element(self, i: int, point: str) -> str:
        """Return the text of a loaded element at a point: 0 where bounds do not hold."""
        load = self.spec.loads[i]
        text = f"AD_LD(&{self.pointers[i]}[{self.place(load, point)}])"
        if not load.bounds:
            return text
        return f"{self.holds(load.bounds, point)} ? {text} : {element_name(load.dtype)}()"

    def load_row_values(self) -> None:
        """Load what is read once a row."""
        for i in range(len(self.spec.loads)):
            if self.needs.in_rows[i]:
                self.row_values[i] = self.load(i, "0")

    def compute_row_values(self, number: int) -> None:
        """Emit the values in rows that are known by a pass."""
        made: dict[Any, Sequence[Held]] = {}
        for i, value in enumerate(self.spec.values, self.needs.first):
            is_due = self.needs.in_rows[i] and self.needs.passes[i] <= number
            if not isinstance(value, Reduce) and is_due and i not in self.row_values:
                self.row_values[i] = self.computed(i, self.row_values, made, "0")

    def values_at(self, values: Sequence[int], point: str) -> dict[int, Held]:
        """Return values at a point; among them, before it, is what each is computed from."""
        known: dict[int, Held] = {}
        made: dict[Any, Sequence[Held]] = {}
        for i in values:
            is_load = i < self.needs.first
            known[i] = self.load(i, point) if is_load else self.computed(i, known, made, point)
        return known

    def computed(
        self, i: int, known: dict[int, Held], made: dict[Any, Sequence[Held]], point: str
    ) -> Held:
        """Return a computed value at a point; `made` are the outputs of what was applied here.

        The user's line is a comment before it, if it is another one.
        """
        value = self.spec.values[i - self.needs.first]
        if isinstance(value, Gather):
            self.comment(value.source)
            return gathered(self, i, value, known, point)
        if isinstance(value, Position):
            return self._position(value, point)
        if isinstance(value, Location):
            return location(self, value, known, point)
        if isinstance(value, Choose):
            inside, outside = (self.operand_value(x, known) for x in value.operands)
            if not value.bounds:
                return inside
            mask = self.b.expression(I1, f"({self.holds(value.bounds, point)})")
            return self.o.where(Typed(mask, np.dtype(bool)), inside, outside)
        assert isinstance(value, Compute)
        outputs = made.get(value.application)
        if outputs is None:
            self.comment(value.source)
            outputs = made[value.application] = self._applied(self.o, value, known)
        result = outputs[value.output]
        name = self._names.get(i)
        if name is None or not isinstance(result, Typed) or result.number is not None:
            return result
        return Typed(self.b.named(result.value, name), result.dtype)

    def _position(self, value: Position, point: str) -> Held:
        place = self.place(value, point)
        if value.offset:
            place = f"{self.number(value.offset)} + {place}"
        held, bits = (I64, 64) if self.long else (I32, 32)
        whole = self.b.expression(held, f"u{bits}({place})")
        return self.o.cast(Typed(whole, np.dtype(f"int{bits}")), value.dtype)

    def operand_value(self, x: Operand, known: dict[int, Held], o: Any = None) -> Held:
        """Return what an operation is given: a value, or a number, made by the operations `o`."""
        if not isinstance(x, Literal):
            return known[x]
        return (o or self.o).constant(x.value.item(), x.aval.dtype)

    def _applied(self, o: Any, value: Compute, known: dict[int, Held]) -> tuple[Held, ...]:
        operands = [self.operand_value(x, known, o) for x in value.operands]
        return lower(o, value.primitive, operands, dict(value.params))

    def comment(self, source: Any) -> None:
        """Append a comment with a place of the user's program, unless it is the last one."""
        described = _described(source)
        if described and described != self._line:
            self.b.comment(described)
        self._line = described

    def store(self, k: int, x: Held, point: str) -> None:
        """Write an element of an output at a point."""
        place = self.place(self.stores[k], point)
        self.elements.write(f"AD_ST(&{self.outputs[k]}[{place}], {{value}});", x)

    def is_wide(self, x: Placed) -> bool:
        """Return whether lanes of an array are neighbours in memory, and read together."""
        is_bounded = isinstance(x, Load) and bool(x.bounds)
        return self.lanes > 1 and x.strides[-1] == 1 and not is_bounded

    def lanes_at(self, i: int, point: str, is_ragged: bool) -> str:
        """Return the text of lanes of a load from a point on; if ragged, `left` are there."""
        pointer, place, lanes = self.pointers[i], self.place(self.spec.loads[i], point), self.lanes
        whole = f"load_lanes<{lanes}>({pointer}, {place})"
        if not is_ragged:
            return whole
        return f"left == {lanes} ? {whole} : load_first_lanes<{lanes}>({pointer}, {place}, left)"

    def store_lanes(self, k: int, name: str, point: str, is_ragged: bool) -> None:
        """Write lanes of an output from a point on; if ragged, `left` of them are there."""
        output, place = self.outputs[k], self.place(self.stores[k], point)
        if not is_ragged:
            self.b.statement(f"store_lanes({output}, {place}, {name});")
            return
        with self.b.within(f"if (left < {self.lanes})"):
            self.b.statement(f"store_first_lanes({output}, {place}, {name}, left);")
        with self.b.within("else"):
            self.b.statement(f"store_lanes({output}, {place}, {name});")

    def is_costly(self, i: int) -> bool:
        """Return whether a value at points is rather kept than loaded or computed again."""
        value = self.spec.values[i - self.needs.first] if i >= self.needs.first else None
        if not isinstance(value, Compute):
            return not isinstance(value, Choose | Position)
        elements = Elements(CudaBuilder(self.b.target))
        taken = [x for x in value.operands if isinstance(x, int)]
        known = {x: elements.variable("x", self.spec.dtype_of(x)) for x in taken}
        self._applied(elements.o, value, known)
        return elements.b.is_costly

    # ---- reductions

    def combination(self, value: Reduce) -> str:
        """Return the name of the struct with a reduction's `identity` and `combine`."""
        combine, identity = value.primitive.combine, value.primitive.identity
        assert combine is not None and identity is not None
        name = f"{value.primitive.name}_{value.accumulated.name}"
        return self._struct(name, combine, identity(value.dtype).item(), value.accumulated)

    def updating(self, x: Update) -> str:
        """Return the name of the struct with an update's `combine`, and perhaps `identity`."""
        combine, identity = x.combination.combine, x.combination.identity
        name = f"{combine.__name__.lstrip('_')}_{x.dtype.name}"
        number = None if identity is None else identity(x.dtype).item()
        return self._struct(name, combine, number, x.dtype)

    def _struct(
        self, name: str, combine: Callable[..., Any], identity: Any, dtype: np.dtype
    ) -> str:
        kind = held_name(dtype)
        if name not in self.structs:
            first, both = (Elements(CudaBuilder(self.b.target, ("x", "y"))) for _ in range(2))
            both.b.functions = self.b.functions
            lines = [f"struct {name} {{"]
            if identity is not None:
                first.set("return {value};", first.o.constant(identity, dtype))
                (line,) = first.b.rendered()
                lines.append(f"  static __device__ {kind} identity() {{ {line} }}")
            x, y = (both.variable(letter, dtype) for letter in "xy")
            both.set("return {value};", combine(both.o, x, y))
            lines.append(f"  static __device__ {kind} combine({kind} x, {kind} y) {{")
            self.structs[name] = "\n".join([*lines, *both.b.rendered(2), "  }", "};"])
        return name

    def reduced(self, value: Reduce, name: str) -> Held:
        """Return the result of a reduction, which a variable of the accumulated type holds."""
        return self.o.cast(self.elements.variable(name, value.accumulated), value.dtype)

    # ---- the kernel

    def kernel(
        self,
        about: str,
        threads: int,
        grid: Extents,
        block: Extents,
        *,
        what: str | None = None,
        least_blocks: int | None = None,
    ) -> CudaKernel:
        """Return the kernel of what has been emitted.

        Args:
            about: lines that say how threads are mapped, what memory they share, what they meet.
            threads: how many a block has at most.
            grid: number of blocks.
            block: number of threads of a block.
            what: lines that say what is computed; by default the spec.
            least_blocks: how many blocks a multiprocessor must hold at least. Without it the
                assembler puts registers into memory to let it hold a few more.
        """
        bounds = f"{threads}" if least_blocks is None else f"{threads}, {least_blocks}"
        declared = ",\n    ".join(declaration for declaration, _ in self.parameters)
        lines = [f"// {line}" for line in (what or str(self.spec)).split("\n")]
        for name, does, body in (*self._functions, (self.name, about, self.b.rendered(1))):
            lines += [
                *[f"// {line}" for line in does.split("\n")],
                f'extern "C" __global__ void __launch_bounds__({bounds})',
                f"{name}({declared}) {{",
                *body,
                "}",
                "",
            ]
        given = tuple([parameter for _, parameter in self.parameters])
        definitions = (*self.b.functions.values(), *self.structs.values())
        before = tuple([name for name, _, _ in self._functions])
        return CudaKernel(self.name, definitions, "\n".join(lines), given, grid, block, before)


def _described(source: Any) -> str:
    """Return `file.py:12: y = x * x` of a place, and the sweep if it is one of a derivative."""
    if source is None:
        return ""
    filename, number = file_and_line(source)
    sweep = sweep_of(source)
    kind = "" if sweep in (None, VALUES) else f" ({sweep})"
    text = linecache.getline(filename, number).strip()
    text = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 4]} ..."
    return f"{basename(filename)}:{number}{kind}" + (f": {text}" if text else "")


def _names(spec: KernelSpec) -> dict[int, str]:
    """Return names of values: what the user's program assigns the last value of a line to."""
    last: dict[Any, int] = {}
    for i, value in enumerate(spec.values, len(spec.loads)):
        if isinstance(value, Choose | Position | Location) or value.source is None:
            continue
        if sweep_of(value.source) in (None, VALUES):
            last[file_and_line(value.source)] = i
    names = {}
    for (filename, number), i in last.items():
        found = _ASSIGNMENT.match(linecache.getline(filename, number))
        if found is not None:
            names[i] = found.group(1)
    return names


def ceil_div(n: int, d: int) -> int:
    """Return n / d rounded up."""
    return -(-n // d)


def power_of_two(n: int) -> int:
    """Return the least power of 2 that is not below n."""
    return 1 << max(0, n - 1).bit_length()
