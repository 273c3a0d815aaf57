"""Generated CUDA kernels as functions of a device's arrays.

A kernel is launched with the address of an array of addresses, one for each parameter. These stay
where they are: a call writes the addresses of its operands and outputs in their places, and the
driver copies all values before the launch returns. Numbers of the host are given by value.

Reading order: `cuda_function`, `CudaFunction`, `_Launcher`, `_direct`, `StagedFunction`.
"""

from __future__ import annotations

import ctypes
import re
import struct
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from threading import Lock
from typing import Any

import numpy as np

from autodiff.base.garbage import seldom_collected
from autodiff.base.settings import settings
from autodiff.codegen.cuda_kernels import emit_kernel, program_text, stages_of
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
from autodiff.runtime.cpu_kernels import kernel_function
from autodiff.runtime.cuda_device import Device, Program, compiled_program
from autodiff.schedule.kernel_spec import KernelSpec
from autodiff.schedule.stages import Stage
from autodiff.schedule.target import cuda_target

#: The name of every kernel, each of which is a program of its own.
SYMBOL = "kernel"

#: Bytes at whose multiples arrays must begin to be read by lanes.
ALIGNMENT = 16

#: Kernels and programs kept; the least recently used are dropped.
CAPACITY = 4096

_COMMENT = re.compile(r"[ \t]*//[^\n]*\n")


class CudaFunction:
    """A kernel on a device: called with its operands it returns the list of its outputs.

    Operands are arrays of the device, or numbers where the kernel reads one element. Outputs are
    fresh. Operands that are not contiguous are copied first. A kernel of one number that is given
    numbers of the host is run there, and returns such.
    """

    __slots__ = (
        "_device",
        "_is_number",
        "_launchers",
        "_lock",
        "_run",
        "_spec",
        "_types",
        "text",
    )

    def __init__(self, spec: KernelSpec, device: Device) -> None:
        self._spec = spec
        self._device = device
        self._types = spec.operand_types
        self._launchers: dict[tuple[frozenset[int], bool], _Launcher] = {}
        self._lock = Lock()
        self._is_number = not any(store.shape for store in spec.stores) and not spec.reduces
        self._run: Callable[..., list[Any]] = self._run_any
        made = self._emitted(frozenset(), True)
        self.text = made.text
        if all(any(x.strides) for x in spec.loads):  # else some operands may be numbers
            _start_compiling(_source(made), device)

    def call(self, *operands: Any) -> list[Any]:
        """Run the kernel on the current stream."""
        return self._run(*operands)

    __call__ = call

    def _run_any(self, *operands: Any) -> list[Any]:
        """Run the kernel on operands of any kind; calls like this one are quicker from then on."""
        device = self._device
        array = device.arrays.ndarray
        if self._is_number and not any(isinstance(x, array) for x in operands):
            return [x[()] for x in kernel_function(self._spec).call(*operands)]
        held: list[Any] = []
        for x, dtype in zip(operands, self._types, strict=True):
            if isinstance(x, array):
                held.append(x if x.flags.c_contiguous else device.arrays.ascontiguousarray(x))
            elif np.ndim(x):
                held.append(device.arrays.asarray(x))
            else:
                held.append(np.asarray(x).astype(dtype))
        numbers = frozenset(k for k, x in enumerate(held) if not isinstance(x, array))
        outputs = [device.empty(store.shape, store.dtype) for store in self._spec.stores]
        arrays = [x for k, x in enumerate(held) if k not in numbers]
        aligned = not any(device.pointer(x) % ALIGNMENT for x in (*arrays, *outputs))
        launcher = self._launcher(numbers, aligned)
        if aligned and self._run == self._run_any:
            self._run = _direct(launcher, self._spec, numbers, self._run_any)
        pointers = [0 if k in numbers else device.pointer(x) for k, x in enumerate(held)]
        bits = [_bits_of(x) if k in numbers else (0, 0) for k, x in enumerate(held)]
        launcher.launch(pointers, [device.pointer(x) for x in outputs], bits)
        return outputs

    def _emitted(self, numbers: frozenset[int], aligned: bool) -> CudaKernel:
        target = cuda_target(self._device.facts["architecture"])
        with seldom_collected():
            return emit_kernel(
                self._spec,
                target,
                SYMBOL,
                numbers=numbers,
                aligned=aligned,
                contract=settings().contract,
            )

    def _launcher(self, numbers: frozenset[int], aligned: bool) -> _Launcher:
        with self._lock:
            key = numbers, aligned
            if key not in self._launchers:
                made = self._emitted(numbers, aligned)
                if "source" in settings().debug:
                    print(made.text, file=sys.stderr)
                self._launchers[key] = _Launcher(made, self._device)
            return self._launchers[key]


