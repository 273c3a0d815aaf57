"""check_grads accepts right derivatives of every kind and names what is wrong in wrong ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import autodiff as ad
import autodiff.numpy as anp
from autodiff.ir.primitive import Primitive, Samples, array_functions, primitives
from autodiff.primitives.families import elementwise
from autodiff.testing import check_grads

_SAMPLES = Samples(points=(1.0,))


@pytest.fixture
def planted() -> Iterator[Any]:
    """Declare throw-away operations; they leave the registry with the test."""
    declared: list[Primitive] = []

    def declare(**fields: Any) -> Primitive:
        primitive = elementwise(
            f"planted_{len(declared)}",
            lambda x: x * x * x,
            doc="Cube.",
            promote=lambda operands: (operands, operands),
            dtypes="fc",
            public=False,
            samples=_SAMPLES,
            **fields,
        )
        declared.append(primitive)
        return primitive

    yield declare
    for primitive in declared:
        del primitives[primitive.name]
        assert primitive not in array_functions.values()


def _layer(params: Any, x: Any) -> Any:
    hidden = anp.tanh(params["w"] @ x + params["b"][0])
    return {"loss": anp.sum(hidden**2), "hidden": (hidden,)}


@pytest.mark.parametrize("modes", [("fwd",), ("rev",), ("fwd", "rev")])
def test_trees_of_arguments_and_outputs_are_checked_to_second_order(modes):
    random = np.random.default_rng(0)
    params = {"w": random.normal(size=(3, 2)), "b": [random.normal(size=3)]}
    check_grads(_layer, (params, random.normal(size=2)), order=2, modes=modes)


def test_third_order_is_checked():
    check_grads(lambda x: anp.exp(anp.sin(x)), (np.array([0.3, -1.2]),), order=3)


@pytest.mark.parametrize(
    "function",
    [anp.exp, lambda z: z * anp.conj(z), anp.abs, lambda z: anp.real(z) ** 2 + 1j * anp.imag(z)],
    ids=["holomorphic", "z conj(z)", "modulus", "real and imaginary parts"],
)
def test_complex_functions_holomorphic_or_not_are_checked(function):
    check_grads(function, (np.array([0.5 + 1.0j, -1.2 - 0.3j]),), order=2)


@pytest.mark.parametrize("dtype", ["float32", "float16", ml_dtypes.bfloat16, "complex64"])
def test_default_tolerances_suit_narrow_types(dtype):
    x = np.array([0.5, -1.0, 1.25]).astype(dtype)
    check_grads(lambda x: anp.sin(x) * x, (x,), order=1)


def test_integer_arguments_and_outputs_are_left_alone():
    def function(x: Any, n: Any) -> Any:
        return x * n, n + 1

    check_grads(function, (np.array([1.5, 2.0]), np.array([2, 3])), order=2)


def test_python_numbers_are_arguments_like_others():
    check_grads(lambda x, y: x * y**2, (2.0, 3.0), order=2)


def test_a_wrong_rule_fails_in_both_modes(planted):
    wrong = planted(jvp=lambda t, out, x: t * (2.0 * x * x))  # 3 x**2 is right
    x = np.array([1.0, 2.0])
    with pytest.raises(AssertionError, match=r"the forward derivative of .* at output"):
        check_grads(lambda x: wrong(x), (x,), order=1, modes=("fwd",))
    with pytest.raises(AssertionError, match=r"the reverse derivative of .* at x"):
        check_grads(lambda x: wrong(x), (x,), order=1, modes=("rev",))


def test_a_rule_wrong_in_its_second_derivative_fails_at_order_two_alone(planted):
    def jvp(t: Any, out: Any, x: Any) -> Any:
        return t * (ad.stop_gradient(x) * x * 3.0)

    wrong = planted(jvp=jvp)
    x = np.array([1.0, 2.0])
    check_grads(lambda x: wrong(x), (x,), order=1)
    with pytest.raises(AssertionError, match=r"order 2"):
        check_grads(lambda x: wrong(x), (x,), order=2)


def test_a_rule_that_drops_the_conjugate_part_fails(planted):
    squared = planted(jvp=lambda t, out, x: t * (3.0 * x * x))
    z = np.array([0.5 + 1.0j])

    def modulus(z: Any) -> Any:
        return squared(z) * ad.stop_gradient(anp.conj(z))

    with pytest.raises(AssertionError, match="forward derivative of modulus"):
        check_grads(modulus, (z,), order=1)


def test_the_message_names_mode_order_leaf_and_both_numbers(planted):
    wrong = planted(jvp=lambda t, out, x: t)

    def model(params: Any) -> Any:
        return {"out": [wrong(params["w"])]}

    with pytest.raises(AssertionError) as caught:
        check_grads(model, ({"w": np.array([2.0])},), order=1, modes=("fwd",))
    text = str(caught.value)
    t = np.random.default_rng(20240).normal(size=1)[0]
    assert text.startswith(
        "check_grads: the forward derivative of model must agree with differences, got "
    )
    assert f"{t!s} at output['out'][0][0] where differences give {12.0 * t:.8}"[:60] in text
    assert "(order 1, tolerance" in text
    assert "\nTo fix: correct the rule" in text


def test_the_reverse_message_names_the_argument(planted):
    wrong = planted(jvp=lambda t, out, x: t)
    params = {"v": np.array([1.0]), "w": [np.array([2.0, 3.0])]}

    def model(params: Any) -> Any:
        return anp.sum(params["v"]) + anp.sum(wrong(params["w"][0]))

    with pytest.raises(AssertionError, match=r"at params\['w'\]\[0\] where"):
        check_grads(model, (params,), order=1, modes=("rev",))


def test_a_nan_never_agrees():
    with pytest.raises(AssertionError, match="nan"):
        check_grads(lambda x: x * np.nan, (np.array([1.0]),), order=1, modes=("fwd",))


def test_tolerances_and_step_can_be_given():
    function, x = anp.abs, np.array([3e-4])
    with pytest.raises(AssertionError):
        check_grads(function, (x,), order=1)
    check_grads(function, (x,), order=1, eps=1e-5)
    check_grads(function, (x,), order=1, atol=10.0)
    check_grads(function, (x,), order=1, rtol=1e6, atol=1.0)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"order": 0}, "check_grads: order must be at least 1, got order=0."),
        (
            {"order": 1, "modes": ("forward",)},
            "check_grads: modes must be some of 'fwd' and 'rev', got modes=('forward',).",
        ),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, text):
    with pytest.raises(ValueError) as caught:
        check_grads(anp.sin, (1.0,), **arguments)
    assert str(caught.value) == text
