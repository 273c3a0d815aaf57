"""Launches of kernels: their block of parameters, and calls of them written out as Python text.

A kernel is launched with the address of an array of addresses, one for each parameter. These stay
where they are: a call writes the addresses of its operands and outputs in their places, and the
driver copies all values before the launch returns. Numbers of the host are given by value.

A call costs the host as much as its arrays and its launches if all that is known of the kernels
beforehand is text: where each parameter is, shapes and types of new arrays. What kernels leave for
each other is no array: it lies in one piece of memory that a call takes from the device's pool.

`written_call` is for operands whose types are known to be right, `written_entry` for kernels that
anyone may call, and `written_program` for what is more than kernels.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from math import prod
from threading import Lock
from typing import Any

import numpy as np

from autodiff.base.pytree import flatten
from autodiff.codegen.cpu_entry import ALONE, LIST, TUPLE
from autodiff.codegen.cuda_launch import (
    Counters,
    CudaKernel,
    Divisor,
    Integer,
    Members,
    OperandNumber,
    OperandPointer,
    OutputPointer,
    Parameter,
    Scratch,
)
from autodiff.ir.avals import ArrayType
from autodiff.runtime.cuda_device import Device, Function
from autodiff.runtime.kernel_calls import Entry
from autodiff.schedule.arena import Span, places

#: Bytes at whose multiples arrays must begin to be read by lanes.
ALIGNMENT = 16

#: Numbers of Python that are written as parameters as they are: their type and the operand's.
_WRITTEN: dict[tuple[type | None, np.dtype], Any] = {
    (float, np.dtype(np.float64)): ctypes.c_double,
    (float, np.dtype(np.float32)): ctypes.c_float,
}


class KernelsFailedError(Exception):
    """A kernel that does not compile or load; the error that says why is its cause."""


@dataclass(frozen=True, slots=True)
class Array:
    """The shape and the element type of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def size(self) -> int:
        """Its bytes."""
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Launch:
    """A loaded kernel with the numbers of the values that it reads and makes.

    The operands and outputs that its parameters speak of are those at the same positions here. Its
    functions are launched in order, on the same parameters.
    """

    kernel: CudaKernel
    functions: tuple[Function, ...]
    operands: tuple[int, ...]
    results: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sort:
    """A value that the device sorts in its place."""

    value: int


@dataclass(frozen=True, slots=True)
class Launches:
    """Kernels that are launched one after the other, and what is sorted between them.

    Values have numbers: the operands, from 0 on, then what kernels make. What a kernel updates in
    an operand's memory stays that value.

    Args:
        device: where they run.
        operands: the element type of each operand.
        numbers: the operands that are given by value.
        made: the arrays that kernels make, by their numbers.
        outputs: the numbers of the values that are returned.
        steps: the kernels.
    """

    device: Device
    operands: tuple[np.dtype, ...]
    numbers: frozenset[int]
    made: dict[int, Array]
    outputs: tuple[int, ...]
    steps: tuple[Launch | Sort, ...]

    @property
    def arrays(self) -> list[int]:
        """The values made that are arrays: outputs, and what is sorted."""
        needed = {*self.outputs, *[step.value for step in self.steps if isinstance(step, Sort)]}
        return [value for value in self.made if value in needed]