class _Launcher:
    """A compiled kernel with its block of parameters."""

    def __init__(self, kernel: CudaKernel, device: Device) -> None:
        self.device = device
        self.kernel = kernel
        program = _program(_source(kernel), device)
        self.function = program.function(kernel.name)
        self.before = [program.function(name) for name in kernel.before]
        self.lock = Lock()
        self.operands: list[tuple[int, int, int]] = []  # slot, operand, offset
        self.numbers: list[tuple[int, int]] = []
        self.outputs: list[tuple[int, int]] = []
        self.scratch: list[tuple[int, int]] = []
        self.counters: list[tuple[int, int]] = []
        self.counters_of: dict[tuple[int, int], Any] = {}
        places, contents = self._laid_out()
        room = (ctypes.c_uint64 * (len(contents) + 2))()
        shift = ctypes.addressof(room) % 16
        self.values = (ctypes.c_uint64 * len(contents)).from_buffer(room, shift)
        self.values[:] = contents
        start = ctypes.addressof(self.values)
        self.addresses = (ctypes.c_uint64 * max(1, len(places)))(*[start + 8 * p for p in places])
        self.parameters = ctypes.addressof(self.addresses)

    def _laid_out(self) -> tuple[list[int], list[int]]:
        """Return where the value of each parameter is, in slots of 8 bytes, and all slots."""
        places: list[int] = []
        contents: list[int] = []
        for parameter in self.kernel.parameters:
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

    def launch(
        self,
        pointers: Sequence[int],
        outputs: Sequence[int],
        numbers: Sequence[tuple[int, int]],
    ) -> None:
        """Launch the kernel on addresses of operands and outputs, and on the bits of numbers."""
        device, values = self.device, self.values
        stream = device.stream()
        with self.lock:
            for slot, operand, offset in self.operands:
                values[slot] = pointers[operand] + offset
            for slot, output in self.outputs:
                values[slot] = outputs[output]
            for slot, operand in self.numbers:
                values[slot : slot + 2] = numbers[operand]
            self.start(stream)

    def start(self, stream: int) -> None:
        """Launch the kernel on the values that are there, with memory of its own."""
        device, kernel = self.device, self.kernel
        scratch = [device.empty((size,), np.uint8) for _, size in self.scratch]
        for (slot, _), array in zip(self.scratch, scratch, strict=True):
            self.values[slot] = device.pointer(array)
        for slot, count in self.counters:
            self.values[slot] = device.pointer(self._zeros(stream, count))
        for function in (*self.before, self.function):
            function.launch(kernel.grid, kernel.block, 0, self.parameters, stream)

    def _zeros(self, stream: int, count: int) -> Any:
        """Return counters, which every launch leaves at 0, for one stream."""
        found = self.counters_of.get((stream, count))
        if found is None:
            found = self.device.arrays.zeros(count, np.uint32)
            self.counters_of[stream, count] = found
        return found


class StagedFunction:
    """A kernel on a device as several, one for each pass over its rows."""

    __slots__ = ("_count", "_functions", "_stages", "text")

    def __init__(self, spec: KernelSpec, stages: Sequence[Stage], device: Device) -> None:
        self._count = len(spec.stores)
        self._stages = stages
        self._functions = [CudaFunction(stage.spec, device) for stage in stages]
        self.text = "\n".join(function.text for function in self._functions)

    def call(self, *operands: Any) -> list[Any]:
        """Run the kernels on the current stream; outputs are fresh."""
        known = dict(enumerate(operands))
        outputs: dict[int, Any] = {}
        for stage, function in zip(self._stages, self._functions, strict=True):
            results = function.call(*[known[k] for k in stage.operands])
            for k, x in zip(stage.outputs, results, strict=True):
                (outputs if k >= 0 else known)[k] = x
        return [outputs[k] for k in range(self._count)]

    __call__ = call


def _bits_of(number: Any) -> tuple[int, int]:
    """Return the bits of an element of memory in two words, zeros beyond it."""
    return struct.unpack("<QQ", number.tobytes().ljust(16, b"\0"))


