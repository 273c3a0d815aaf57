"""The GPU that is measured, or the emulator in its place."""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from time import perf_counter
from types import ModuleType
from typing import Any

from autodiff.base.settings import override
from autodiff.runtime.backends import current_device
from autodiff.runtime.cuda_device import Device
from autodiff.runtime.nvml import gpu_states

#: Seconds that a timed slice lasts at least, and calls in one at most.
SLICE, MOST_LOOPS = 0.01, 4096


class NoCardError(RuntimeError):
    """There is no GPU that CuPy and the library can use."""


@dataclass(frozen=True, slots=True)
class Card:
    """A device by which programs are timed.

    Args:
        name: the product's.
        arrays: CuPy, or its stand-in.
        device: the library's, of these arrays.
        is_emulated: whether times say nothing of a GPU.
        facts: what a report says of it: name of the fact, then its value.
    """

    name: str
    arrays: ModuleType
    device: Device
    is_emulated: bool
    facts: dict[str, str]

    @property
    def slug(self) -> str:
        """The name as part of a file name."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")

    def seconds(self, call: Callable[[], Any], loops: int) -> float:
        """Return the time of a call by the device's clock, of `loops` that are put in its stream.

        Where the host is slower than the device, the device waits and its time is the host's.
        """
        events = self.arrays.cuda.Event
        start, end = events(), events()
        repeated = range(loops)
        start.record()
        for _ in repeated:
            call()
        end.record()
        end.synchronize()
        return self.arrays.cuda.get_elapsed_time(start, end) * 1e-3 / loops

    def host_seconds(self, call: Callable[[], Any], loops: int) -> float:
        """Return the time that the host is busy with a call, the device not being waited for."""
        repeated = range(loops)
        self.synchronize()
        start = perf_counter()
        for _ in repeated:
            call()
        seconds = (perf_counter() - start) / loops
        self.synchronize()
        return seconds

    def synchronize(self) -> None:
        """Wait until the device has nothing left to do."""
        self.arrays.cuda.Device().synchronize()

    def give_back(self) -> None:
        """Free the memory of arrays that nobody has any more."""
        gc.collect()
        self.arrays.get_default_memory_pool().free_all_blocks()


def loops_of(seconds: Callable[[int], float]) -> int:
    """Return how many calls make a slice, by what `seconds(loops)` says of a single one."""
    loops = 1
    while loops < MOST_LOOPS and seconds(loops) * loops < SLICE:
        loops *= 2
    return loops


@contextmanager
def opened(device: str) -> Iterator[Card]:
    """Give the current GPU (`device="card"`), or the emulator (`"emulator"`).

    Raises:
        NoCardError: there is no GPU, or no CuPy.
    """
    if device == "emulator":
        # Of the tests, not of the library: only a checkout has it.
        from tests.emulator.device import emulated

        with emulated() as found:
            yield Card("emulator", found.arrays, found, True, dict(found.facts))
        return
    # Else JAX takes three quarters of the memory when it is imported.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    yield card_of(_cupy())


def card_of(arrays: ModuleType) -> Card:
    """Return the current GPU of CuPy.

    Raises:
        NoCardError: kernels cannot be made for it.
    """
    device = current_device(arrays)
    if device is None:
        raise NoCardError("no kernels can be made for CuPy's GPU; python -m autodiff.doctor")
    runtime = arrays.cuda.runtime
    name = runtime.getDeviceProperties(0)["name"]
    name = name.decode() if isinstance(name, bytes) else name
    states, reason = gpu_states()
    driver = runtime.driverGetVersion()
    facts = dict(device.facts) | {
        "driver runs CUDA": f"{driver // 1000}.{driver % 1000 // 10}",
        "at the start": reason or "; ".join(map(str, states)),
    }
    return Card(name, arrays, device, False, facts)


def _cupy() -> ModuleType:
    try:
        cupy = import_module("cupy")
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # of drivers, of many kinds
        raise NoCardError(f"{type(error).__name__}: {error}") from error
    if not count:
        raise NoCardError("CuPy finds no device")
    return cupy


def without_disk() -> Any:
    """Return a context in which every program is compiled, not read from disk."""
    return override(cache_dir="off")