class _Block:
    """The parameters of launches, each value in one place however many kernels are given it.

    Places are slots of 8 bytes. In each of `addresses` is the address of a value at an offset in
    bytes, in each of `memory` that of an offset in the memory between kernels, and so many words of
    an operand that is given by value in each of `numbers`; `counters` are the slots of so many.
    """

    def __init__(self, launches: Launches) -> None:
        self.device = launches.device
        self.lock = Lock()
        self.addresses: dict[int, tuple[int, int]] = {}
        self.memory: dict[int, int] = {}
        self.numbers: dict[int, tuple[int, int]] = {}
        self.counters: dict[int, int] = {}
        #: Where what several kernels are given already is.
        self._known: dict[Any, int] = {}
        self._contents: list[int] = []
        self._counted: list[Any] = []
        self._launches = launches
        steps = list(enumerate(launches.steps))
        kernels = [(i, step) for i, step in steps if isinstance(step, Launch)]
        scratch = [
            (i, p) for i, x in kernels for p in x.kernel.parameters if isinstance(p, Scratch)
        ]
        arrays = set(launches.arrays)
        self._between = [value for value in launches.made if value not in arrays]
        spans = [self._span(kernels, value) for value in self._between]
        spans += [Span(p.size, i, i) for i, p in scratch]
        offsets, self.bytes = places(spans)
        self._offsets = dict(zip(self._between, offsets, strict=False))
        own = iter(offsets[len(self._between) :])
        placed = [
            [self._place(launch, parameter, own) for parameter in launch.kernel.parameters]
            for _, launch in kernels
        ]
        room = (ctypes.c_uint64 * (len(self._contents) + 2))()
        shift = ctypes.addressof(room) % 16
        self.values = (ctypes.c_uint64 * len(self._contents)).from_buffer(room, shift)
        self.values[:] = self._contents
        start = ctypes.addressof(self.values)
        #: What starts the functions of a step.
        self.starts: dict[int, list[Callable[[int], None]]] = {}
        for (i, launch), slots in zip(kernels, placed, strict=True):
            given = (ctypes.c_uint64 * max(1, len(slots)))(*[start + 8 * slot for slot in slots])
            made = launch.kernel
            self.starts[i] = [
                function.launcher(made.grid, made.block, 0, given) for function in launch.functions
            ]

    def _span(self, kernels: Sequence[tuple[int, Launch]], value: int) -> Span:
        there = [i for i, x in kernels if value in x.operands or value in x.results]
        return Span(self._launches.made[value].size, there[0], there[-1])

    def _place(self, launch: Launch, parameter: Parameter, own: Iterator[int]) -> int:
        """Return the slot where a parameter's value begins; `own` are offsets of scratch memory."""
        match parameter:
            case OperandPointer() | OutputPointer() | OperandNumber():
                value, offset = _value(launch, parameter)
                is_number = isinstance(parameter, OperandNumber)
                key = (is_number, value, offset)
                if key not in self._known:
                    # A number of 16 bytes begins at a multiple of that.
                    self._contents += [0] * (len(self._contents) % 2 if is_number else 0)
                    self._known[key] = self._slot(*(0,) * (1 + is_number))
                    self._fill(self._known[key], launch, parameter, 2)
                return self._known[key]
            case Members(columns, capacity, sizes, first_blocks):
                start = self._slot(*(0,) * (capacity * len(columns)))
                for k, column in enumerate(columns):
                    for i, member in enumerate(column):
                        self._fill(start + capacity * k + i, launch, member, 1)
                rest = (0,) * (capacity - len(sizes))
                packed = struct.pack(f"<{2 * capacity}I", *sizes, *rest, *first_blocks, *rest)
                self._slot(*struct.unpack(f"<{capacity}Q", packed))
                return start
            case Scratch():
                slot = self._slot(0)
                self.memory[slot] = next(own)
                return slot
            case Counters(count):
                if count not in self.counters:
                    self.counters[count] = self._slot(0)
                return self.counters[count]
            case Integer(value):
                return self._constant(value % (1 << 64))
            case Divisor(size):
                packed = struct.pack("<IIII", size, parameter.magic, parameter.shift, 0)
                return self._constant(*struct.unpack("<QQ", packed))

    def _fill(self, slot: int, launch: Launch, parameter: Parameter, words: int) -> None:
        """Let calls write what a parameter is to a slot; a number to so many."""
        value, offset = _value(launch, parameter)
        if isinstance(parameter, OperandNumber):
            self.numbers[slot] = value, words
        elif value in self._offsets:
            self.memory[slot] = self._offsets[value] + offset
        else:
            self.addresses[slot] = value, offset

    def _constant(self, *words: int) -> int:
        if words not in self._known:
            self._known[words] = self._slot(*words)
        return self._known[words]

    def _slot(self, *words: int) -> int:
        self._contents += words
        return len(self._contents) - len(words)

    def zeros(self, known: dict[int, int], count: int, stream: int) -> int:
        """Return the address of counters for a stream, which every launch leaves at 0."""
        made = self.device.arrays.zeros(count, np.uint32)
        self._counted.append(made)
        return known.setdefault(stream, self.device.pointer(made))


def _value(launch: Launch, parameter: Parameter) -> tuple[int, int]:
    """Return the number of the value that a parameter is of, and the offset in it."""
    match parameter:
        case OperandPointer(operand, offset):
            return launch.operands[operand], offset
        case OperandNumber(operand):
            return launch.operands[operand], 0
        case OutputPointer(output):
            return launch.results[output], 0
    raise AssertionError(parameter)


def _bits_of(number: Any) -> tuple[int, int]:
    """Return the bits of an element of memory in two words, zeros beyond it."""
    return struct.unpack("<QQ", number.tobytes().ljust(16, b"\0"))


