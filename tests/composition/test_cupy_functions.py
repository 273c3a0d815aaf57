"""Functions of CuPy's called on traced values record what NumPy's functions of the name record.

They are asked of the CuPy that is installed (extra `test-cuda`), whose hooks are not documented: it
needs no GPU to hand a traced value over. Without CuPy a stand-in is asked what it can be.
"""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest

import autodiff as ad
import autodiff.numpy as anp
from autodiff.ir import builder
from autodiff.scipy import special
from tests.composition import fake_cupy
from tests.composition.installed_cupy import installed_cupy, unreadable_array

INSTALLED = installed_cupy()
needs_cupy = pytest.mark.skipif(INSTALLED is None, reason="needs CuPy (extra test-cuda)")

X = np.array([[0.5, 0.25, 0.75], [0.125, 0.875, 0.375], [0.625, 0.0625, 0.9]])
Y = X.T * 0.5 + 0.25
OPERANDS = (X, Y, X + 1.0)


@pytest.fixture
def cupy(monkeypatch):
    if INSTALLED is not None:
        return INSTALLED
    for name, module in fake_cupy.modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return fake_cupy.cupy


def recorded(function, *arguments):
    """Return the text of the graph of a call, without the lines it comes from."""
    return re.sub(r" +#.*", "", str(ad.make_graph(lambda *args: function(*args))(*arguments)))


def taken(function, count):
    """Return operands that a function of `count` records for; none if it is not recorded."""
    for dtype in (np.float64, np.int64, np.bool_):
        operands = tuple(x.astype(dtype) for x in OPERANDS[:count])
        try:
            recorded(function, *operands)
        except TypeError:
            continue
        return operands
    return ()


def recorded_ufuncs():
    """Return the names of NumPy's ufuncs that are recorded and that CuPy has too, as ufuncs."""
    return [
        name
        for name, ufunc in sorted(vars(np).items())
        if isinstance(ufunc, np.ufunc)
        and isinstance(getattr(INSTALLED, name, None), getattr(INSTALLED, "ufunc", type(None)))
        and taken(ufunc, ufunc.nin)
    ]


@pytest.mark.parametrize("name", recorded_ufuncs() or ["sin", "multiply", "arctan2", "true_divide"])
def test_a_ufunc_records_what_numpys_does(cupy, name):
    ufunc, function = getattr(np, name), getattr(cupy, name)
    operands = taken(ufunc, ufunc.nin)
    assert recorded(function, *operands) == recorded(ufunc, *operands)
    if len(operands) == 2 and ufunc.signature is None:  # a number for an array on either side
        x, y = operands
        for pair in ((x, y[0, 0]), (x[0, 0], y)):
            assert recorded(function, *pair) == recorded(ufunc, *pair)


@needs_cupy
@pytest.mark.parametrize("name", sorted(special.__all__))
def test_a_special_function_records_what_scipys_does(name):
    function = getattr(sys.modules["cupyx.scipy.special"], name, None)
    operands = taken(getattr(special, name), getattr(function, "nin", 1))
    if not isinstance(function, INSTALLED.ufunc) or not operands:
        return  # CuPy computes it by other functions, or not at all
    assert recorded(function, *operands) == recorded(getattr(special, name), *operands)


@needs_cupy
def test_many_ufuncs_are_found():
    assert len(recorded_ufuncs()) > 80


#: Functions that are no ufuncs, and what follows the array in calls of them.
CALLS = {
    "sum": [(), (0,)], "prod": [()], "max": [(), (1,)], "min": [()], "amax": [()], "mean": [(1,)],
    "var": [(0,)], "std": [()], "clip": [(0.2, 0.6)], "where": [(Y, X + 1.0)], "dot": [(Y,)],
    "sort": [()], "argsort": [()], "reshape": [((9,),)], "ravel": [()], "transpose": [()],
    "swapaxes": [(0, 1)], "take": [(1,)], "trace": [()], "diagonal": [()], "flip": [()],
    "repeat": [(2,)], "count_nonzero": [()], "angle": [()], "argmax": [(), (1,), (0, np.int32)],
    "argmin": [(), (1,), (0, np.int32)],
}  # fmt: skip


@needs_cupy
@pytest.mark.parametrize("name", CALLS)
def test_a_function_of_arrays_computes_what_numpys_does(name):
    for rest in CALLS[name]:
        found = ad.jit(lambda x, rest=rest: getattr(INSTALLED, name)(x, *rest))(X)
        if len(rest) == 2 and isinstance(rest[1], type):  # CuPy's dtype, which NumPy has not
            assert found.dtype == rest[1]
            rest = rest[:1]
        np.testing.assert_allclose(found, getattr(np, name)(X, *rest), rtol=1e-14)


@needs_cupy
def test_every_function_refuses_a_traced_value_or_computes_what_numpys_does():
    right = set()
    for name in sorted(set(dir(anp)) & set(dir(INSTALLED))):
        function, host = getattr(INSTALLED, name), getattr(np, name, None)
        if isinstance(function, type) or not callable(function) or host is None:
            continue
        for arguments in ((X,), (X, Y), ([X, Y],), (X, 1)):
            try:
                expected = ad.jit(lambda *x, host=host: host(*x))(*arguments)
                found = ad.jit(lambda *x, function=function: function(*x))(*arguments)
            except Exception:  # of many kinds, CuPy's and NumPy's
                continue
            for leaf, wanted in zip(ad.tree.leaves(found), ad.tree.leaves(expected), strict=True):
                np.testing.assert_allclose(*np.broadcast_arrays(leaf, wanted), rtol=1e-14)
            right.add(name)
    assert len(right) > 100


@pytest.fixture
def plain(cupy, monkeypatch):
    """Return an array of CuPy's that is no argument."""
    if INSTALLED is None:
        return fake_cupy.ndarray(X)
    monkeypatch.setattr(builder, "_is_writable", lambda x: False)  # else it would be copied
    return unreadable_array(cupy, (3, 3), np.float64)


@pytest.mark.parametrize("sign", ["+", "-", "*", "/", "**", "//", "%", "@", "<", "=="])
def test_operators_with_an_array_on_either_side_are_recorded(plain, sign):
    for text in (f"t {sign} a", f"a {sign} t"):
        call = eval(f"lambda t, a: {text}")  # noqa: S307 - the operators above
        graph = ad.make_graph(lambda t, call=call: call(t, plain))(X)
        expected = ad.make_graph(call)(X, Y)
        assert [e.primitive for e in graph.eqns] == [e.primitive for e in expected.eqns]
        assert [x.aval for x in graph.outputs] == [x.aval for x in expected.outputs]


def test_in_place_operators_write_into_traced_values_only(plain):
    def into_traced(t):
        t = t * 1.0
        before = t
        t += plain
        assert t is before
        return t

    graph = ad.make_graph(into_traced)(X)
    assert [e.primitive.name for e in graph.eqns] == ["multiply", "add"]

    def into_plain(t):
        a = plain
        a += t
        return a

    with pytest.raises(TypeError, match="add: a traced value cannot be written into a plain array"):
        ad.make_graph(into_plain)(X)


def test_an_output_that_is_traced_is_written_into(cupy):
    def f(t):
        out = t * 0.0
        assert cupy.add(t, t, out=out) is out
        return out

    np.testing.assert_array_equal(ad.jit(f)(X), X + X)
