"""Selection, repair and elementwise compositions against NumPy, through both doors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autodiff as ad
import autodiff.numpy as anp
from tests.numpy.doors import (
    assert_compiles,
    assert_differentiates,
    assert_equal_to_numpy,
    samples,
)

SPECIAL = np.array([0.0, -0.0, 1.5, -2.0, -2.5, np.inf, -np.inf, np.nan, 5e-324, 1e-310, 3.0])
REAL_TYPES = ["float64", "float32", "float16"]
INTEGER_TYPES = ["int8", "uint8", "int32", "int64"]

UNARY = {
    "where": lambda m, x: m.where(x > 0, x, 0.0),
    "where, weak both": lambda m, x: m.where(x > 0, 1, 2.5),
    "where of lists": lambda m, x: m.where(x > 0, x, list(range(len(x)))),
    "where, condition a number": lambda m, x: m.where(True, x, 7),
    "where, condition not bool": lambda m, x: m.where(x, x, 1),
    "where, broadcast": lambda m, x: m.where(x[:, None] > x, x, x[:, None]),
    "clip": lambda m, x: m.clip(x, 0, 1),
    "clip, keywords": lambda m, x: m.clip(x, min=1, max=2),
    "clip, only below": lambda m, x: m.clip(x, 1, None),
    "clip, only above": lambda m, x: m.clip(x, None, 1),
    "clip, no limits": lambda m, x: m.clip(x),
    "clip, limits as arrays": lambda m, x: m.clip(x, [[0], [1]], 2),
    "clip, limits too large": lambda m, x: m.clip(x, -1000, 1000),
    "clip, method": lambda m, x: x.clip(0, 2),
    "select": lambda m, x: m.select([x > 1, x < 1], [x, x * 2], 3),
    "select, numbers": lambda m, x: m.select([x > 1, x < 1], [1, 2.5], x),
    "select, default": lambda m, x: m.select([x > 1], [x]),
    "piecewise": lambda m, x: m.piecewise(x, [x > 1, x < 1], [lambda y: y * 2, 7]),
    "piecewise, otherwise": lambda m, x: m.piecewise(x, [x > 1, x < 1], [3, lambda y: y, 7]),
    "piecewise, one": lambda m, x: m.piecewise(x, x > 1, [lambda y, k: y + k, 0], 2),
    "nan_to_num": lambda m, x: m.nan_to_num(x),
    "nan_to_num, values": lambda m, x: m.nan_to_num(x, nan=1, posinf=2, neginf=-3),
    "isclose": lambda m, x: m.isclose(x, x + 1),
    "isclose, number": lambda m, x: m.isclose(x, 1, rtol=0.5),
    "isclose, nan": lambda m, x: m.isclose(x, x, equal_nan=True),
    "allclose": lambda m, x: m.allclose(x, x),
    "allclose, nan": lambda m, x: m.allclose(x, x, equal_nan=True),
    "array_equal": lambda m, x: m.array_equal(x, x),
    "array_equal, shapes": lambda m, x: m.array_equal(x, x[1:]),
    "array_equal, nan": lambda m, x: m.array_equal(x, x, equal_nan=True),
    "array_equiv": lambda m, x: m.array_equiv(x, x[:1]),
    "isreal": lambda m, x: m.isreal(x),
    "iscomplex": lambda m, x: m.iscomplex(x),
    "angle": lambda m, x: m.angle(x),
    "angle, degrees": lambda m, x: m.angle(x, deg=True),
    "power, 2": lambda m, x: m.power(x, 2),
    "power, 2.0": lambda m, x: m.power(x, 2.0),
    "power, 0.5": lambda m, x: m.power(x, 0.5),
    "power, reflected": lambda m, x: m.power(2.0, x),
    "pow": lambda m, x: m.pow(x, 3),
    "float_power": lambda m, x: m.float_power(x, 2),
    "float_power, reflected": lambda m, x: m.float_power(2, x),
}

ONLY_REAL = {
    "isposinf": lambda m, x: m.isposinf(x),
    "isneginf": lambda m, x: m.isneginf(x),
    "fabs": lambda m, x: m.fabs(x),
    "modf": lambda m, x: m.modf(x),
    "frexp": lambda m, x: m.frexp(x),
    "divmod": lambda m, x: m.divmod(x, 3),
    "divmod, reflected": lambda m, x: m.divmod(7, x + 1),
    "divmod, operator": lambda m, x: divmod(x, 3),
}

ALL = {**UNARY, **ONLY_REAL}
FOR_COMPLEX = {
    k: f
    for k, f in UNARY.items()
    if not k.startswith(("clip", "select", "piecewise", "where, broadcast", "where"))
}


@pytest.mark.parametrize("dtype", REAL_TYPES)
@pytest.mark.parametrize("name", ALL)
def test_special_values(name: str, dtype: str) -> None:
    with np.errstate(all="ignore"):
        x = SPECIAL.astype(dtype)
    assert_equal_to_numpy(ALL[name], x)
    assert_equal_to_numpy(ALL[name], x[::-2])


@pytest.mark.parametrize("dtype", INTEGER_TYPES)
@pytest.mark.parametrize("name", ALL)
def test_integers(name: str, dtype: str) -> None:
    assert_equal_to_numpy(ALL[name], np.array([1, 2, 0, 3, 5], dtype))


@pytest.mark.parametrize(
    "name", [k for k in ALL if k.startswith(("where", "is", "array", "power", "float_", "modf"))]
)
def test_truth_values(name: str) -> None:
    assert_equal_to_numpy(ALL[name], np.array([True, False, True]))


@pytest.mark.parametrize("name", FOR_COMPLEX)
def test_complex(name: str) -> None:
    x = np.array([1 + 2j, 0.5 - 3j, -2 - 0.5j])
    assert_equal_to_numpy(FOR_COMPLEX[name], x)


def test_repair_of_complex_special_values() -> None:
    x = np.array([1 + 2j, complex(np.nan, 1), complex(np.inf, -np.inf), 0])
    assert_equal_to_numpy(lambda m, x: m.nan_to_num(x), x)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 0)])
@pytest.mark.parametrize(
    "name", ["where", "clip", "nan_to_num", "modf", "frexp", "power, 2", "isclose", "allclose"]
)
def test_shapes(name: str, shape: Any, random: np.random.Generator) -> None:
    assert_equal_to_numpy(ALL[name], samples(random, shape))


@pytest.mark.parametrize("number", [2, 2.5, True])
@pytest.mark.parametrize("name", ["where", "clip", "nan_to_num", "angle", "power, 2", "modf"])
def test_python_numbers(name: str, number: Any) -> None:
    if name in ("clip", "nan_to_num") and number is True:
        return
    assert_equal_to_numpy(ALL[name], number)


@pytest.mark.parametrize("name", ["where", "clip", "select", "modf", "frexp", "nan_to_num"])
def test_compiled(name: str) -> None:
    assert_compiles(ALL[name], np.array([0.5, -1.0, 3.0]))


@pytest.mark.parametrize(
    "name",
    [
        *(k for k in ALL if k.startswith(("where", "clip", "select", "piecewise", "nan"))),
        *("power, 2", "power, 0.5", "power, reflected", "pow", "float_power", "modf", "fabs"),
        *("divmod", "float_power, reflected"),
    ],
)
def test_derivatives(name: str, random: np.random.Generator) -> None:
    if name in ("where, condition not bool", "power, 0.5"):
        assert_differentiates(ALL[name], np.array([0.7, 1.3, 2.6]))
        return
    assert_differentiates(ALL[name], np.array([0.7, -1.3, 2.6, -3.4]))


def test_derivatives_of_complex_angle(random: np.random.Generator) -> None:
    assert_differentiates(lambda m, x: m.angle(x), samples(random, (4,), complex))


def test_derivative_of_the_mantissa() -> None:
    jacobian = ad.jacrev(lambda x: np.frexp(x)[0])(np.array([3.0, -0.3]))
    np.testing.assert_array_equal(jacobian, np.diag([0.25, 2.0]))


@pytest.mark.parametrize("module", [np, anp])
def test_clip_at_a_bound_passes_half_the_derivative(module: Any) -> None:
    x = np.array([-1.0, 0.0, 0.5, 1.0, 2.0])
    gradient = ad.grad(lambda x: module.sum(module.clip(x, 0, 1)))(x)
    np.testing.assert_array_equal(gradient, [0, 0.5, 1, 0.5, 0])


def test_clip_differentiates_its_limits() -> None:
    def function(m: Any, x: Any, low: Any, high: Any) -> Any:
        return m.clip(x, low, high)

    arrays = np.array([-1.0, 0.5, 3.0]), np.array(0.1), np.array([1.0, 2.0, 2.5])
    assert_equal_to_numpy(function, *arrays)
    assert_differentiates(function, *arrays)


def test_unselected_branch_of_where_does_not_spoil_the_derivative() -> None:
    x = np.array([-1.0, 0.0, 4.0])
    gradient = ad.grad(lambda x: np.where(x > 0, np.sqrt(x), 0).sum())(x)
    np.testing.assert_array_equal(gradient, [0, 0, 0.25])


def test_power_with_a_python_exponent_is_the_operator() -> None:
    for function in (lambda x: np.power(x, 2), lambda x: anp.pow(x, 2), lambda x: x**2):
        derivatives = [function]
        for _ in range(3):
            derivatives.append(ad.grad(derivatives[-1]))
        assert [float(f(0.0)) for f in derivatives[1:]] == [0.0, 2.0, 0.0]


@pytest.mark.parametrize("axis", [-1, 0])
def test_unwrap(axis: int, random: np.random.Generator) -> None:
    x = np.cumsum(random.normal(size=(5, 6)) * 4, axis=1)
    assert_equal_to_numpy(lambda m, x: m.unwrap(x, axis=axis), x)
    assert_equal_to_numpy(lambda m, x: m.unwrap(x, discont=5.0, axis=axis), x)
    assert_equal_to_numpy(lambda m, x: m.unwrap(x, axis=axis, period=4), (x * 3).astype(int))
    assert_differentiates(lambda m, x: m.unwrap(x, axis=axis), x)


def test_positions_where_a_condition_holds() -> None:
    assert_equal_to_numpy(lambda m, x: m.where(x > 0), np.array([[1.0, -1.0], [0.0, 2.0]]))


@pytest.mark.parametrize("x", [np.ones(2), np.ones(2, complex)])
def test_kind_of_the_element_type(x: Any) -> None:
    for module in (np, anp):
        assert ad.vjp(lambda x, m=module: (x, x * m.iscomplexobj(x)), x)[0][1].any() == (
            x.dtype.kind == "c"
        )
        assert ad.vjp(lambda x, m=module: (x, x * m.isrealobj(x)), x)[0][1].any() == (
            x.dtype.kind != "c"
        )


@pytest.mark.parametrize(
    ("function", "error", "text"),
    [
        (lambda x: np.where(x, x), ValueError, "where: either both or neither"),
        (lambda x: np.clip(x, 1, max=2), ValueError, "clip: "),
        (lambda x: np.select([x > 0], [x, x]), ValueError, "select: there must be one condition"),
        (lambda x: np.select([x], [x]), TypeError, "select: conditions must be bool"),
        (lambda x: np.piecewise(x, [x > 0], []), ValueError, "piecewise: with 1 conditions"),
    ],
)  # fmt: skip
def test_errors(function: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=f"^{text}"):
        ad.vjp(function, np.ones(3))


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)
