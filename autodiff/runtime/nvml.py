"""What the driver's management library (NVML) says of the GPUs, through `pynvml` where that is.

Nothing that runs depends on it: reports are the only readers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

#: What a report says where the module is missing.
MISSING = "not looked at: pip install nvidia-ml-py shows clocks and temperature"


@dataclass(frozen=True, slots=True)
class GpuState:
    """One GPU as its driver sees it at a moment; what a device does not tell is None.

    Args:
        name: the product's.
        driver: version of the driver.
        memory: bytes.
        clock: of the multiprocessors now, in MHz.
        highest_clock: the most that clock can be, in MHz.
        memory_clock: now, in MHz.
        bandwidth: bytes per second between memory and chip, by the highest clock and the width of
            the bus.
        temperature: of the chip, in degrees Celsius.
    """

    name: str
    driver: str | None = None
    memory: int | None = None
    clock: int | None = None
    highest_clock: int | None = None
    memory_clock: int | None = None
    bandwidth: float | None = None
    temperature: int | None = None

    def __str__(self) -> str:
        """Return one line, of what is known.

        >>> print(GpuState("Some GPU", memory=80 << 30, clock=345, highest_clock=1980))
        Some GPU, 80.0 GiB, 345 of 1980 MHz
        """
        parts = [self.name]
        if self.memory is not None:
            parts.append(f"{self.memory / 2**30:.1f} GiB")
        if self.clock is not None and self.highest_clock is not None:
            parts.append(f"{self.clock} of {self.highest_clock} MHz")
        if self.memory_clock is not None:
            parts.append(f"memory {self.memory_clock} MHz")
        if self.bandwidth is not None:
            parts.append(f"{self.bandwidth / 1e9:,.0f} GB/s at most")
        if self.temperature is not None:
            parts.append(f"{self.temperature} °C")
        if self.driver is not None:
            parts.append(f"driver {self.driver}")
        return ", ".join(parts)


def gpu_states() -> tuple[tuple[GpuState, ...], str | None]:
    """Return what there is to know of every GPU, or none and the reason why it cannot be asked."""
    if find_spec("pynvml") is None:
        return (), MISSING
    try:
        nvml = import_module("pynvml")
    except ImportError as error:
        return (), f"not looked at: {error}"
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return (), f"not visible: {error}"
    try:
        driver = _told(nvml, nvml.nvmlSystemGetDriverVersion)
        count = nvml.nvmlDeviceGetCount()
        return tuple(_state(nvml, index, _text(driver)) for index in range(count)), None
    except nvml.NVMLError as error:
        return (), f"not readable: {error}"
    finally:
        nvml.nvmlShutdown()


def _state(nvml: Any, index: int, driver: str | None) -> GpuState:
    device = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = _told(nvml, nvml.nvmlDeviceGetMemoryInfo, device)
    highest = _told(nvml, nvml.nvmlDeviceGetMaxClockInfo, device, nvml.NVML_CLOCK_MEM)
    width = _told(nvml, nvml.nvmlDeviceGetMemoryBusWidth, device)
    return GpuState(
        name=_text(nvml.nvmlDeviceGetName(device)) or "GPU",
        driver=driver,
        memory=None if memory is None else memory.total,
        clock=_told(nvml, nvml.nvmlDeviceGetClockInfo, device, nvml.NVML_CLOCK_SM),
        highest_clock=_told(nvml, nvml.nvmlDeviceGetMaxClockInfo, device, nvml.NVML_CLOCK_SM),
        memory_clock=_told(nvml, nvml.nvmlDeviceGetClockInfo, device, nvml.NVML_CLOCK_MEM),
        # Both edges of the clock carry bits: of HBM, and of GDDR at the clock that NVML tells.
        bandwidth=None if None in (highest, width) else 2 * highest * 1e6 * width / 8,
        temperature=_told(nvml, nvml.nvmlDeviceGetTemperature, device, nvml.NVML_TEMPERATURE_GPU),
    )


def _told(nvml: Any, question: Callable[..., Any], *about: Any) -> Any:
    """Return an answer, None where the device or its driver has none: not all know everything."""
    try:
        return question(*about)
    except nvml.NVMLError:
        return None


def _text(value: Any) -> str | None:
    return value.decode() if isinstance(value, bytes) else value
