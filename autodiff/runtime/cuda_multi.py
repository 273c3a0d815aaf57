"""Kernels over many arrays as functions of a device's arrays.

What a launch is told of its members (addresses, numbers of the host, sizes) is a struct that stays
where it is. A call writes the addresses of its operands and outputs into the columns of this
struct, and the driver copies all of it before the launch returns: there is no table on the device,
which every call would have to wait for.

Reading order: `multi_function`, `MultiFunction`, `_Launcher`.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import itemgetter
from threading import Lock
from typing import Any

import numpy as np

from autodiff.base.garbage import seldom_collected
from autodiff.base.settings import settings
from autodiff.codegen.cuda_launch import (
    CudaKernel,
    Integer,
    Members,
    OperandNumber,
    OperandPointer,
    OutputPointer,
)
from autodiff.codegen.cuda_multi import emit_multi_kernel
from autodiff.runtime.cuda_device import Device
from autodiff.runtime.cuda_functions import CAPACITY, SYMBOL, compile_early, loaded
from autodiff.schedule.multi_kernel import ADDRESS_BYTES, SHARED_BYTES, MultiKernel
from autodiff.schedule.target import cuda_target


class MultiFunction:
    """A kernel over many arrays on a device: called with its operands it returns its outputs.

    Operands are arrays of the device, or numbers where a single element is read. Outputs are fresh,
    those of the first member first. Operands that are not contiguous are copied first.
    """

    __slots__ = ("_device", "_launchers", "_lock", "_multi", "_outputs", "_single", "text")

    def __init__(self, multi: MultiKernel, device: Device) -> None:
        self._multi = multi
        self._device = device
        self._launchers: dict[frozenset[int], _Launcher] = {}
        self._lock = Lock()
        self._outputs = [(store.shape, store.dtype) for store in multi.stores]
        #: The loads of single elements, each with the operands that it may be of.
        self._single = {
            k: {member.reads[k][0] for member in multi.members}
            for k, load in enumerate(multi.body.loads)
            if load.strides == (0,)
        }
        made = self._emitted(frozenset())
        self.text = made.text
        if not self._single:  # else some operands may be numbers
            compile_early(made, device)

    def call(self, *operands: Any) -> list[Any]:
        """Run the kernel on the current stream."""
        device = self._device
        array, pointer, empty = device.arrays.ndarray, device.pointer, device.empty
        held = list(operands)
        others = [k for k, x in enumerate(held) if type(x) is not array or not x.flags.c_contiguous]
        numbers = self._prepare(held, others) if others else frozenset()
        launcher = self._launchers.get(numbers)
        if launcher is None:
            launcher = self._launcher(numbers)
        outputs = [empty(shape, dtype) for shape, dtype in self._outputs]
        addresses = [pointer(x) if type(x) is array else 0 for x in (*held, *outputs)]
        launcher.launch(addresses, operands)
        return outputs

    __call__ = call

    def _prepare(self, held: list[Any], others: Sequence[int]) -> frozenset[int]:
        """Make arrays of those operands that are given by address; return the loads by value.

        A load is so if all members have numbers there, each of which fits in the place of an
        address unless it is shared.
        """
        multi, arrays = self._multi, self._device.arrays
        are_numbers = {
            k for k in others if not isinstance(held[k], arrays.ndarray) and not np.ndim(held[k])
        }
        numbers = frozenset(
            k
            for k, operands in self._single.items()
            if operands <= are_numbers
            and (k in multi.shared or multi.body.loads[k].dtype.itemsize <= ADDRESS_BYTES)
        )
        addressed = {
            member.reads[k][0]: load.dtype
            for k, load in enumerate(multi.body.loads)
            if k not in numbers
            for member in multi.members
        }
        for k in others:
            if k in addressed:
                x = held[k]
                if k in are_numbers:
                    x = np.asarray(x).astype(addressed[k])
                held[k] = arrays.ascontiguousarray(arrays.asarray(x))
        return numbers

    def _emitted(self, numbers: frozenset[int]) -> CudaKernel:
        target = cuda_target(self._device.facts["architecture"])
        with seldom_collected():
            return emit_multi_kernel(
                self._multi, target, SYMBOL, numbers=numbers, contract=settings().contract
            )

    def _launcher(self, numbers: frozenset[int]) -> _Launcher:
        with self._lock:
            if numbers not in self._launchers:
                made = self._emitted(numbers)
                if "source" in settings().debug:
                    print(made.text, file=sys.stderr)
                self._launchers[numbers] = _Launcher(self._multi, made, self._device)
            return self._launchers[numbers]


class _Launcher:
    """A compiled kernel with its parameters, the struct of its members among them."""

    def __init__(self, multi: MultiKernel, kernel: CudaKernel, device: Device) -> None:
        self._multi = multi
        self._kernel = kernel
        self._stream = device.stream
        self._launch = loaded(kernel, device).launch
        self._lock = Lock()
        #: Addresses to be written at every call: where, how, and which.
        self._addresses: list[tuple[int, Callable[..., None], Callable[..., Sequence[int]]]] = []
        #: Numbers likewise: where, as what, in how many bytes each, of which operands.
        self._numbers: list[tuple[int, np.dtype, int, tuple[int, ...]]] = []
        places, contents = self._laid_out()
        room = (ctypes.c_uint8 * (len(contents) + SHARED_BYTES))()
        shift = -ctypes.addressof(room) % SHARED_BYTES
        self._contents = (ctypes.c_uint8 * len(contents)).from_buffer(room, shift)
        self._contents[:] = contents
        start = ctypes.addressof(self._contents)
        self._places = (ctypes.c_uint64 * len(places))(*[start + place for place in places])
        self._parameters = ctypes.addressof(self._places)

    def _laid_out(self) -> tuple[list[int], bytes]:
        """Return where the value of each parameter begins, and all values as far as known.

        Each begins at a multiple of the bytes of the longest number.
        """
        places: list[int] = []
        contents = bytearray()
        for parameter in self._kernel.parameters:
            contents += bytes(-len(contents) % SHARED_BYTES)
            place = len(contents)
            places.append(place)
            match parameter:
                case Members(columns, capacity, sizes, first_blocks):
                    for k, column in enumerate(columns):
                        self._add(place + ADDRESS_BYTES * capacity * k, column, ADDRESS_BYTES)
                    contents += bytes(ADDRESS_BYTES * capacity * len(columns))
                    for numbers in (sizes, first_blocks):
                        missing = (0,) * (capacity - len(numbers))
                        contents += struct.pack(f"<{capacity}I", *numbers, *missing)
                case Integer(value):
                    contents += struct.pack("<Q", value)
                case OperandPointer() | OperandNumber():
                    self._add(place, parameter, SHARED_BYTES)
                    contents += bytes(SHARED_BYTES)
                case _:
                    raise AssertionError(parameter)
        return places, bytes(contents)

    def _add(
        self, place: int, column: OperandPointer | OperandNumber | OutputPointer, size: int
    ) -> None:
        """Let calls write what all members have, or share, at a place."""
        multi = self._multi
        if isinstance(column, OutputPointer):
            count = len(multi.body.stores)
            chosen = [
                len(multi.operands) + count * i + column.output for i in range(len(multi.members))
            ]
            offsets = [0] * len(chosen)
        else:
            k, dtype = column.operand, multi.body.loads[column.operand].dtype
            members = multi.members[:1] if k in multi.shared else multi.members
            chosen = [member.reads[k][0] for member in members]
            offsets = [member.reads[k][1] * dtype.itemsize for member in members]
            if isinstance(column, OperandNumber):
                self._numbers.append((place, dtype, size, tuple(chosen)))
                return
        pack = struct.Struct(f"<{len(chosen)}Q").pack_into
        self._addresses.append((place, pack, _chooser(chosen, offsets)))

    def launch(self, addresses: Sequence[int], operands: Sequence[Any]) -> None:
        """Launch the kernel on addresses of operands, then of outputs, and on numbers."""
        contents, stream = self._contents, self._stream()
        with self._lock:
            for place, pack, chosen in self._addresses:
                pack(contents, place, *chosen(addresses))
            for place, dtype, size, positions in self._numbers:
                for k in positions:
                    bits = np.asarray(operands[k]).astype(dtype).tobytes()
                    contents[place : place + len(bits)] = bits
                    place += size
            kernel = self._kernel
            self._launch(kernel.grid, kernel.block, 0, self._parameters, stream)


def _chooser(
    positions: Sequence[int], offsets: Sequence[int]
) -> Callable[[Sequence[int]], Sequence[int]]:
    """Return the function that takes the addresses at some positions, each with its offset."""
    if len(positions) > 1 and not any(offsets):
        return itemgetter(*positions)
    pairs = tuple(zip(positions, offsets, strict=True))
    return lambda addresses: [addresses[k] + offset for k, offset in pairs]


@lru_cache(maxsize=CAPACITY)
def _made(multi: MultiKernel, device: Device, code_key: Any) -> MultiFunction:
    return MultiFunction(multi, device)


def multi_function(multi: MultiKernel, device: Device) -> MultiFunction:
    """Return the function of a kernel over many arrays on a device, made when first asked for."""
    return _made(multi, device, settings().code_key)