def _direct(
    launcher: _Launcher,
    spec: KernelSpec,
    numbers: frozenset[int],
    otherwise: Callable[..., list[Any]],
) -> Callable[..., list[Any]]:
    """Return the function that launches on contiguous, aligned arrays and on numbers at `numbers`.

    It is written out for this kernel; other operands go to `otherwise`. For `y = f(x, rate)`, where
    the kernel needs no memory of its own:

        def run(x0, x1):
            if type(x0) is array and x0.flags.c_contiguous and type(x1) is not array:
                p0 = pointer(x0)
                y0 = empty(shape0, dtype0)
                q0 = pointer(y0)
                if not (p0 | q0) & 15:
                    with lock:
                        values[0] = p0
                        values[2:4] = bits_of(asarray(x1).astype(type1))
                        values[1] = q0
                        launch(grid, block, 0, parameters, stream())
                    return [y0]
            return otherwise(x0, x1)
    """
    device = launcher.device
    names: dict[str, Any] = {
        "array": device.arrays.ndarray,
        "asarray": np.asarray,
        "bits_of": _bits_of,
        "empty": device.empty,
        "lock": launcher.lock,
        "otherwise": otherwise,
        "pointer": device.pointer,
        "start": launcher.start,
        "launch": launcher.function.launch,
        "grid": launcher.kernel.grid,
        "block": launcher.kernel.block,
        "parameters": launcher.parameters,
        "stream": device.stream,
        "values": launcher.values,
    }
    types = spec.operand_types
    count = len(types)
    conditions, before, inside = [], [], []
    for k in range(count):
        if k in numbers:
            names[f"type{k}"] = types[k]
            conditions.append(f"type(x{k}) is not array")
        else:
            conditions.append(f"type(x{k}) is array and x{k}.flags.c_contiguous")
            before.append(f"p{k} = pointer(x{k})")
    for k, store in enumerate(spec.stores):
        names |= {f"shape{k}": store.shape, f"dtype{k}": store.dtype}
        before += [f"y{k} = empty(shape{k}, dtype{k})", f"q{k} = pointer(y{k})"]
    for slot, operand, offset in launcher.operands:
        inside.append(f"values[{slot}] = p{operand}" + (f" + {offset}" if offset else ""))
    for slot, operand in launcher.numbers:
        inside.append(
            f"values[{slot}:{slot + 2}] = bits_of(asarray(x{operand}).astype(type{operand}))"
        )
    for slot, output in launcher.outputs:
        inside.append(f"values[{slot}] = q{output}")
    owns = launcher.scratch or launcher.counters or launcher.before
    inside.append("start(stream())" if owns else "launch(grid, block, 0, parameters, stream())")
    addresses = [f"p{k}" for k in range(count) if k not in numbers]
    addresses += [f"q{k}" for k in range(len(spec.stores))]
    parameters = ", ".join(f"x{k}" for k in range(count))
    results = ", ".join(f"y{k}" for k in range(len(spec.stores)))
    lines = [
        f"def run({parameters}):",
        f"    if {' and '.join(conditions) or 'True'}:",
        *[f"        {line}" for line in before],
        f"        if not ({' | '.join(addresses)}) & {ALIGNMENT - 1}:",
        "            with lock:",
        *[f"                {line}" for line in inside],
        f"            return [{results}]",
        f"    return otherwise({parameters})",
    ]
    exec(compile("\n".join(lines), "<autodiff launch>", "exec"), names)
    return names["run"]


_functions: OrderedDict[Any, CudaFunction | StagedFunction] = OrderedDict()
_programs: OrderedDict[Any, Program] = OrderedDict()
_compiling: dict[Any, Future[bytes]] = {}
_compilers = ThreadPoolExecutor(thread_name_prefix="autodiff-compile")
_lock = Lock()


def cuda_function(spec: KernelSpec, device: Device) -> CudaFunction | StagedFunction:
    """Return a kernel's function on a device, made when first asked for."""
    key = (spec, device, settings().code_key)
    with _lock:
        found = _functions.get(key)
        if found is not None:
            _functions.move_to_end(key)
            return found
    stages = stages_of(spec, cuda_target(device.facts["architecture"]))
    made = StagedFunction(spec, stages, device) if stages else CudaFunction(spec, device)
    return _kept(_functions, key, made)


def _source(kernel: CudaKernel) -> str:
    """Return what is compiled: without comments, so that moved lines compile nothing anew."""
    return _COMMENT.sub("\n", program_text([kernel]))


def _start_compiling(source: str, device: Device) -> None:
    """Compile a program on another thread, as the others of its graph; `_program` waits for it."""
    key = (source, device)
    run = copy_context().run
    with _lock:
        if key not in _programs and key not in _compiling:
            _compiling[key] = _compilers.submit(run, compiled_program, device, source)


def _program(source: str, device: Device) -> Program:
    """Return a loaded program; kernels of one text share it."""
    key = (source, device)
    with _lock:
        found, started = _programs.get(key), _compiling.pop(key, None)
    if found is not None:
        return found
    compiled = compiled_program(device, source) if started is None else started.result()
    return _kept(_programs, key, device.load(compiled))


def _kept(cache: OrderedDict[Any, Any], key: Any, made: Any) -> Any:
    with _lock:
        found = cache.setdefault(key, made)
        if len(cache) > CAPACITY:
            cache.popitem(last=False)
        return found
