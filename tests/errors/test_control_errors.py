"""What loops and branches say, and that the next call works."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
from tests.errors.expectation import refused

X = np.array([1.0, 2.0])


@pytest.fixture(autouse=True)
def _next_call_works():
    yield
    assert ad.scan(lambda c, x: (c + x, None), 0.0, X)[0] == 3.0
    grad = ad.grad(lambda x: ad.while_loop(lambda c: c < 9.0, lambda c: c * x, x))(2.0)
    assert grad == 4 * 2.0**3


def body(c, x):
    return c, x


def test_a_carry_of_another_dtype_is_named_with_both_types():
    def f(carry, x):
        return {"w": [carry["w"][0], carry["w"][1] * X]}, None

    init = {"w": [np.float32(1.0), np.ones(2, np.float32)]}
    with refused(
        TypeError,
        "scan: the carry that f returns must have the shapes and dtypes of init, got "
        "carry['w'][1]=float64[2] where init has float32[2].",
        fix="give init the type that the loop returns, or convert with .astype, or reshape.",
    ):
        ad.scan(f, init, length=2)  # here


def test_a_carry_of_another_shape_is_named_in_a_while_loop():
    with refused(
        TypeError,
        "while_loop: the carry that <lambda> returns must have the shapes and dtypes of init, got "
        "carry=float64[2,1] where init has float64[2].",
        fix="give init the type that the loop returns, or convert with .astype, or reshape.",
    ):
        ad.while_loop(lambda c: c[0] < 3, lambda c: c[:, None], X)  # here


def test_a_carry_of_another_structure_is_named():
    def f(carry, x):
        return [carry["a"], carry["b"]], None

    with refused(
        TypeError,
        "scan: the carry that f returns must have the structure of init, got a list of length 2 "
        "where a dict with keys ['a', 'b'] was expected at carry.",
        fix="return the same containers, keys and lengths that it is given.",
    ):
        ad.scan(f, {"a": 1.0, "b": 2.0}, length=2)  # here


def test_a_scan_must_return_a_pair():
    with refused(
        TypeError,
        "scan: <lambda> must return a pair (carry, y), got output of type Tracer.",
        fix="return (carry, None) where there is nothing to stack.",
    ):
        ad.scan(lambda c, x: c + x, 0.0, X)  # here


def test_xs_of_unequal_lengths_are_listed():
    with refused(
        ValueError,
        "scan: xs must have one length, got xs['a']: 2; xs['b'][0]: 3; length: 2.",
        fix="slice them to equal lengths, or close over what all iterations share.",
    ):
        ad.scan(body, 0.0, {"a": X, "b": [np.ones(3)]}, length=2)  # here


def test_a_scalar_among_xs_is_named():
    with refused(
        ValueError,
        "scan: xs must be arrays with a first axis to go along, got xs[1] of shape ().",
        fix="close over what is the same in every iteration.",
    ):
        ad.scan(body, 0.0, (X, 2.0))  # here


def test_the_number_of_iterations_must_be_known():
    with refused(
        ValueError,
        "scan: the number of iterations must be known, got length=None and xs without arrays.",
        fix="pass length=n.",
    ):
        ad.scan(body, 0.0)  # here


def test_a_leaf_that_is_no_array_is_named():
    with refused(
        TypeError,
        "scan: every leaf of init must be an array or a number, got init['name']='w' of type str.",
        fix="close over what is not an array instead of passing it.",
    ):
        ad.scan(body, {"name": "w"}, X)  # here


def test_unroll_below_one_is_refused():
    with refused(
        ValueError,
        "scan: unroll must be at least 1, got unroll=0.",
        fix="leave it out to write out one iteration.",
    ):
        ad.scan(body, 0.0, X, unroll=0)  # here


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        (lambda c: c < 3.0, "bool[2]"),
        (lambda c: c[0], "float64"),
        (lambda c: (c[0] < 1.0, c[1] < 1.0), "TreeDef((*, *))"),
    ],
)
def test_a_condition_must_be_one_truth_value(condition, found):
    with refused(
        TypeError,
        f"while_loop: <lambda> must return one truth value, bool of shape (), got output={found}.",
        fix="compare (x > 0), or reduce with .any() or .all().",
    ):
        ad.while_loop(condition, lambda c: c, X)  # here


def test_a_negative_bound_is_refused():
    with refused(
        ValueError,
        "while_loop: max_steps must not be negative, got max_steps=-1.",
        fix="leave it out for a loop without bound.",
    ):
        ad.while_loop(lambda c: c < 3.0, lambda c: c, 1.0, max_steps=-1)  # here


def test_bounds_must_be_integers():
    with refused(
        TypeError,
        "fori_loop: upper must be an integer of shape (), got upper=float64.",
        fix="convert it with int(...) or .astype(int).",
    ):
        ad.fori_loop(0, 3.0, lambda i, c: c, 1.0)  # here


def test_a_predicate_that_is_no_scalar_is_refused():
    with refused(
        TypeError,
        "cond: pred must be a scalar, got pred=bool[2].",
        fix="reduce it with .any() or .all(); numpy.where chooses element by element.",
    ):
        ad.jit(lambda x: ad.cond(x > 1, np.sin, np.cos, x))(X)  # here


def test_an_index_that_is_no_integer_is_refused():
    with refused(
        TypeError,
        "switch: index must be an integer of shape (), got index=float64.",
        fix="convert it with .astype(int); for a truth value use cond.",
    ):
        ad.switch(1.0, [np.sin, np.cos], X)  # here


def test_branches_of_unequal_structure_are_named():
    with refused(
        TypeError,
        "cond: true_fun must return the structure that false_fun returns, got a tuple of length 2 "
        "where a leaf was expected at output.",
        fix="return the same containers, keys and lengths from all branches.",
    ):
        ad.cond(True, lambda x: (x, x), lambda x: x, X)  # here


def test_branches_of_unequal_types_are_named_with_both():
    with refused(
        TypeError,
        "switch: branches[2] must return the shapes and dtypes that branches[0] returns, got "
        "output['b']=float32[2] where branches[0] has float64[2].",
        fix="convert with .astype, or reshape, in one of the branches.",
    ):
        ad.switch(0, [*[lambda x: {"b": x}] * 2, lambda x: {"b": x.astype(np.float32)}], X)  # here


def test_a_value_asked_for_in_a_body_names_the_loop_and_the_line():
    def f(c, x):
        return (c + x if c > 0 else c), None  # here

    with refused(
        ad.ConcretizationError,
        "bool: a concrete value is needed, but this bool is traced by scan of f, where it has "
        "none.",
        fix="use autodiff.numpy.where or a control-flow function in place of Python "
        "control flow on values, or make the argument static (static_argnums).",
    ):
        ad.grad(lambda x: ad.scan(f, x, X)[0])(1.0)


def test_an_error_in_a_body_leaves_nothing_half_traced():
    kept = []

    def f(c, x):
        kept.append(c)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        ad.grad(lambda x: ad.scan(f, x, X)[0])(1.0)
    with pytest.raises(ad.LeakedTracerError):
        kept[0] + 1.0


def test_a_loop_whose_condition_is_to_be_transposed_says_what_to_do():
    with refused(
        ad.MissingRuleError,
        "while_loop: to be transposed its condition must not depend on what is transposed.",
        at=False,
        fix="use vjp, which linearizes first, in place of linear_transpose.",
    ):
        ad.linear_transpose(lambda x: ad.while_loop(lambda c: c < 3.0, lambda c: c * 2.0, x), 1.0)(
            1.0
        )


def test_associative_scan_names_what_it_cannot_go_along():
    with refused(
        ValueError,
        "associative_scan: elems must have axis 1, got elems[1] of shape (2,).",
        fix="pass axis= of an axis that all arrays have.",
    ):
        ad.associative_scan(lambda a, b: a, (np.ones((2, 2)), X), axis=1)  # here
    with refused(
        TypeError,
        "associative_scan: <lambda> must return the shapes and dtypes of its arguments, got "
        "output=float64 where they have float64[1].",
        fix="make it act on each row by itself, and keep its type.",
    ):
        ad.associative_scan(lambda a, b: np.sum(a), X)  # here
