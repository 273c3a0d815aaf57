"""Generated CUDA kernels as functions of a device's arrays.

cuda_launcher.py is of their launches, cuda_programs.py of several in one call.
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
from autodiff.codegen.cuda_kernels import emit_kernel, program_text
from autodiff.codegen.cuda_launch import CudaKernel
from autodiff.codegen.cuda_multi import emit_multi_kernel
from autodiff.ir.avals import ArrayType
from autodiff.runtime.cpu_kernels import kernel_function
from autodiff.runtime.cuda_device import Device, Function, Program, compiled_program
from autodiff.runtime.cuda_launcher import (
    ALIGNMENT,
    Array,
    KernelsFailedError,
    Launch,
    Launches,
    written_call,
    written_entry,
)
from autodiff.runtime.kernel_calls import Entry
from autodiff.schedule.kernel_spec import KernelSpec, Update
from autodiff.schedule.multi_kernel import MultiKernel
from autodiff.schedule.target import cuda_target

#: The name of every kernel, each of which is a program of its own.
SYMBOL = "kernel"

#: Kernels and programs kept; the least recently used are dropped.
CAPACITY = 4096

_Functions = tuple[Function, ...]

_COMMENT = re.compile(r"[ \t]*//[^\n]*\n")


class CudaFunction:
    """A kernel on a device, or one over many arrays, that returns the list of its outputs.

    Operands are arrays of the device, or numbers where the kernel reads one element. Outputs are
    fresh, but for what is updated in an operand's memory. Operands that are not contiguous are
    copied first. A kernel of one number that is given numbers of the host is run there, and returns
    such.
    """

    __slots__ = (
        "_calls",
        "_device",
        "_is_number",
        "_loaded",
        "_lock",
        "_run",
        "_spec",
        "_types",
        "text",
    )

    def __init__(self, spec: KernelSpec | MultiKernel, device: Device) -> None:
        self._spec = spec
        self._device = device
        self._types = spec.operand_types
        self._loaded: dict[
            tuple[frozenset[int], bool], tuple[CudaKernel, tuple[Function, ...]]
        ] = {}
        self._calls: dict[tuple[frozenset[int], bool], Callable[..., list[Any]]] = {}
        self._lock = Lock()
        self._is_number = _is_of_numbers(spec)
        self._run: Callable[..., list[Any]] = self._run_any
        made = self._emitted(frozenset(), True)
        self.text = made.text
        body = spec.body if isinstance(spec, MultiKernel) else spec
        if all(any(x.strides) for x in body.loads):  # else some operands may be numbers
            compile_early(made, device)

    def call(self, *operands: Any) -> list[Any]:
        """Run the kernel on the current stream."""
        return self._run(*operands)

    __call__ = call

    def entry(self, entry: Entry, avals: Sequence[ArrayType]) -> Callable[..., Any] | None:
        """Return a function of arguments of these types, for calls by anyone.

        It does what `written_entry` of cuda_launcher.py says. None if a constant cannot be read
        where it lies.
        """
        numbers = numbers_of(entry, self._device)
        return None if numbers is None else written_entry(self._alone(numbers, True), entry, avals)

    def launch(
        self, operands: Sequence[int], results: Sequence[int], numbers: frozenset[int]
    ) -> Launch | None:
        """Return the kernel as one of several that are launched, compiled if it was not.

        Args:
            operands: the numbers of its operands.
            results: the numbers of its outputs.
            numbers: those of `operands` that are numbers of the host.

        Returns:
            None if numbers must be arrays, or it is run on the host: it is of numbers alone.

        Raises:
            KernelsFailedError: it does not compile or load.
        """
        if self._is_number and numbers.issuperset(operands):
            return None
        given = frozenset(k for k, value in enumerate(operands) if value in numbers)
        if _by_value(self._spec, given) != given:
            return None
        return Launch(*self._kernel(given, True), tuple(operands), tuple(results))

    @property
    def results(self) -> list[Array]:
        """The outputs."""
        return [Array(store.shape, store.dtype) for store in self._spec.stores]

    @property
    def over(self) -> list[int | None]:
        """For each output the operand in whose memory it is updated, None if it has its own."""
        return [x.over if isinstance(x, Update) else None for x in self._spec.stores]

    def _run_any(self, *operands: Any) -> list[Any]:
        """Run the kernel on operands of any kind; calls like this one are quicker from then on."""
        device = self._device
        array = device.arrays.ndarray
        if self._is_number and not any(type(x) is array for x in operands):
            assert isinstance(self._spec, KernelSpec)
            return [x[()] for x in kernel_function(self._spec).call(*operands)]
        held = held_operands(operands, self._types, device)
        numbers = frozenset(k for k, x in enumerate(held) if type(x) is not array)
        for k in numbers - _by_value(self._spec, numbers):
            held[k] = device.arrays.asarray(held[k])
        numbers = _by_value(self._spec, numbers)
        aligned = not any(device.pointer(x) % ALIGNMENT for x in held if type(x) is array)
        call = self._call(numbers, aligned)
        if aligned and self._run == self._run_any:
            self._run = call
        return call(*held)

    def _call(self, numbers: frozenset[int], aligned: bool) -> Callable[..., list[Any]]:
        found = self._calls.get((numbers, aligned))
        if found is None:
            otherwise = self._run_any if aligned else _refused
            found = written_call(self._alone(numbers, aligned), otherwise, aligned=aligned)
            self._calls[numbers, aligned] = found
        return found

    def _alone(self, numbers: frozenset[int], aligned: bool) -> Launches:
        count = len(self._types)
        outputs = tuple([count + k if over is None else over for k, over in enumerate(self.over)])
        launch = Launch(*self._kernel(numbers, aligned), tuple(range(count)), outputs)
        made = {
            value: array
            for value, array in zip(outputs, self.results, strict=True)
            if value >= count
        }
        return Launches(self._device, self._types, numbers, made, outputs, (launch,))

    def _emitted(self, numbers: frozenset[int], aligned: bool) -> CudaKernel:
        spec, contract = self._spec, settings().contract
        target = cuda_target(self._device.facts["architecture"])
        with seldom_collected():
            if isinstance(spec, MultiKernel):  # its text looks whether arrays are aligned
                loads = spec.by_value(numbers)
                return emit_multi_kernel(spec, target, SYMBOL, numbers=loads, contract=contract)
            return emit_kernel(
                spec, target, SYMBOL, numbers=numbers, aligned=aligned, contract=contract
            )

    def _kernel(self, numbers: frozenset[int], aligned: bool) -> tuple[CudaKernel, _Functions]:
        """Return the kernel and its functions, compiled and loaded when first asked for.

        Raises:
            KernelsFailedError: it does not compile or load.
        """
        with self._lock:
            key = numbers, aligned
            if key not in self._loaded:
                made = self._emitted(numbers, aligned)
                self._loaded[key] = made, loaded(made, self._device)
            return self._loaded[key]


def _is_of_numbers(spec: KernelSpec | MultiKernel) -> bool:
    """Return whether a kernel computes nothing but numbers, each of such."""
    if isinstance(spec, MultiKernel):
        return False
    return not any(store.shape for store in spec.stores) and not spec.reduces


def _by_value(spec: KernelSpec | MultiKernel, numbers: frozenset[int]) -> frozenset[int]:
    """Return those of the operands that are numbers which the kernel is given by value."""
    if not isinstance(spec, MultiKernel):
        return numbers.difference([update.over for update in spec.updates])
    loads = spec.by_value(numbers)
    return frozenset(member.reads[k][0] for member in spec.members for k in loads)


def held_operands(operands: Sequence[Any], types: Sequence[np.dtype], device: Device) -> list[Any]:
    """Return operands as contiguous arrays of the device, and as numbers of these types."""
    array = device.arrays.ndarray
    held: list[Any] = []
    for x, dtype in zip(operands, types, strict=True):
        if type(x) is array:
            held.append(x if x.flags.c_contiguous else device.arrays.ascontiguousarray(x))
        elif np.ndim(x):
            held.append(device.arrays.asarray(x))
        else:
            held.append(np.asarray(x).astype(dtype))
    return held


def numbers_of(entry: Entry, device: Device) -> frozenset[int] | None:
    """Return the operands of an entry that are numbers of the host.

    None if a constant cannot be read where it lies.
    """
    array = device.arrays.ndarray
    held = [x for x in entry.constants if type(x) is array]
    if not all(x.flags.c_contiguous and not device.pointer(x) % ALIGNMENT for x in held):
        return None
    kinds = [*entry.kinds, *map(type, entry.constants)]
    return frozenset(k for k, kind in enumerate(kinds) if kind is not array)


def _refused(*operands: Any) -> Any:
    raise AssertionError(f"a kernel was called with {operands}")


_programs: OrderedDict[Any, Program] = OrderedDict()
_compiling: dict[Any, Future[bytes]] = {}
_compilers = ThreadPoolExecutor(thread_name_prefix="autodiff-compile")
_lock = Lock()


def _source(kernel: CudaKernel) -> str:
    """Return what is compiled: without comments, so that moved lines compile nothing anew."""
    return _COMMENT.sub("\n", program_text([kernel]))


def compile_early(kernel: CudaKernel, device: Device) -> None:
    """Compile a kernel on another thread, as others of its graph; `loaded` waits for it."""
    source, run = _source(kernel), copy_context().run
    key = (source, device)
    with _lock:
        if key not in _programs and key not in _compiling:
            _compiling[key] = _compilers.submit(run, compiled_program, device, source)


def loaded(kernel: CudaKernel, device: Device) -> _Functions:
    """Return the functions of a kernel, in the order in which they are launched.

    They are compiled and loaded; kernels of one text share their program.

    Raises:
        KernelsFailedError: it does not compile or load.
    """
    if "source" in settings().debug:
        print(kernel.text, file=sys.stderr)
    try:
        program = _program(_source(kernel), device)
        return tuple([program.function(name) for name in (*kernel.before, kernel.name)])
    except Exception as error:  # of compilers and drivers, of many kinds
        raise KernelsFailedError from error


def _program(source: str, device: Device) -> Program:
    key = (source, device)
    with _lock:
        found, started = _programs.get(key), _compiling.pop(key, None)
    if found is not None:
        return found
    compiled = compiled_program(device, source) if started is None else started.result()
    made = device.load(compiled)
    with _lock:
        found = _programs.setdefault(key, made)
        if len(_programs) > CAPACITY:
            _programs.popitem(last=False)
        return found
