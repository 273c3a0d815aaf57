"""On CuPy's arrays callbacks get and give the device's arrays (a stand-in for CuPy shows it)."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
from tests.composition import fake_cupy
from tests.emulator.device import emulated


@pytest.fixture(autouse=True, params=["evaluated", "compiled", "checked"])
def _cupy_is_imported(request):
    fake_cupy.transfers.clear()
    ways = {
        "evaluated": {"compile_after": 1_000},
        "compiled": {"compile_after": 0},
        "checked": {"check": frozenset({"nans"})},
    }
    with emulated(checked=True), ad.override(device="cpu", **ways[request.param]):
        yield


def device(x):
    return fake_cupy.ndarray(np.array(x))


X = [1.0, -2.0]


def test_effects_are_given_what_the_device_has_and_bring_nothing_to_the_host(capsys):
    seen = []

    def f(x):
        ad.debug.callback(seen.append, x)
        ad.debug.print("reached")
        return np.sum(x * x)

    for transformed in (ad.grad(f), ad.jit(f), ad.vmap(lambda s: f(s * device(X)))):
        transformed(device(X))
    assert [type(x) for x in seen] == [fake_cupy.ndarray] * 4
    np.testing.assert_array_equal([x._data for x in seen[:2]], [X, X])
    assert "to the host" not in fake_cupy.transfers
    assert capsys.readouterr().out == "reached\n" * 3


def test_results_are_on_the_device_even_where_the_function_returned_numpy_arrays():
    def f(x):
        double = ad.pure_callback(lambda x: 2.0 * x, np.zeros(2), x)
        return double + ad.pure_callback(lambda x: np.ones(2), np.zeros(2), x)

    for found in (ad.jit(f)(device(X)), f(device(X)), ad.vmap(f)(device([X]))):
        assert type(found) is fake_cupy.ndarray
        np.testing.assert_array_equal(found._data.reshape(2), [3.0, -3.0])


def test_a_device_array_for_operands_of_the_host_is_refused():
    with pytest.raises(TypeError, match=r"got result=cupy.ndarray, with operands of numpy, where"):
        ad.jit(lambda x: ad.pure_callback(lambda x: device(X), x, x))(np.array(X))


def test_operands_of_two_devices_are_refused():
    with pytest.raises(
        TypeError, match=r"got args\[0\] as numpy.ndarray and scale\['a'\] as cupy.ndarray"
    ):
        ad.pure_callback(lambda *x, **k: x, np.zeros(2), np.array(X), scale={"a": device(X)})


def test_a_nan_made_on_the_device_is_located():
    with (
        ad.override(check=frozenset({"nans"})),
        pytest.raises(FloatingPointError, match=r"NaN at index \(1,\) from -2.0 of float64\[2\]"),
    ):
        ad.jit(np.log)(device(X))
