"""The driver's management library, by a stand-in that answers as `pynvml` does."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import pytest

from autodiff.runtime import nvml
from autodiff.runtime.nvml import GpuState, gpu_states


class NVMLError(Exception):
    """The base of the errors of pynvml."""


def stand_in(**changes) -> ModuleType:
    """Return a module of one H200; `changes` replaces its functions."""

    def clock(now_or_most):
        return lambda device, kind: now_or_most[kind]

    found = ModuleType("pynvml")
    found.__spec__ = ModuleSpec("pynvml", None)
    answers = {
        "NVMLError": NVMLError,
        "NVML_CLOCK_SM": 1,
        "NVML_CLOCK_MEM": 2,
        "NVML_TEMPERATURE_GPU": 0,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: "580.95.05",
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetName": lambda device: "NVIDIA H200",
        "nvmlDeviceGetMemoryInfo": lambda device: SimpleNamespace(total=141 * 2**30),
        "nvmlDeviceGetClockInfo": clock({1: 345, 2: 2619}),
        "nvmlDeviceGetMaxClockInfo": clock({1: 1980, 2: 3201}),
        "nvmlDeviceGetMemoryBusWidth": lambda device: 6144,
        "nvmlDeviceGetTemperature": lambda device, sensor: 31,
    }
    for name, value in (answers | changes).items():
        setattr(found, name, value)
    return found


def unsupported(*arguments):
    raise NVMLError("Not Supported")


def test_everything_is_told_of_a_device(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", stand_in())
    (state,), reason = gpu_states()
    assert reason is None
    assert state == GpuState(
        name="NVIDIA H200",
        driver="580.95.05",
        memory=141 << 30,
        clock=345,
        highest_clock=1980,
        memory_clock=2619,
        bandwidth=pytest.approx(4.917e12, rel=1e-3),  # the product's data sheet: 4.8 TB/s
        temperature=31,
    )
    assert str(state) == (
        "NVIDIA H200, 141.0 GiB, 345 of 1980 MHz, memory 2619 MHz, 4,917 GB/s at most, 31 °C, "
        "driver 580.95.05"
    )


def test_what_a_device_does_not_tell_is_left_out(monkeypatch):
    silent = dict.fromkeys(
        (
            "nvmlDeviceGetMemoryInfo",
            "nvmlDeviceGetClockInfo",
            "nvmlDeviceGetMaxClockInfo",
            "nvmlDeviceGetMemoryBusWidth",
            "nvmlDeviceGetTemperature",
            "nvmlSystemGetDriverVersion",
        ),
        unsupported,
    )
    names = {"nvmlDeviceGetName": lambda device: b"Some GPU"}  # bytes, in versions before 12
    monkeypatch.setitem(sys.modules, "pynvml", stand_in(**silent, **names))
    assert gpu_states() == ((GpuState("Some GPU"),), None)
    assert str(GpuState("Some GPU")) == "Some GPU"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("nvmlInit", "not visible: Not Supported"), ("nvmlDeviceGetCount", "not readable: Not Sup")],
)
def test_a_driver_that_is_not_there_is_a_reason_and_the_library_is_closed(
    name, sentence, monkeypatch
):
    closed = []
    changes = {name: unsupported, "nvmlShutdown": lambda: closed.append(True)}
    monkeypatch.setitem(sys.modules, "pynvml", stand_in(**changes))
    states, reason = gpu_states()
    assert states == ()
    assert reason is not None and reason.startswith(sentence)
    assert len(closed) == (name != "nvmlInit")


def test_without_the_module_there_is_one_line(monkeypatch):
    monkeypatch.setattr(nvml, "find_spec", {"pynvml": None}.__getitem__)
    assert gpu_states() == ((), nvml.MISSING)
    assert "\n" not in nvml.MISSING