def written_call(
    launches: Launches, otherwise: Callable[..., list[Any]], *, aligned: bool = True
) -> Callable[..., list[Any]]:
    """Return the function that launches on contiguous arrays, and on numbers at `numbers`.

    It returns the list of the outputs. Other operands go to `otherwise`, and so do arrays that are
    not aligned if `aligned` says that they must be. For `y = f(x, rate)` in two kernels, on CuPy:

        def run(x0, x1):
            if type(x0) is array and x0._c_contiguous and type(x1) is not array:
                x3 = ndarray(shape3, type_of_x3, allocated(size3))
                p3 = x3.data.ptr
                p0 = x0.data.ptr
                between = allocated(size)
                m = between.ptr
                if not (p3 | p0 | m) & 15:
                    stream = current_stream().ptr
                    n1 = bits_of(asarray(x1).astype(type1))
                    with lock:
                        values[0:3] = p0, m, p3
                        values[4:6] = n1[:2]
                        start0_0(stream)
                        start1_0(stream)
                    return [x3]
            return otherwise(x0, x1)
    """
    access = launches.device.access
    conditions = []
    for k in range(len(launches.operands)):
        if k in launches.numbers:
            conditions.append(f"type(x{k}) is not array")
        else:
            conditions.append(f"type(x{k}) is array and {access.in_order.format(x=f'x{k}')}")
    parameters = ", ".join(f"x{k}" for k in range(len(launches.operands)))
    body, names = _written(launches, aligned=aligned)
    lines = [
        f"def run({parameters}):",
        f"    if {' and '.join(conditions) or 'True'}:",
        *body,
        f"    return otherwise({parameters})",
    ]
    return _made(lines, names | {"otherwise": otherwise})


def written_entry(
    launches: Launches, entry: Entry, avals: Sequence[ArrayType]
) -> Callable[..., Any]:
    """Return the function that launches on arguments of types `avals`, and returns the outputs.

    The operands are the arguments' leaves and, after them, the constants. Arrays must be aligned;
    numbers are what is no array. What else it does is what `Entry` says.
    """
    body, names = _written(launches, aligned=True, entry=entry)
    return _entry(launches.device, entry, avals, body, names)


def written_program(
    run: Callable[..., Sequence[Any]], device: Device, entry: Entry, avals: Sequence[ArrayType]
) -> Callable[..., Any]:
    """Return the function that runs a program on arguments of types `avals`."""
    names: dict[str, Any] = {"program": run, "failed": KernelsFailedError}
    operands = []
    for k, kind in enumerate(entry.kinds):
        names[f"number{k}"] = avals[k].dtype.type
        operands.append(f"x{k}" if kind is device.arrays.ndarray else f"number{k}(x{k})")
    operands += [f"x{k}" for k in range(len(entry.kinds), len(avals))]
    call = f"program({', '.join(operands)})"
    result = {ALONE: f"{call}[0]", TUPLE: f"tuple({call})", None: f"rebuilt({call})"}
    lines = [
        "        try:",
        f"            return {result[entry.form]}",
        "        except failed:",
        "            pass  # the fallback knows what to do without kernels",
    ]
    return _entry(device, entry, avals, lines, names)


def _entry(
    device: Device,
    entry: Entry,
    avals: Sequence[ArrayType],
    lines: Sequence[str],
    names: dict[str, Any],
) -> Callable[..., Any]:
    """Return a function of what follows once arguments and guards are right.

    Arguments that are leaves are its parameters; a tree of others is flattened first.
    """
    access, array, count = device.access, device.arrays.ndarray, len(entry.kinds)
    names |= access.names
    names |= {"array": array, "otherwise": entry.fallback, "rebuilt": entry.rebuilt}
    names |= {f"x{k}": x for k, x in enumerate(entry.constants, count)}
    conditions = []
    for k, (kind, aval) in enumerate(zip(entry.kinds, avals[:count], strict=True)):
        names |= {f"kind{k}": kind, f"dtype{k}": aval.dtype, f"given{k}": aval.shape}
        conditions.append(f"type(x{k}) is kind{k}")
        if kind is array:
            conditions += [f"x{k}.dtype is dtype{k}", f"x{k}.shape == given{k}"]
            conditions += [access.in_order.format(x=f"x{k}"), access.is_here.format(x=f"x{k}")]
    for i, (variable, value) in enumerate(entry.guards.variables):
        names |= {f"variable{i}": variable.get, f"held{i}": value}
        conditions.append(f"variable{i}() is held{i}")
    for i, (cell, value) in enumerate(entry.guards.cells):
        names |= {f"cell{i}": cell, f"content{i}": value}
        conditions.append(f"cell{i}.cell_contents is content{i}")
    conditions += [access.is_current, "not named"]
    leaves = "".join([f"x{k}, " for k in range(count)])
    if entry.structure is None:
        names["absent"] = object()
        parameters = "".join([f"x{k}=absent, " for k in range(count)])
        head = [f"def run({parameters}/, *others, **named):"]
        conditions.append("not others")
        tail = [f"    given = [x for x in ({leaves}) if x is not absent]"]
        tail.append("    return otherwise(*given, *others, **named)")
    else:
        names |= {"flatten": flatten, "structure": entry.structure}
        head = ["def run(*given, **named):", "    leaves, tree = flatten(given)"]
        head.append(f"    {leaves} = leaves if tree == structure else absent")
        names["absent"] = (None,) * count
        tail = ["    return otherwise(*given, **named)"]
    return _made([*head, f"    if {' and '.join(conditions)}:", *lines, *tail], names)


