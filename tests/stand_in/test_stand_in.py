"""CuPy itself on the stand-in: what it computes, and that what cannot be run fails."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest

from autodiff.runtime import nvrtc
from tests.stand_in.emulation import Launch
from tests.stand_in.install import COMPILED

X = np.random.default_rng(0).normal(size=(4, 5))

VIEWS = {
    "all": lambda x: x,
    "transposed": lambda x: x.T,
    "backwards": lambda x: x[::-1, ::-2],
    "a column": lambda x: x[:, 2],
    "no rows": lambda x: x[:0],
    "a number": lambda x: x[1, 2],
    "repeated": lambda x: x[:1].repeat(3, axis=0),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dtype", ["float64", "float16", "int8", "bool", "complex64"])
def test_views_are_copied_to_the_host_and_back(cupy, view, dtype):
    host = (X * 10).astype(dtype)
    found = VIEWS[view](cupy.asarray(host))
    wanted = np.asarray(VIEWS[view](host))
    assert type(found) is cupy.ndarray
    assert found.get().dtype == wanted.dtype
    np.testing.assert_array_equal(found.get(), wanted)
    np.testing.assert_array_equal(cupy.ascontiguousarray(found).get(), wanted)


COMPUTED = {
    "ufunc": lambda m, x: m.sin(x) + x * 2.5,
    "half": lambda m, x: x.astype("float16") * 3,
    "complex": lambda m, x: m.exp(x * 1j).real,
    "sum": lambda m, x: x.sum(axis=1),
    "all of it": lambda m, x: m.max(x),
    "argmax": lambda m, x: m.argmax(x, axis=0),
    "cumsum": lambda m, x: m.cumsum(x),
    "take": lambda m, x: x[m.asarray([2, 0, 2])],
    "where": lambda m, x: m.where(x > 0, x, 1.0),
    "creation": lambda m, x: m.arange(5) + m.full((), 2.0) + m.linspace(0, 1, 5),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_cupys_own_kernels_run_in_the_emulator(cupy, emulation, name):
    found = COMPUTED[name](cupy, cupy.asarray(X)).get()
    np.testing.assert_allclose(found, COMPUTED[name](np, X), rtol=1e-12)
    assert emulation.launches[-1].name.startswith("cupy")


def test_programs_that_the_emulator_did_not_make_are_refused(cupy):
    if nvrtc.loaded() is None:
        pytest.skip("NVRTC is not installed: pip install -e .[test-cuda]")
    cubin = nvrtc._compiled('extern "C" __global__ void f() {}', "-arch=sm_90", (), "CUBIN")[0]
    with pytest.raises(cupy.cuda.driver.CUDADriverError, match="only programs of the emulator"):
        cupy.cuda.function.Module().load(cubin)


def test_a_kernel_that_does_what_none_must_is_an_error_at_its_launch(cupy):
    text = 'extern "C" __global__ void f(float* x) { if (threadIdx.x < 3) __syncthreads(); }'
    with pytest.raises(cupy.cuda.driver.CUDADriverError, match="kernel `f`, block"):
        cupy.RawKernel(text, "f")((1,), (32,), (cupy.zeros(1, np.float32),))


def test_functions_that_are_not_there_fail(cupy):
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="has no such function"):
        cupy.cuda.runtime.mallocManaged(64)


def test_a_copy_from_memory_of_the_wrong_kind_fails(cupy):
    host, there = np.zeros(8), cupy.zeros(8)
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="INVALID_VALUE"):
        cupy.cuda.runtime.memcpy(host.ctypes.data, there.data.ptr, 64, 3)
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="INVALID_VALUE"):
        cupy.cuda.runtime.memcpy(there.data.ptr, host.ctypes.data, 1 << 20, 1)


def test_there_are_two_devices_with_memory_of_their_own(cupy, emulation):
    assert cupy.cuda.runtime.getDeviceCount() == 2
    first = cupy.asarray(X)
    with cupy.cuda.Device(1):
        second = cupy.asarray(X)
        np.testing.assert_array_equal((second + second).get(), X + X)
        assert emulation.launches[-1].device == 1
        kernel = cupy.RawKernel('extern "C" __global__ void f(double* x) {}', "f")
        kernel((1,), (1,), (second,))
        with pytest.raises(cupy.cuda.driver.CUDADriverError, match="is of another device"):
            kernel((1,), (1,), (first,))
    assert (first.device.id, second.device.id) == (0, 1)


def test_a_stream_of_another_device_is_refused(cupy):
    stream = cupy.cuda.Stream()
    with cupy.cuda.Device(1):
        kernel = cupy.RawKernel('extern "C" __global__ void f() {}', "f")
        with pytest.raises(cupy.cuda.driver.CUDADriverError, match="stream is of another device"):
            kernel((1,), (1,), (), stream=stream)


def test_launches_tell_their_stream(cupy, emulation):
    x = cupy.asarray(X)
    with cupy.cuda.Stream() as stream:
        x + x
    launch = emulation.launches[-1]
    assert launch == Launch(launch.name, 0, stream.ptr)


def test_accelerators_that_are_compiled_kernels_are_not_used(cupy):
    assert cupy._core.get_routine_accelerators() == []
    assert cupy._core.get_reduction_accelerators() == []
    assert "cupy.cuda.cub" in COMPILED


PRODUCTS = {
    "matrices": (lambda m, x, y: m.dot(x, y.T)),
    "matmul": (lambda m, x, y: m.matmul(x.T, y)),
    "of a view": (lambda m, x, y: x[:, ::2] @ y[:, ::2].T),
    "batches": (lambda m, x, y: m.matmul(m.stack([x, y]), m.stack([y.T, x.T]))),
    "a vector": (lambda m, x, y: x @ y[0]),
    "vectors": (lambda m, x, y: m.dot(x[0], y[1])),
    "vdot": (lambda m, x, y: m.vdot(x, y)),
    "tensordot": (lambda m, x, y: m.tensordot(x, y, axes=2)),
    "einsum": (lambda m, x, y: m.einsum("ij,kj->ik", x, y)),
}


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "complex128", "complex64"])
def test_products_are_what_numpys_are(cupy, name, dtype):
    x, y = X.astype(dtype), (X[::-1] * 2).astype(dtype)
    if dtype.startswith("complex"):
        x, y = x * (1 + 2j), y - 1j
    found = PRODUCTS[name](cupy, cupy.asarray(x), cupy.asarray(y))
    wanted = PRODUCTS[name](np, x, y)
    assert found.dtype == wanted.dtype
    tolerance = {"float16": 1e-2, "float32": 1e-5, "complex64": 1e-5}.get(dtype, 1e-12)
    np.testing.assert_allclose(found.get(), wanted, rtol=tolerance, atol=tolerance)


def test_functions_of_cublas_that_are_not_there_fail(cupy):
    with pytest.raises(Exception, match="NOT_SUPPORTED"):
        import_module("cupy.cublas").geam("N", "N", 1.0, cupy.ones((2, 2)), 1.0, cupy.ones((2, 2)))
