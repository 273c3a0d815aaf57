"""What checkpoint and its policies say, and that the next call works."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff import checkpoint_policies as policies
from tests.errors.expectation import refused

X = np.array([0.3, -0.7])


@pytest.fixture(autouse=True)
def _next_call_works():
    yield
    np.testing.assert_array_equal(ad.grad(ad.checkpoint(lambda x: np.sum(x * x)))(X), 2 * X)


def test_a_result_in_place_of_the_function():
    value: Any = np.float64(2.0)
    with refused(
        TypeError,
        "checkpoint: the first argument must be a function, got fun=np.float64(2.0).",
        fix="write checkpoint(f)(x), not checkpoint(f(x)).",
    ):
        ad.checkpoint(value)  # here


def test_a_policy_that_is_no_function():
    with refused(
        TypeError,
        "checkpoint: policy must be a hashable function (primitive, avals, params) -> bool, "
        "got policy='nothing'.",
        fix="take one of autodiff.checkpoint_policies.",
    ):
        ad.checkpoint(np.sin, policy="nothing")  # here
    with pytest.raises(TypeError, match="policy must be a hashable function"):
        ad.checkpoint(policy=3)

    class Unhashable:
        __hash__ = None  # type: ignore[assignment]

        def __call__(self, primitive, avals, params):
            return True

    with pytest.raises(TypeError, match="policy must be a hashable function"):
        ad.checkpoint(np.sin, policy=Unhashable())


def test_a_policy_that_does_not_answer():
    f = ad.checkpoint(lambda x: np.sum(np.sin(x)), policy=lambda *_: None)  # here
    with refused(
        TypeError,
        "checkpoint: a policy must return True or False, got policy(sin, ...)=None "
        "of type NoneType.",
        fix="return whether results of such an operation may be saved.",
    ):
        ad.grad(f)(X)
    with pytest.raises(TypeError, match="names must be strings"):
        ad.grad(ad.checkpoint(np.sin, policy=policies.save_only_these_names))(0.5)


def test_names_that_are_no_strings():
    for function in ("save_only_these_names", "save_anything_except_these_names"):
        with refused(
            TypeError,
            f"{function}: names must be strings, got names=(['a', 'b'],).",
            fix=f'give them one by one: {function}("a", "b").',
        ):
            getattr(policies, function)(["a", "b"])  # here
    name: Any = 3
    with refused(
        TypeError,
        "checkpoint_name: the name must be a string, got name=3.",
        fix='write checkpoint_name(x, "name").',
    ):
        ad.checkpoint_name(X, name)  # here


def test_an_output_that_is_no_array():
    with refused(
        TypeError,
        "checkpoint: every leaf of the output of <lambda> must be an array or a number, "
        "got output[1]='text' of type str.",
        fix="return arrays only; with has_aux=True other values may go into aux.",
    ):
        ad.grad(lambda x: ad.checkpoint(lambda x: (x, "text"))(x)[0])(1.0)  # here


def test_an_error_inside_leaves_nothing_half_traced():
    def f(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        ad.grad(ad.checkpoint(f))(1.0)


def test_a_traced_value_kept_beyond_the_call_is_refused():
    kept = []

    @ad.checkpoint
    def f(x):
        kept.append(np.sin(x))
        return x

    ad.grad(f)(1.0)
    with pytest.raises(ad.LeakedTracerError, match="a traced value must be used while"):
        np.sin(kept[0])


@pytest.mark.parametrize(
    ("kind", "value"), [(ValueError, 0), (ValueError, -3), (TypeError, 2.5), (TypeError, True)]
)
def test_numbers_of_snapshots_that_are_none(kind, value):
    with refused(
        kind,
        "scan: checkpoint must be an int, at least 1: how many copies of the carry are kept, "
        f"got checkpoint={value!r}.",
        fix="leave it out to keep what the derivative needs of every iteration.",
    ):
        ad.scan(lambda c, x: (c, x), 1.0, X, checkpoint=value)  # here