def _written(
    launches: Launches, *, aligned: bool, entry: Entry | None = None
) -> tuple[list[str], dict[str, Any]]:
    """Return the lines that make outputs, launch on `x0`, `x1`, .. and return; and their names.

    They return the list of the outputs where there is no entry that says otherwise.
    """
    access, block = launches.device.access, _Block(launches)
    names: dict[str, Any] = {
        **access.names,
        "array": launches.device.arrays.ndarray,
        "asarray": np.asarray,
        "bits_of": _bits_of,
        "block": block,  # is kept, with the memory of the parameters
        "lock": block.lock,
        "values": block.values,
    }
    before, inside, addresses = [], [], []
    for k in launches.arrays:
        made = launches.made[k]
        names |= {f"shape{k}": made.shape, f"type_of_x{k}": made.dtype, f"size{k}": made.size}
        new = access.new.format(shape=f"shape{k}", dtype=f"type_of_x{k}", size=f"size{k}")
        before += [f"x{k} = {new}", f"p{k} = {access.address.format(x=f'x{k}')}"]
        addresses.append(f"p{k}")
    for k in range(len(launches.operands)):
        if k not in launches.numbers:
            before.append(f"p{k} = {access.address.format(x=f'x{k}')}")
            addresses.append(f"p{k}")
    if block.bytes:
        before.append(f"between = {access.memory.format(x='between', size=block.bytes)}")
        before.append(f"m = {access.memory_address.format(x='between')}")
        addresses.append("m")
    ready = [f"stream = {access.stream}"]
    writes = {slot: _sum(f"p{value}", offset) for slot, (value, offset) in block.addresses.items()}
    writes |= {slot: _sum("m", offset) for slot, offset in block.memory.items()}
    for count, slot in block.counters.items():
        known: dict[int, int] = {}
        names |= {f"known{slot}": known, f"zeros{slot}": partial(block.zeros, known, count)}
        ready.append(f"c{slot} = known{slot}.get(stream) or zeros{slot}(stream)")
        writes[slot] = f"c{slot}"
    inside += _assignments(writes)
    for slot, (value, words) in block.numbers.items():
        dtype = launches.operands[value]
        kinds = entry.kinds if entry is not None else ()
        kind = kinds[value] if value < len(kinds) else None
        written = _WRITTEN.get((kind, dtype))
        if written is None:
            names[f"type{value}"] = dtype
            ready.append(f"n{value} = bits_of(asarray(x{value}).astype(type{value}))")
            inside.append(f"values[{slot}:{slot + words}] = n{value}[:{words}]")
        else:
            names[f"number{slot}"] = written.from_buffer(block.values, 8 * slot)
            inside.append(f"number{slot}.value = x{value}")
    for i, step in enumerate(launches.steps):
        if isinstance(step, Sort):
            names["sort"] = launches.device.sort
            inside.append(f"sort(x{step.value})")
        else:
            for k, start in enumerate(block.starts[i]):
                names[f"start{i}_{k}"] = start
                inside.append(f"start{i}_{k}(stream)")
    results = ", ".join(f"x{k}" for k in launches.outputs)
    result = {
        ALONE: results,
        LIST: f"[{results}]",
        TUPLE: f"({results},)",
        None: f"rebuilt([{results}])",
    }
    form = LIST if entry is None else entry.form
    lines = [*ready, "with lock:", *[f"    {line}" for line in inside], f"return {result[form]}"]
    if aligned:
        condition = f"if not ({' | '.join(addresses)}) & {ALIGNMENT - 1}:"
        lines = [condition, *[f"    {line}" for line in lines]]
    return [f"        {line}" for line in (*before, *lines)], names


def _sum(name: str, offset: int) -> str:
    return f"{name} + {offset}" if offset else name


def _assignments(writes: dict[int, str]) -> list[str]:
    """Return statements that write to slots, neighbours together.

    >>> _assignments({0: "p0", 1: "m + 256", 4: "p1"})
    ['values[0:2] = p0, m + 256', 'values[4] = p1']
    """
    lines = []
    slots = sorted(writes)
    for _, group in groupby(enumerate(slots), lambda pair: pair[1] - pair[0]):
        found = [slot for _, slot in group]
        texts = ", ".join(writes[slot] for slot in found)
        where = f"{found[0]}" if len(found) == 1 else f"{found[0]}:{found[-1] + 1}"
        lines.append(f"values[{where}] = {texts}")
    return lines


def _made(lines: Sequence[str], names: dict[str, Any]) -> Callable[..., Any]:
    exec(compile("\n".join(lines), "<autodiff launch>", "exec"), names)
    return names["run"]
