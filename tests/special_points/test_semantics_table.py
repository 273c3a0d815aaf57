"""Values and derivatives at special points, case by case, in every mode and with jit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autodiff as ad
import autodiff.numpy as anp
from autodiff.nn import relu
from autodiff.scipy.special import exprel, logsumexp, sinhc

Function = Callable[[Any], Any]


def forward(f: Function) -> Function:
    """Return f' computed in forward mode."""
    return lambda x: ad.jvp(f, (x,), (anp.ones_like(x),))[1]


def reverse(f: Function) -> Function:
    """Return f' computed in reverse mode."""
    return lambda x: ad.vjp(f, x)[1](anp.ones_like(x))[0]


def jitted(derivative: Callable[[Function], Function]) -> Callable[[Function], Function]:
    """Return the mode with jit around each derivative."""
    return lambda f: ad.jit(derivative(ad.jit(f)))


MODES = {
    "forward": forward,
    "reverse": reverse,
    "forward, jitted": jitted(forward),
    "reverse, jitted": jitted(reverse),
}
mode = pytest.mark.parametrize("mode", MODES.values(), ids=MODES.keys())
pair = pytest.mark.parametrize(
    ("outer", "inner"),
    [(forward, forward), (forward, reverse), (reverse, forward), (reverse, reverse)],
    ids=["forward over forward", "forward over reverse", "reverse over forward", "reverse twice"],
)


# ---------------------------------------------------------------------------- unselected branches

GUARDED: dict[str, tuple[Function, float]] = {
    "sqrt": (anp.sqrt, 0.0),
    "log": (anp.log, 0.0),
    "log of a negative number": (anp.log, -1.0),
    "log2": (anp.log2, 0.0),
    "log10": (anp.log10, 0.0),
    "log1p": (anp.log1p, -1.0),
    "1/x": (lambda x: 1.0 / x, 0.0),
    "x/x": (lambda x: x / x, 0.0),
    "1/x**2": (lambda x: 1.0 / x**2, 0.0),
    "reciprocal": (anp.reciprocal, 0.0),
    "x**-1": (lambda x: x**-1, 0.0),
    "x**0.5": (lambda x: x**0.5, 0.0),
    "x**-1.5": (lambda x: x**-1.5, 0.0),
    "x**x": (lambda x: x**x, 0.0),
    "sqrt(x**2)": (lambda x: anp.sqrt(x**2), 0.0),
    "cbrt": (anp.cbrt, 0.0),
    "arcsin": (anp.arcsin, 1.0),
    "arccos": (anp.arccos, -1.0),
    "arccosh": (anp.arccosh, 1.0),
    "arctanh": (anp.arctanh, 1.0),
    "arctan2(x, x)": (lambda x: anp.arctan2(x, x), 0.0),
    "exp beyond overflow": (anp.exp, 1000.0),
    "cosh beyond overflow": (anp.cosh, -1000.0),
    "logistic beyond overflow": (lambda x: 1.0 / (1.0 + anp.exp(-x)), -1000.0),
}


@mode
@pytest.mark.parametrize("name", GUARDED)
def test_an_unselected_singular_branch_has_derivative_zero(mode, name):
    singular, point = GUARDED[name]

    def guarded(x: Any) -> Any:
        return anp.where(x > point + 10, singular(x), 3.0 * x)

    x = np.array([point, point, point])
    np.testing.assert_array_equal(mode(guarded)(x), [3.0, 3.0, 3.0])


@pair
@pytest.mark.parametrize("name", GUARDED)
def test_an_unselected_singular_branch_has_second_derivative_zero(outer, inner, name):
    singular, point = GUARDED[name]

    def guarded(x: Any) -> Any:
        return anp.where(x > point + 10, singular(x), x * x)

    np.testing.assert_array_equal(outer(inner(guarded))(np.array([point])), [2.0])


@mode
def test_the_norm_of_an_unselected_zero_row_has_derivative_zero(mode):
    def guarded(x: Any) -> Any:
        norms = anp.sqrt(anp.sum(x * x, axis=1))
        return anp.where(norms > 0, norms, 0.0)

    gradient = ad.grad(lambda x: anp.sum(guarded(x)))(np.array([[0.0, 0.0], [3.0, 4.0]]))
    np.testing.assert_allclose(gradient, [[0.0, 0.0], [0.6, 0.8]])


# ----------------------------------------------------------------------- kinks and steps: zero


