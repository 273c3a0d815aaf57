"""The emulator as a device: programs through the cache and parameter blocks, on CuPy's manners."""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import autodiff as ad
import autodiff.numpy as anp
from autodiff.base.settings import override
from autodiff.runtime.cuda_device import device_of, load_program
from tests.composition import fake_cupy
from tests.emulator import EmulatorError, compiler
from tests.emulator.device import ALIGNMENT, EmulatorDevice, emulated, parameter_block
from tests.emulator.memory import is_guarded

SCALE = """
extern "C" __global__ void scale(float* out, const float* x, float factor, unsigned n) {
  unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) AD_ST(out + i, AD_LD(x + i) * factor);
}
extern "C" __global__ void shift(float* x, float by, unsigned n) {
  unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) AD_ST(x + i, AD_LD(x + i) + by);
}
"""


@pytest.fixture(params=[False, True], ids=["fast", "checked"])
def device(request):
    with emulated(checked=request.param) as found:
        yield found


@pytest.fixture
def empty_cache(tmp_path):
    with override(cache_dir=str(tmp_path / "cache")):
        yield


def test_a_program_of_two_kernels_is_launched_by_parameter_blocks(device):
    program = load_program(device, SCALE)
    x, out = fake_cupy.ndarray(np.arange(100, dtype=np.float32)), device.empty((100,), np.float32)
    source, factor = ctypes.c_void_p(), ctypes.c_float(3)
    target, n = ctypes.c_void_p(device.pointer(out)), ctypes.c_uint(100)
    first = parameter_block([target, source, factor, n])
    second = parameter_block([target, ctypes.c_float(-1), n])
    scale, shift = program.function("scale"), program.function("shift")
    for offset in (0, 1):
        view = x[offset:]
        source.value, n.value = device.pointer(view), view.size
        for function, block in ((scale, first), (shift, second)):
            function.launcher((2, 1, 1), (64, 1, 1), 0, block)(device.stream())
        np.testing.assert_array_equal(out.get()[: view.size], 3 * view.get() - 1)
    assert device.launched == ["scale", "shift"] * 2


@pytest.mark.usefixtures("empty_cache")
def test_a_program_is_compiled_once_and_then_read_from_disk(monkeypatch):
    compiled = []
    build = compiler._compiled
    monkeypatch.setattr(
        compiler, "_compiled", lambda text, *rest: compiled.append(text) or build(text, *rest)
    )
    compiler.runtime()
    for _ in range(2):
        load_program(EmulatorDevice(), SCALE).function("scale")
    assert len(compiled) == 1


def test_programs_compile_and_run_on_several_threads(device):
    def total(k):
        text = f"""
extern "C" __global__ void add_{k}(int* x) {{
  __shared__ int held[64];
  AD_ST(held + threadIdx.x, AD_LD(x + threadIdx.x));
  __syncthreads();
  AD_ST(x + threadIdx.x, AD_LD(held + 63 - threadIdx.x) + {k});
}}
"""
        x = fake_cupy.ndarray(np.arange(64, dtype=np.int32))
        function = load_program(device, text).function(f"add_{k}")
        block = parameter_block([ctypes.c_void_p(x.data.ptr)])
        function.launcher((1, 1, 1), (64, 1, 1), 0, block)(0)
        return np.array_equal(x.get(), np.arange(64)[::-1] + k)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(total, range(8)))


def test_a_kernel_that_the_program_has_not(device):
    with pytest.raises(KeyError, match="absent"):
        load_program(device, SCALE).function("absent")


def test_races_are_looked_for_where_the_device_is_told_to():
    with emulated() as device:
        x = device.empty((4,), np.float32)
        text = SCALE.replace("x + i, AD_LD(x + i) + by", "x, AD_LD(x) + by")
        shift = load_program(device, text).function("shift")
        values = [ctypes.c_void_p(x.data.ptr), ctypes.c_float(1), ctypes.c_uint(4)]
        launch = shift.launcher((1, 1, 1), (32, 1, 1), 0, parameter_block(values))
        launch(0)
        device.checked = True
        with pytest.raises(EmulatorError, match="no barrier orders the two"):
            launch(0)
        assert device.launched == ["shift", "shift"]


def test_text_that_does_not_compile_is_a_value_error(device):
    with pytest.raises(ValueError, match="cuda:3"):
        load_program(device, SCALE.replace("blockIdx.x", "block", 1))


def test_an_error_of_a_kernel_quotes_the_text_of_a_loaded_program(device):
    out = device.empty((10,), np.float32)
    block = parameter_block(
        [ctypes.c_void_p(out.data.ptr), ctypes.c_float(1), ctypes.c_uint(12 + ALIGNMENT)]
    )
    function = load_program(device, SCALE).function("shift")
    with pytest.raises(EmulatorError, match=r"`shift`.* past the end .*\n +8 \|   if \(i < n\)"):
        function.launcher((1, 1, 1), (32, 1, 1), 0, block)(device.stream())


def test_the_device_is_that_of_the_stand_in_while_it_is_emulated():
    assert device_of(fake_cupy.cupy) is None
    with emulated() as device:
        assert device_of(fake_cupy.cupy) is device
    assert device_of(fake_cupy.cupy) is None


def test_arrays_of_the_device_lie_in_guarded_memory(device):
    made = [
        anp.linspace(0.0, 1.0, 7),
        fake_cupy.cupy.asarray(np.ones((3, 5), np.float32)),
        device.empty((0, 3), np.float64),
    ]
    made += [made[0] + 1.0, made[1].T, made[1][1:, ::2], np.sin(made[1]), made[0].sum()]
    for array in made:
        assert type(array) is fake_cupy.ndarray
        assert is_guarded(array._data)
    assert made[0].data.ptr % ALIGNMENT == 0
    assert made[5].data.ptr == made[1].data.ptr + 20


def test_programs_of_the_library_run_on_arrays_of_the_device(device):
    x = anp.linspace(-1.0, 1.0, 12).reshape(3, 4)
    loss = lambda v: np.sum(np.tanh(v) ** 2 / np.sum(np.exp(v), axis=1, keepdims=True))
    found, host = ad.jit(ad.grad(loss))(x), ad.grad(loss)(x.get())
    assert type(found) is fake_cupy.ndarray
    np.testing.assert_allclose(found.get(), host, rtol=1e-13)
