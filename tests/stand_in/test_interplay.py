"""What CuPy's functions, kernels and protocols do with traced values, on real CuPy."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import autodiff as ad

X = np.random.default_rng(0).uniform(0.1, 0.9, size=(5, 7))
ROOT = Path(__file__).resolve().parent.parent.parent

CALLS = {
    "ufunc": lambda m, x: m.sin(x) * x + m.exp(-x),
    "of two": lambda m, x: m.arctan2(x, 1.0 - x) + m.maximum(x, 0.5),
    "operators": lambda m, x: (x**2 - x) / (1.0 + x) // 0.25,
    "comparison": lambda m, x: m.where(x > 0.5, x, m.sqrt(x)),
    "sum": lambda m, x: m.sum(x, axis=1) + x.sum(),
    "dtype": lambda m, x: m.sum(x, dtype=np.float32),
    "mean": lambda m, x: m.mean(x, axis=0, keepdims=True) * m.max(x),
    "argmax": lambda m, x: m.argmax(x, axis=1),
    "argmin": lambda m, x: m.argmin(x),
    "clip": lambda m, x: m.clip(x, 0.2, 0.6),
    "layout": lambda m, x: m.transpose(x)[::-1].reshape(-1),
}


@pytest.mark.parametrize("name", CALLS)
def test_cupys_functions_of_traced_values(cupy, name):
    wanted = CALLS[name](np, X)
    program = ad.jit(lambda x: CALLS[name](cupy, x))
    for _ in range(3):
        found = program(cupy.asarray(X))
        assert (type(found), found.dtype) == (cupy.ndarray, wanted.dtype)
        np.testing.assert_allclose(found.get(), wanted, rtol=1e-6 if name == "dtype" else 1e-13)


def test_gradients_through_cupys_functions(cupy):
    def loss(m, x):
        return m.sum(m.tanh(x) * m.log(x)) / m.mean(x)

    found = ad.grad(lambda x: loss(cupy, x))(cupy.asarray(X))
    np.testing.assert_allclose(found.get(), ad.grad(lambda x: loss(np, x))(X), rtol=1e-12)


def test_an_array_that_is_no_argument_is_an_operand(cupy):
    other = cupy.asarray(X[0])
    for f, wanted in (
        (lambda x: x - other, X - X[0]),
        (lambda x: other / x, X[0] / X),
        (lambda x: cupy.arctan2(other, x) * x, np.arctan2(X[0], X) * X),
    ):
        np.testing.assert_allclose(ad.jit(f)(cupy.asarray(X)).get(), wanted, rtol=1e-14)


def test_elementwise_kernels_are_recorded_by_their_text(cupy, emulation):
    kernel = cupy.ElementwiseKernel(
        "T x, float64 a", "T y", "T t = exp(-x); y = a * t / (1 + t)", "scaled_logistic"
    )
    x = cupy.asarray(X)
    direct = kernel(x, 3.0)  # by CuPy itself
    program = ad.jit(lambda x: kernel(x, 3.0))
    for _ in range(2):
        emulation.launches.clear()
        np.testing.assert_allclose(program(x).get(), direct.get(), rtol=1e-14)
        assert [launch.name for launch in emulation.launches] == ["kernel"]
    slope = ad.grad(lambda x: cupy.sum(kernel(x, 3.0)))(x)
    t = np.exp(-X)
    np.testing.assert_allclose(slope.get(), -3.0 * t / (1 + t) ** 2, rtol=1e-12)


@pytest.mark.parametrize(
    "run", [ad.jit, ad.grad, lambda f: ad.vmap(f)], ids=["jit", "grad", "vmap"]
)
def test_reduction_kernels_of_users_say_why_they_are_refused(cupy, run):
    kernel = cupy.ReductionKernel("T x", "T y", "x * x", "a + b", "y = sqrt(a)", "0", "l2norm")
    np.testing.assert_allclose(kernel(cupy.asarray(X)).get(), np.linalg.norm(X), rtol=1e-14)
    with pytest.raises(TypeError) as caught:
        run(lambda x: kernel(x))(cupy.asarray(X))
    requirement, where, fix = str(caught.value).split("\n")
    assert requirement.startswith("cupy: a ReductionKernel or RawKernel must get arrays")
    assert "test_interplay.py" in where
    assert "kernel(x)" in where
    assert fix.startswith("To fix: write it with functions of autodiff.numpy")


class ByDlpack:
    """An array of another library that is offered by DLPack alone."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


class ByInterface:
    """An array of another library that is offered by the CUDA array interface alone."""

    def __init__(self, array):
        self._array = array

    @property
    def __cuda_array_interface__(self):
        return self._array.__cuda_array_interface__


@pytest.mark.parametrize("offer", [ByDlpack, ByInterface])
@pytest.mark.parametrize("view", [lambda x: x, lambda x: x[::2, ::-1], lambda x: x.T])
def test_arrays_of_other_libraries_are_taken(cupy, offer, view):
    wanted = np.sin(view(X)) * view(X)
    on_gpu = view(cupy.asarray(X))
    if offer is ByDlpack and on_gpu.strides[-1] < 0:
        on_gpu = on_gpu.copy()  # DLPack has no negative strides
    program = ad.jit(lambda x: np.sin(x) * x)
    for _ in range(2):
        found = program(offer(on_gpu))
        assert type(found) is cupy.ndarray
        np.testing.assert_allclose(found.get(), wanted, rtol=1e-14)
    scanned, _ = ad.scan(lambda c, r: (c + r, None), np.zeros(()), offer(cupy.asarray(X[:, 0])))
    np.testing.assert_allclose(scanned.get(), X[:, 0].sum(), rtol=1e-14)


def test_special_functions_of_cupyx(cupy):
    special = import_module("cupyx.scipy.special")
    host = import_module("scipy.special")
    for name in ("expit", "erf", "log1p", "gammaln"):
        function = getattr(special, name)
        found = ad.jit(lambda x, function=function: function(x))(cupy.asarray(X))
        np.testing.assert_allclose(found.get(), getattr(host, name)(X), rtol=1e-13)


def test_the_question_that_the_doctor_asks_cupy_is_answered():
    script = (
        "from tests.stand_in.emulation import emulated_compiler\n"
        "from autodiff import doctor\n"
        "with emulated_compiler():\n"
        "    exec(doctor._CUPY_PROBE)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "stand-in 0" in run.stdout
    assert "stand-in 1" in run.stdout