@mode
@pytest.mark.parametrize("zero", [0.0, -0.0])
@pytest.mark.parametrize(
    "f",
    [anp.abs, anp.sign, anp.floor, anp.ceil, anp.trunc, anp.rint, lambda x: anp.hypot(x, 0.0)],
    ids=["abs", "sign", "floor", "ceil", "trunc", "rint", "hypot"],
)
def test_kinks_and_steps_have_derivative_zero(mode, f, zero):
    assert mode(f)(zero) == 0.0
    assert mode(mode(f))(zero) == 0.0


def test_hypot_at_the_origin_has_gradient_zero_in_both_operands():
    assert ad.grad(anp.hypot, (0, 1))(0.0, 0.0) == (0.0, 0.0)


def test_the_modulus_of_a_complex_zero_has_gradient_zero():
    gradient = ad.grad(anp.abs)(0j)
    assert gradient == 0
    assert not np.isnan(gradient)


@mode
@pytest.mark.parametrize(
    ("f", "point"),
    [(anp.sqrt, 0.0), (anp.cbrt, 0.0), (anp.log1p, -1.0)],
    ids=["sqrt", "cbrt", "log1p"],
)
def test_vertical_tangents_are_infinite(mode, f, point):
    assert mode(f)(point) == np.inf


# ---------------------------------------------------------------------------------------- ties


@pytest.mark.parametrize("f", [anp.maximum, anp.minimum, anp.fmax, anp.fmin])
def test_a_tie_of_two_operands_is_shared_equally(f):
    assert ad.grad(f, (0, 1))(2.0, 2.0) == (0.5, 0.5)
    assert ad.jvp(f, (2.0, 2.0), (1.0, 0.0))[1] == 0.5


@pytest.mark.parametrize("f", [anp.max, anp.min])
def test_a_tie_in_a_reduction_is_shared_and_sums_to_one(f):
    x = np.array([1.0, 1.0, 1.0, 1.0])
    np.testing.assert_array_equal(ad.grad(f)(x), [0.25] * 4)
    assert ad.jvp(f, (x,), (np.array([1.0, 0.0, 0.0, 0.0]),))[1] == 0.25


@pytest.mark.parametrize("bound", [1.0, 3.0])
def test_clip_at_a_bound_passes_half(bound):
    assert ad.grad(lambda x: anp.clip(x, 1.0, 3.0))(bound) == 0.5


# -------------------------------------------------------------------------------------- powers


@mode
@pytest.mark.parametrize("exponent", [2, 2.0])
def test_squares_have_exact_derivatives_at_zero_up_to_third_order(mode, exponent):
    def f(x: Any) -> Any:
        return x**exponent

    found = [mode(f)(0.0), mode(mode(f))(0.0), mode(mode(mode(f)))(0.0)]
    assert found == [0.0, 2.0, 0.0]


@mode
@pytest.mark.parametrize("x", [0.0, -0.0, 2.0])
def test_the_power_zero_is_constant(mode, x):
    assert mode(lambda x: x**0.0)(x) == 0.0
    assert mode(lambda x: x**0)(x) == 0.0
    assert ad.grad(anp.power, 0)(x, 0.0) == 0.0


@mode
@pytest.mark.parametrize("y", [0.5, 1.0, 2.0])
def test_zero_to_the_power_y_is_constant_in_y(mode, y):
    assert mode(lambda y: 0.0**y)(y) == 0.0
    assert mode(mode(lambda y: 0.0**y))(y) == 0.0


@pair
def test_the_mixed_second_derivative_of_a_power_is_exact_at_exponent_zero(outer, inner):
    """d/dx d/dy x**y = x**(y-1) (1 + y log x), 1/x at y = 0, in either order."""
    assert inner(lambda y: outer(lambda x: x**y)(2.0))(0.0) == 0.5
    assert inner(lambda x: outer(lambda y: x**y)(0.0))(2.0) == 0.5


@mode
@pytest.mark.parametrize(("x", "expected"), [(1e-200, -1e200), (1e200, -1e-200)])
def test_the_derivative_of_a_quotient_does_not_overflow_inside(mode, x, expected):
    np.testing.assert_allclose(mode(lambda y: x / y)(x), expected, rtol=1e-15)


# ---------------------------------------------------------------------------------- products


@pytest.mark.parametrize("zeros", [0, 1, 2, 3])
def test_products_with_zeros_have_exact_gradients_and_hessians(zeros):
    x = np.array([0.0] * zeros + [2.0, 3.0, 5.0][: 3 - zeros] + [7.0])
    n = len(x)

    def without(*left_out: int) -> float:
        return float(np.prod([x[i] for i in range(n) if i not in left_out]))

    gradient = [without(i) for i in range(n)]
    hessian = [[without(i, k) if i != k else 0.0 for k in range(n)] for i in range(n)]
    np.testing.assert_array_equal(ad.grad(anp.prod)(x), gradient)
    np.testing.assert_array_equal(ad.jacfwd(anp.prod)(x), gradient)
    np.testing.assert_array_equal(ad.hessian(anp.prod)(x), hessian)
    np.testing.assert_array_equal(ad.jacrev(ad.grad(anp.prod))(x), hessian)


