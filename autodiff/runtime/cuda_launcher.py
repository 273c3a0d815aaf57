"""Launches of one kernel: its block of parameters, and calls of it written out as Python text.

A kernel is launched with the address of an array of addresses, one for each parameter. These stay
where they are: a call writes the addresses of its operands and outputs in their places, and the
driver copies all values before the launch returns. Numbers of the host are given by value.

A call costs the host as much as its arrays and its launch if all that is known of the kernel
beforehand is text: where each parameter is, shapes and types of new arrays. `written_call` is for
operands whose types are known to be right, `written_entry` for a kernel that anyone may call, and
`written_program` for several kernels.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Sequence
from functools import partial
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
    OperandNumber,
    OperandPointer,
    OutputPointer,
    Scratch,
)
from autodiff.ir.avals import ArrayType
from autodiff.runtime.cuda_device import Device, Function
from autodiff.runtime.kernel_calls import Entry
from autodiff.schedule.kernel_spec import KernelSpec

#: Bytes at whose multiples arrays must begin to be read by lanes.
ALIGNMENT = 16

#: Numbers of Python that are written as parameters as they are: their type and the operand's.
_WRITTEN: dict[tuple[type | None, np.dtype], Any] = {
    (float, np.dtype(np.float64)): ctypes.c_double,
    (float, np.dtype(np.float32)): ctypes.c_float,
}


class KernelsFailedError(Exception):
    """A kernel that does not compile or load; the error that says why is its cause."""


class Launcher:
    """A loaded kernel with its block of parameters.

    Args:
        kernel: what was compiled.
        function: the kernel, loaded.
        device: where it runs.
    """

    def __init__(self, kernel: CudaKernel, function: Function, device: Device) -> None:
        self.device = device
        self.lock = Lock()
        self.operands: list[tuple[int, int, int]] = []  # slot, operand, offset
        self.numbers: list[tuple[int, int]] = []
        self.outputs: list[tuple[int, int]] = []
        self.scratch: list[tuple[int, int]] = []
        self.counters: list[tuple[int, int]] = []
        self._counted: list[Any] = []
        places, contents = self._laid_out(kernel)
        room = (ctypes.c_uint64 * (len(contents) + 2))()
        shift = ctypes.addressof(room) % 16
        self.values = (ctypes.c_uint64 * len(contents)).from_buffer(room, shift)
        self.values[:] = contents
        start = ctypes.addressof(self.values)
        self.addresses = (ctypes.c_uint64 * max(1, len(places)))(*[start + 8 * p for p in places])
        self.start = function.launcher(kernel.grid, kernel.block, 0, self.addresses)

    def _laid_out(self, kernel: CudaKernel) -> tuple[list[int], list[int]]:
        """Return where the value of each parameter is, in slots of 8 bytes, and all slots."""
        places: list[int] = []
        contents: list[int] = []
        for parameter in kernel.parameters:
            if isinstance(parameter, OperandNumber) and len(contents) % 2:
                contents.append(0)  # a number of 16 bytes begins at a multiple of that
            slot = len(contents)
            places.append(slot)
            contents.append(0)
            match parameter:
                case OperandPointer(operand, offset):
                    self.operands.append((slot, operand, offset))
                case OperandNumber(operand):
                    self.numbers.append((slot, operand))
                    contents.append(0)
                case OutputPointer(output):
                    self.outputs.append((slot, output))
                case Scratch(size):
                    self.scratch.append((slot, size))
                case Counters(count):
                    self.counters.append((slot, count))
                case Integer(value):
                    contents[slot] = value % (1 << 64)
                case Divisor(size):
                    packed = struct.pack("<IIII", size, parameter.magic, parameter.shift, 0)
                    contents[slot:] = struct.unpack("<QQ", packed)
        return places, contents

    def zeros(self, known: dict[int, int], count: int, stream: int) -> int:
        """Return the address of counters for a stream, which every launch leaves at 0."""
        made = self.device.arrays.zeros(count, np.uint32)
        self._counted.append(made)
        return known.setdefault(stream, self.device.pointer(made))


def _bits_of(number: Any) -> tuple[int, int]:
    """Return the bits of an element of memory in two words, zeros beyond it."""
    return struct.unpack("<QQ", number.tobytes().ljust(16, b"\0"))


def written_call(
    launcher: Launcher,
    spec: KernelSpec,
    numbers: frozenset[int],
    otherwise: Callable[..., list[Any]],
    *,
    aligned: bool,
) -> Callable[..., list[Any]]:
    """Return the function that launches on contiguous arrays, and on numbers at `numbers`.

    It returns the list of the outputs. Other operands go to `otherwise`, and so do arrays that are
    not aligned if `aligned` says that they must be. For `y = f(x, rate)` on CuPy:

        def run(x0, x1):
            if type(x0) is array and x0._c_contiguous and type(x1) is not array:
                y0 = ndarray(shape0, dtype0, allocated(size0))
                q0 = y0.data.ptr
                p0 = x0.data.ptr
                if not (q0 | p0) & 15:
                    stream = current_stream().ptr
                    n1 = bits_of(asarray(x1).astype(type1))
                    with lock:
                        values[0] = p0
                        values[2:4] = n1
                        values[1] = q0
                        start(stream)
                    return [y0]
            return otherwise(x0, x1)
    """
    access = launcher.device.access
    conditions = []
    for k in range(len(spec.operand_types)):
        if k in numbers:
            conditions.append(f"type(x{k}) is not array")
        else:
            conditions.append(f"type(x{k}) is array and {access.in_order.format(x=f'x{k}')}")
    parameters = ", ".join(f"x{k}" for k in range(len(spec.operand_types)))
    names = _names(launcher, spec)
    lines = [
        f"def run({parameters}):",
        f"    if {' and '.join(conditions) or 'True'}:",
        *_launch_lines(launcher, spec, numbers, names, aligned=aligned),
        f"    return otherwise({parameters})",
    ]
    return _made(lines, names | {"otherwise": otherwise})


def written_entry(
    launcher: Launcher, spec: KernelSpec, entry: Entry, avals: Sequence[ArrayType]
) -> Callable[..., Any]:
    """Return the function that launches on arguments of types `avals`, and returns the outputs.

    The kernel's operands are the arguments' leaves and, after them, the constants. Arrays must be
    aligned; numbers are what is no array. What else it does is what `Entry` says.
    """
    names = _names(launcher, spec)
    array = launcher.device.arrays.ndarray
    kinds = [*entry.kinds, *map(type, entry.constants)]
    numbers = frozenset(k for k, kind in enumerate(kinds) if kind is not array)
    lines = _launch_lines(launcher, spec, numbers, names, aligned=True, entry=entry)
    return _entry(launcher.device, entry, avals, lines, names)


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


def _names(launcher: Launcher, spec: KernelSpec) -> dict[str, Any]:
    names: dict[str, Any] = {
        **launcher.device.access.names,
        "array": launcher.device.arrays.ndarray,
        "asarray": np.asarray,
        "bits_of": _bits_of,
        "launcher": launcher,  # is kept, with the memory of the parameters
        "lock": launcher.lock,
        "start": launcher.start,
        "values": launcher.values,
    }
    for k, store in enumerate(spec.stores):
        size = prod(store.shape) * store.dtype.itemsize
        names |= {f"shape{k}": store.shape, f"type_of_y{k}": store.dtype, f"size{k}": size}
    for k, dtype in enumerate(spec.operand_types):
        names[f"type{k}"] = dtype
    return names


def _launch_lines(
    launcher: Launcher,
    spec: KernelSpec,
    numbers: frozenset[int],
    names: dict[str, Any],
    *,
    aligned: bool,
    entry: Entry | None = None,
) -> list[str]:
    """Return the lines that make the outputs, launch on operands `x0`, `x1`, .. and return.

    They return the list of the outputs where there is no entry that says otherwise.
    """
    access = launcher.device.access
    before, inside, addresses = [], [], []
    for k in range(len(spec.stores)):
        new = access.new.format(shape=f"shape{k}", dtype=f"type_of_y{k}", size=f"size{k}")
        before += [f"y{k} = {new}", f"q{k} = {access.address.format(x=f'y{k}')}"]
        addresses.append(f"q{k}")
    for k in range(len(spec.operand_types)):
        if k not in numbers:
            before.append(f"p{k} = {access.address.format(x=f'x{k}')}")
            addresses.append(f"p{k}")
    ready = [f"stream = {access.stream}"]
    for slot, operand, offset in launcher.operands:
        inside.append(f"values[{slot}] = p{operand}" + (f" + {offset}" if offset else ""))
    for slot, operand in launcher.numbers:
        kinds = entry.kinds if entry is not None else ()
        kind = kinds[operand] if operand < len(kinds) else None
        written = _WRITTEN.get((kind, spec.operand_types[operand]))
        if written is None:
            ready.append(f"n{operand} = bits_of(asarray(x{operand}).astype(type{operand}))")
            inside.append(f"values[{slot}:{slot + 2}] = n{operand}")
        else:
            names[f"number{operand}"] = written.from_buffer(launcher.values, 8 * slot)
            inside.append(f"number{operand}.value = x{operand}")
    for slot, output in launcher.outputs:
        inside.append(f"values[{slot}] = q{output}")
    for slot, size in launcher.scratch:
        ready.append(f"m{slot} = {access.memory.format(size=size)}")
        inside.append(f"values[{slot}] = {access.memory_address.format(x=f'm{slot}')}")
    for slot, count in launcher.counters:
        known: dict[int, int] = {}
        names |= {f"known{slot}": known, f"zeros{slot}": partial(launcher.zeros, known, count)}
        inside.append(f"values[{slot}] = known{slot}.get(stream) or zeros{slot}(stream)")
    results = ", ".join(f"y{k}" for k in range(len(spec.stores)))
    form = LIST if entry is None else entry.form
    result = {
        ALONE: results,
        LIST: f"[{results}]",
        TUPLE: f"({results},)",
        None: f"rebuilt([{results}])",
    }
    lines = [
        *ready,
        "with lock:",
        *[f"    {line}" for line in inside],
        "    start(stream)",
        f"return {result[form]}",
    ]
    if aligned:
        condition = f"if not ({' | '.join(addresses)}) & {ALIGNMENT - 1}:"
        lines = [condition, *[f"    {line}" for line in lines]]
    return [f"        {line}" for line in (*before, *lines)]


def _made(lines: Sequence[str], names: dict[str, Any]) -> Callable[..., Any]:
    exec(compile("\n".join(lines), "<autodiff launch>", "exec"), names)
    return names["run"]
