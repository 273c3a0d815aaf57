"""Generated CUDA kernels as functions of a device's arrays.

Reading order: `cuda_function`, `CudaFunction`, `StagedFunction`; cuda_launcher.py for launches.
"""

from __future__ import annotations

import re
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
from autodiff.codegen.cuda_launch import CudaKernel
from autodiff.ir.avals import ArrayType
from autodiff.runtime.cpu_kernels import kernel_function
from autodiff.runtime.cuda_device import Device, Program, compiled_program
from autodiff.runtime.cuda_launcher import (
    ALIGNMENT,
    KernelsFailedError,
    Launcher,
    written_call,
    written_entry,
)
from autodiff.runtime.kernel_calls import Entry
from autodiff.schedule.kernel_spec import KernelSpec
from autodiff.schedule.stages import Stage
from autodiff.schedule.target import cuda_target

#: The name of every kernel, each of which is a program of its own.
SYMBOL = "kernel"

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
        "_calls",
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
        self._launchers: dict[tuple[frozenset[int], bool], Launcher] = {}
        self._calls: dict[tuple[frozenset[int], bool], Callable[..., list[Any]]] = {}
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

    def entry(self, entry: Entry, avals: Sequence[ArrayType]) -> Callable[..., Any] | None:
        """Return a function of arguments of these types, for calls by anyone.

        It does what `written_entry` of cuda_launcher.py says. None if a constant cannot be read
        where it lies.
        """
        array = self._device.arrays.ndarray
        kinds = [*entry.kinds, *map(type, entry.constants)]
        held = [x for x in entry.constants if type(x) is array]
        if not all(x.flags.c_contiguous and not self._device.pointer(x) % ALIGNMENT for x in held):
            return None
        numbers = frozenset(k for k, kind in enumerate(kinds) if kind is not array)
        return written_entry(self._launcher(numbers, True), self._spec, entry, avals)

    def _run_any(self, *operands: Any) -> list[Any]:
        """Run the kernel on operands of any kind; calls like this one are quicker from then on."""
        device = self._device
        array = device.arrays.ndarray
        if self._is_number and not any(type(x) is array for x in operands):
            return [x[()] for x in kernel_function(self._spec).call(*operands)]
        held: list[Any] = []
        for x, dtype in zip(operands, self._types, strict=True):
            if type(x) is array:
                held.append(x if x.flags.c_contiguous else device.arrays.ascontiguousarray(x))
            elif np.ndim(x):
                held.append(device.arrays.asarray(x))
            else:
                held.append(np.asarray(x).astype(dtype))
        numbers = frozenset(k for k, x in enumerate(held) if type(x) is not array)
        aligned = not any(device.pointer(x) % ALIGNMENT for x in held if type(x) is array)
        call = self._call(numbers, aligned)
        if aligned and self._run == self._run_any:
            self._run = call
        return call(*held)

    def _call(self, numbers: frozenset[int], aligned: bool) -> Callable[..., list[Any]]:
        found = self._calls.get((numbers, aligned))
        if found is None:
            launcher = self._launcher(numbers, aligned)
            otherwise = self._run_any if aligned else _refused
            found = written_call(launcher, self._spec, numbers, otherwise, aligned=aligned)
            self._calls[numbers, aligned] = found
        return found

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

    def _launcher(self, numbers: frozenset[int], aligned: bool) -> Launcher:
        """Return the kernel with its parameters, compiled when first asked for.

        Raises:
            KernelsFailedError: it does not compile or load.
        """
        with self._lock:
            key = numbers, aligned
            if key not in self._launchers:
                try:
                    made = self._emitted(numbers, aligned)
                    if "source" in settings().debug:
                        print(made.text, file=sys.stderr)
                    function = _program(_source(made), self._device).function(made.name)
                    self._launchers[key] = Launcher(made, function, self._device)
                except Exception as error:  # of compilers and drivers, of many kinds
                    raise KernelsFailedError from error
            return self._launchers[key]


def _refused(*operands: Any) -> Any:
    raise AssertionError(f"a kernel was called with {operands}")


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