def test_running_products_with_zeros_have_exact_derivatives():
    x = np.array([2.0, 0.0, 3.0, 0.0, 5.0])
    n = len(x)
    jacobian = np.zeros((n, n))
    for i in range(n):
        for k in range(i + 1):
            jacobian[i, k] = np.prod([x[m] for m in range(i + 1) if m != k])
    np.testing.assert_array_equal(ad.jacfwd(anp.cumprod)(x), jacobian)
    np.testing.assert_array_equal(ad.jacrev(anp.cumprod)(x), jacobian)


# ---------------------------------------------------------------------- removable singularities


@mode
@pytest.mark.parametrize(
    ("f", "expected"),
    [
        (anp.sinc, [0.0, -(np.pi**2) / 3, 0.0, np.pi**4 / 5]),
        (sinhc, [0.0, 1 / 3, 0.0, 1 / 5]),
        (exprel, [1 / 2, 1 / 3, 1 / 4, 1 / 5]),
    ],
    ids=["sinc", "sinhc", "exprel"],
)
def test_removable_singularities_have_exact_limits_up_to_fourth_order(mode, f, expected):
    found = []
    for _ in range(4):
        f = mode(f)
        found.append(f(0.0))
    np.testing.assert_allclose(found, expected, rtol=1e-14)


# ------------------------------------------------------------------------------------ logsumexp


def _pairwise(x: Any) -> Any:
    total = x[0]
    for i in range(1, x.shape[0]):
        total = anp.logaddexp(total, x[i])
    return total


SOFTMAX_LIMITS = [
    ([0.0, -np.inf, 0.0], [0.5, 0.0, 0.5]),
    ([1000.0, 1000.0, -np.inf], [0.5, 0.5, 0.0]),
    ([np.inf, 0.0, -np.inf], [1.0, 0.0, 0.0]),
    ([0.0, 800.0, -800.0], [0.0, 1.0, 0.0]),
    ([-np.inf, -np.inf, 2.0], [0.0, 0.0, 1.0]),
]


@pytest.mark.parametrize(("x", "expected"), SOFTMAX_LIMITS)
@pytest.mark.parametrize("f", [logsumexp, _pairwise], ids=["logsumexp", "logaddexp"])
def test_log_sums_of_exponentials_have_the_softmax_limits(f, x, expected):
    x = np.array(x)
    np.testing.assert_allclose(ad.grad(f)(x), expected, atol=1e-300)
    for i, t in enumerate(np.eye(3)):
        np.testing.assert_allclose(ad.jvp(f, (x,), (t,))[1], expected[i], atol=1e-300)


def test_log_sum_of_minus_infinities_alone_has_gradient_zero():
    np.testing.assert_array_equal(ad.grad(logsumexp)(np.full(3, -np.inf)), np.zeros(3))


def test_second_derivatives_of_log_sums_are_finite_beside_infinities():
    hessian = ad.hessian(logsumexp)(np.array([0.0, -np.inf, 0.0]))
    expected = [[0.25, 0.0, -0.25], [0.0, 0.0, 0.0], [-0.25, 0.0, 0.25]]
    np.testing.assert_allclose(hessian, expected, atol=1e-300)


def test_relu_at_zero_has_derivative_zero():
    assert ad.grad(relu)(0.0) == 0.0
    assert ad.jvp(relu, (0.0,), (1.0,))[1] == 0.0


# ----------------------------------------------------------------------------- large and small


@mode
def test_one_over_cosh_of_a_large_number_has_derivative_zero(mode):
    assert mode(lambda x: 1.0 / anp.cosh(x))(800.0) == 0.0
    assert mode(lambda x: 1.0 / anp.cosh(x))(-800.0) == 0.0


@mode
def test_tanh_far_out_is_flat_at_every_order(mode):
    f = anp.tanh
    for _ in range(3):
        f = mode(f)
        assert f(400.0) == 0.0
        assert f(-400.0) == 0.0


# -------------------------------------------------------------------------- bits under jit

