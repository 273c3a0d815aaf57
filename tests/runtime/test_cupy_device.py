"""The device behind CuPy, as far as it goes without a GPU: a stand-in says what CuPy is asked."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import nullcontext
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import autodiff as ad
from autodiff.codegen.cuda_kernels import program_text
from autodiff.runtime import cuda_device, nvrtc
from autodiff.runtime.cupy_device import CupyDevice, CupyFunction, CupyProgram
from autodiff.schedule.target import cuda_target
from tests.codegen.cuda_programs import Program, kernels_of

MISSING = "NVRTC is not installed: pip install -e .[test-cuda]"


@pytest.fixture
def compiler(monkeypatch):
    driver = ModuleType("cupy_backends.cuda.api.driver")
    driver.launchKernel = lambda *given: None
    monkeypatch.setitem(sys.modules, "cupy_backends.cuda.api.driver", driver)
    if nvrtc.loaded() is None:
        assert os.environ.get("CI") != "true", MISSING
        pytest.skip(MISSING)


class _Module:
    """CuPy's class of loaded programs."""

    def load(self, compiled):
        self.compiled = compiled

    def get_function(self, name):
        if name not in self.compiled.decode(errors="replace"):
            raise RuntimeError("CUDA_ERROR_NOT_FOUND")
        return SimpleNamespace(ptr=77)


class _Device(nullcontext):
    def __init__(self, capability):
        super().__init__()
        self.compute_capability = capability


def stand_in(capability: str) -> SimpleNamespace:
    stream = SimpleNamespace(ptr=5)
    cuda = SimpleNamespace(
        Device=lambda index: _Device(capability),
        alloc=None,
        get_current_stream=lambda: stream,
        function=SimpleNamespace(Module=_Module),
        runtime=SimpleNamespace(getDevice=lambda: 0),
    )
    return SimpleNamespace(cuda=cuda, empty=np.empty, ndarray=np.ndarray)


def source() -> str:
    program = Program("square", lambda x: x * x, (np.ones(8, np.float32),))
    return program_text(kernels_of(program, cuda_target("sm_90")))


@pytest.mark.usefixtures("compiler")
def test_a_program_is_compiled_for_the_gpu_and_kept(tmp_path):
    device = CupyDevice(stand_in("90"), 0)
    assert device.facts["architecture"] == "sm_90"
    with ad.override(cache_dir=str(tmp_path / "cache")):
        program = cuda_device.load_program(device, source())
        assert isinstance(program, CupyProgram)
        (kept,) = (tmp_path / "cache").glob("*.program")
        assert b"\x7fELF" in kept.read_bytes()
        device.compile = None  # the second time nothing is compiled
        cuda_device.load_program(device, source())
    with pytest.raises(KeyError):
        program.function("other")


@pytest.mark.usefixtures("compiler")
def test_a_gpu_newer_than_the_compiler_gets_virtual_instructions():
    compiled = CupyDevice(stand_in("999"), 0).compile(source())
    assert b".target sm_" in compiled


def test_a_launch_is_the_drivers():
    calls = []
    function = CupyFunction(SimpleNamespace(ptr=77), lambda *given: calls.append(given), None)
    addresses = (ctypes.c_uint64 * 2)(1, 2)
    function.launcher((2, 3, 4), (32, 8, 1), 16, addresses)(5)
    assert calls == [(77, 2, 3, 4, 32, 8, 1, 16, 5, ctypes.addressof(addresses), 0)]


def test_where_the_driver_is_not_offered_a_launch_is_a_call_of_cupys_function():
    calls = []

    def function(*given):
        calls.append(given)

    function.ptr = 77
    addresses = (ctypes.c_uint64 * 2)(1, 2)
    CupyFunction(function, None, lambda x: ("at", x)).launcher(
        (2, 3, 4), (32, 8, 1), 16, addresses
    )(5)
    assert calls == [((2, 3, 4), (32, 8, 1), (("at", 1), ("at", 2)), 16)]


def test_cupy_has_what_is_asked_of_it():
    pytest.importorskip("cupy", reason="CuPy is not installed")
    from cupy.cuda import function
    from cupy_backends.cuda.api import driver

    taken = "(intptr_t f, unsigned int grid_dim_x, unsigned int grid_dim_y, unsigned int grid_dim_z"
    assert driver.launchKernel.__doc__.startswith(f"launchKernel{taken}")
    assert driver.launchKernel.__doc__.endswith("intptr_t kernel_params, intptr_t extra)")
    assert hasattr(function.Module, "load") and hasattr(function.Function, "ptr")
