"""What jacfwd, jacrev and hessian say, and what the functions that inspect and set say."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
from autodiff.base.settings import TABLE
from tests.errors.expectation import refused

X = np.array([1.0, 2.0])
Z = X + 1j


@pytest.fixture(autouse=True)
def _next_call_works():
    yield
    for jacobian in (ad.jacfwd, ad.jacrev):
        np.testing.assert_array_equal(jacobian(np.square)(X), np.diag(2 * X))
        found = jacobian(np.square, holomorphic=True)(Z)
        np.testing.assert_array_equal(found, np.diag(2 * Z))


@pytest.mark.parametrize("name", ["jacfwd", "jacrev"])
def test_an_integer_input(name):
    with refused(
        TypeError,
        f"{name}: the input must be of a real or complex floating type, "
        "got params['n'] of type int64[2].",
        fix="convert it with .astype(float).",
    ):
        getattr(ad, name)(lambda params: params["x"], 0)({"n": np.array([1, 2]), "x": X})  # here


def test_a_complex_input_of_jacfwd():
    with refused(
        TypeError,
        "jacfwd: the input must be real, got z of type complex128[2].",
        fix="use jacrev for complex inputs, or pass holomorphic=True if the function is "
        "holomorphic.",
    ):
        ad.jacfwd(lambda z: np.abs(z))(Z)  # here


def test_a_real_input_of_a_holomorphic_jacfwd():
    with refused(
        TypeError,
        "jacfwd: with holomorphic=True the input must be complex, got x of type float64[2].",
        fix="leave holomorphic=True out.",
    ):
        ad.jacfwd(lambda x: x * 1j, holomorphic=True)(X)  # here


def test_a_complex_output_of_jacrev():
    with refused(
        TypeError,
        "jacrev: the output must be real, got output['b'] of type complex128[2].",
        fix="return real arrays from <lambda>, or pass holomorphic=True if it is holomorphic.",
    ):
        ad.jacrev(lambda z: {"a": np.abs(z), "b": z * z})(Z)  # here


def test_a_real_output_of_a_holomorphic_jacrev():
    with refused(
        TypeError,
        "jacrev: with holomorphic=True the output must be complex, got output of type float64[2].",
        fix="leave holomorphic=True out.",
    ):
        ad.jacrev(np.abs, holomorphic=True)(Z)  # here


def test_an_integer_output_of_jacrev():
    with refused(
        TypeError,
        "jacrev: the output must be of a real or complex floating type, got output of type int64.",
        fix="convert it with .astype(float).",
    ):
        ad.jacrev(np.argmax)(X)  # here


def test_an_unknown_stage():
    with refused(
        ValueError,
        "show: stage must be one of graph, passes, kernels, source, got stage='kernel'.",
        fix="choose one of these.",
    ):
        ad.show(np.sin, X, stage="kernel")  # here


def test_an_unknown_device():
    with refused(
        ValueError,
        "default_device: the device must be 'cpu', 'gpu' or 'auto', got device='tpu'.",
        fix="choose one of these.",
    ):
        ad.default_device("tpu")  # here


def test_a_gpu_where_none_is_usable(monkeypatch):
    monkeypatch.setattr(
        "autodiff.runtime.devices._usable_gpu", lambda: (None, "CuPy is not installed")
    )
    with (
        ad.default_device("gpu"),
        refused(
            RuntimeError,
            "default_device: a GPU must be usable, got device='gpu' where CuPy is not installed.",
            at=False,
            fix="pip install 'autodiff[cuda13]', or set AUTODIFF_DEVICE=cpu.",
        ),
    ):
        ad.numpy.zeros(3)
    with ad.default_device("cpu"):
        np.testing.assert_array_equal(ad.numpy.zeros(3), np.zeros(3))


def test_a_setting_that_is_none():
    names = ", ".join(setting.name for setting in TABLE)
    assert names.startswith("device, default_float, threefry_partitionable, ")
    for change in (ad.configure, lambda **changes: ad.override(**changes).__enter__()):
        with refused(
            TypeError,
            f"configure: the name must be one of {names}, got name='defualt_float'.",
            at=False,
        ):
            change(defualt_float="float32")


@pytest.mark.parametrize(
    ("name", "value", "requirement"),
    [
        ("device", "tpu", "one of auto, cpu, gpu"),
        ("default_float", "float16", "one of float32, float64"),
        ("reference", "maybe", "one of 0, 1, true, false"),
        ("cache_dir", "", "auto, off or a folder"),
        ("debug", "trace,kernels", "a comma-separated list of trace, passes, source"),
    ],
)
def test_a_setting_of_a_value_it_cannot_have(name, value, requirement):
    with refused(
        ValueError, f"settings: {name} must be {requirement}, got {name}={value!r}.", at=False
    ):
        ad.configure(**{name: value})