BITS = np.array([-0.0, 0.0, 5e-324, -5e-324, 2.2e-308, np.nan, np.inf, -np.inf, 1.0])


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x + 0.0,
        lambda x: x - 0.0,
        lambda x: 0.0 - x,
        lambda x: x * 1.0,
        lambda x: x * -1.0,
        lambda x: x * 0.0,
        lambda x: x / 1.0,
        lambda x: 1.0 / x,
        lambda x: x - x,
        lambda x: x / x,
        lambda x: x * 0.5 * 2.0,
        lambda x: x * 2.0 * 0.5,
        lambda x: (x + 1.0) - 1.0,
        lambda x: anp.sqrt(x * x),
        lambda x: anp.maximum(x, 0.0) + anp.maximum(0.0, x),
        lambda x: anp.where(x == x, x, -x),
        lambda x: x**1,
        lambda x: x**0,
        lambda x: anp.copysign(1.0, x),
        lambda x: anp.abs(anp.negative(x)),
    ],
)
def test_jit_keeps_subnormals_zeros_signs_and_nans_bit_for_bit(f):
    with np.errstate(all="ignore"):
        expected = f(BITS)
    found = ad.jit(f)(BITS)
    assert found.dtype == expected.dtype
    nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(found), nan)
    np.testing.assert_array_equal(found[~nan].view(np.uint64), expected[~nan].view(np.uint64))


def test_jit_keeps_special_values_of_functions_and_other_bits_to_a_unit():
    f = lambda x: anp.exp(anp.log(x))
    with np.errstate(all="ignore"):
        expected = f(BITS)
    found = ad.jit(f)(BITS)
    nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(found), nan)
    found, expected = found[~nan].view(np.int64), expected[~nan].view(np.int64)
    assert np.max(np.abs(found - expected)) <= 1


def test_jit_hands_a_nan_through_with_its_payload():
    x = np.array([0x7FF8000000ABCDEF, 0xFFF8000000000001], np.uint64).view(np.float64)
    for f in (lambda x: x, lambda x: x * 1.0, lambda x: x[::-1][::-1], anp.positive):
        np.testing.assert_array_equal(ad.jit(f)(x).view(np.uint64), x.view(np.uint64))


# ------------------------------------------------------------------- duplicates, gather and scatter


def test_reading_an_element_twice_adds_its_cotangents():
    gradient = ad.grad(lambda x: anp.sum(x[np.array([0, 0, 2])] * np.array([1.0, 2.0, 3.0])))(
        np.ones(3)
    )
    np.testing.assert_array_equal(gradient, [3.0, 0.0, 3.0])


def test_of_writes_to_one_place_only_the_winner_gets_the_cotangent():
    index = np.array([1, 1, 0])

    def written(updates: Any) -> Any:
        return anp.sum(ad.at(np.zeros(3))[index].set(updates) * np.array([5.0, 7.0, 9.0]))

    np.testing.assert_array_equal(ad.grad(written)(np.ones(3)), [0.0, 7.0, 5.0])

    def added(updates: Any) -> Any:
        return anp.sum(ad.at(np.zeros(3))[index].add(updates) * np.array([5.0, 7.0, 9.0]))

    np.testing.assert_array_equal(ad.grad(added)(np.ones(3)), [7.0, 7.0, 5.0])


# ------------------------------------------------------------------------------- std of constants


@pytest.mark.parametrize("f", [anp.std, lambda x: anp.std(x, axis=0)])
def test_the_standard_deviation_of_constants_has_derivative_zero(f):
    x = np.full(4, 3.0)
    np.testing.assert_array_equal(ad.grad(f)(x), np.zeros(4))
    np.testing.assert_array_equal(ad.jvp(f, (x,), (np.arange(4.0),))[1], 0.0)


@pytest.mark.parametrize("norm", [np.linalg.norm])
def test_the_norm_of_a_zero_row_has_a_zero_row_of_derivatives(norm):
    x = np.array([[0.0, 0.0], [3.0, 4.0]])
    gradient = ad.grad(lambda x: anp.sum(norm(x, axis=1)))(x)
    np.testing.assert_allclose(gradient, [[0.0, 0.0], [0.6, 0.8]], rtol=1e-15)
    assert ad.grad(norm)(np.zeros(3)).tolist() == [0.0, 0.0, 0.0]


# ------------------------------------------------------------------------------------- sorting


def test_sort_is_stable_in_its_derivative():
    x = np.array([2.0, 1.0, 2.0, 1.0])
    weights = np.array([1.0, 2.0, 3.0, 4.0])
    gradient = ad.grad(lambda x: anp.sum(anp.sort(x) * weights))(x)
    np.testing.assert_array_equal(gradient, [3.0, 1.0, 4.0, 2.0])
