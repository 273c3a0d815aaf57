"""What is said of rules that are wrong, missing or misused: the rule, what is wanted, what came."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import numpy as np
import pytest

import autodiff as ad
from autodiff.ir.primitive import primitives
from tests.errors.expectation import refused

X = np.array([1.0, 2.0])
ARRAY_FIX = "return an array of that shape and dtype (reshape, sum, .astype)."


def f(x):
    return {"y": x * 2.0}


def with_jvp(result):
    function = ad.custom_jvp(f)

    @function.defjvp
    def rule(primals, tangents):
        return result(*primals, *tangents)

    return function


@pytest.mark.parametrize(
    ("result", "requirement", "fix"),
    [
        (
            lambda x, t: {"y": x * 2.0},
            "f: the rule rule must return a pair (out, tangent_out), got a dict.",
            "return (out, tangent_out).",
        ),
        (
            lambda x, t: (1, 2, 3),
            "f: the rule rule must return a pair (out, tangent_out), got a tuple of length 3.",
            "return (out, tangent_out).",
        ),
        (
            lambda x, t: ([x], {"y": t}),
            "f: the output returned by the rule rule must have the structure of the function's "
            "own, got a list of length 1 where a dict with keys ['y'] was expected at out.",
            "return what the function itself returns.",
        ),
        (
            lambda x, t: ({"y": x[:1]}, {"y": t}),
            "f: out['y'] returned by the rule rule must be of type float64[2], got float64[1].",
            ARRAY_FIX,
        ),
        (
            lambda x, t: ({"y": x.astype(np.float32)}, {"y": t}),
            "f: out['y'] returned by the rule rule must be of type float64[2], got float32[2].",
            ARRAY_FIX,
        ),
        (
            lambda x, t: ({"y": x * 2.0}, [t]),
            "f: tangent_out returned by the rule rule must have the structure of the function's "
            "output, None where it is zero, got a list of length 1 where a dict with keys ['y'] "
            "was expected at tangent_out.",
            "return one array for each leaf of the function's output.",
        ),
        (
            lambda x, t: ({"y": x * 2.0}, {"y": t.sum()}),
            "f: tangent_out['y'] returned by the rule rule must be of type float64[2], "
            "got float64.",
            ARRAY_FIX,
        ),
        (
            lambda x, t: ({"y": x * 2.0}, {"y": "zero"}),
            "f: tangent_out['y'] returned by the rule rule must be of type float64[2], got str.",
            ARRAY_FIX,
        ),
        (
            lambda x, t: ({"y": t}, {"y": x * 2.0}),
            "f: the output returned by the rule rule must not depend on the tangents, "
            "got out['y'] that does.",
            "return (out, tangent_out), in this order.",
        ),
    ],
)
def test_a_jvp_rule_that_returns_something_else(result, requirement, fix):
    function = with_jvp(result)
    for call in (
        lambda: ad.grad(lambda x: function(x)["y"].sum())(X),
        lambda: ad.jit(function)(X),
    ):
        with pytest.raises(TypeError) as caught:
            call()
        text = re.sub(r"\nAt .*", "", str(caught.value))
        assert text == f"{requirement}\nTo fix: {fix}"
    assert np.array_equal(function(X)["y"], 2 * X)


def with_vjp(fwd, bwd):
    def product(x, params):
        return x * params["w"]

    function = ad.custom_vjp(product)
    function.defvjp(fwd, bwd)
    return function


def good_fwd(x, params):
    return x * params["w"], (x, params["w"])


def good_bwd(residuals, ct):
    x, w = residuals
    return ct * w, {"w": (ct * x).sum()}


PARAMS = {"w": 3.0}


def test_good_rules_are_not_complained_about():
    dx, dparams = ad.grad(lambda x, p: with_vjp(good_fwd, good_bwd)(x, p).sum(), (0, 1))(X, PARAMS)
    assert dx.tolist() == [3.0, 3.0] and dparams["w"] == 3.0


def test_a_forward_rule_without_residuals():
    function = with_vjp(lambda x, params: x * params["w"], good_bwd)
    with refused(
        TypeError,
        "product: the rule <lambda> must return a pair (out, residuals), got a Tracer.",
        fix="return (out, residuals).",
    ):
        ad.grad(lambda x: function(x, PARAMS).sum())(X)  # here


def test_a_forward_rule_with_another_output():
    function = with_vjp(lambda x, params: (x.sum(), None), good_bwd)
    with refused(
        TypeError,
        "product: out returned by the rule <lambda> must be of type float64[2], got float64.",
        fix=ARRAY_FIX,
    ):
        ad.grad(lambda x: function(x, PARAMS).sum())(X)  # here


@pytest.mark.parametrize(
    ("returned", "came"),
    [
        (lambda ct: ct, "a Tracer"),
        (lambda ct: (ct,), "a tuple of length 1"),
        (lambda ct: (ct, None, None), "a tuple of length 3"),
    ],
)
def test_a_backward_rule_with_another_number_of_cotangents(returned, came):
    function = with_vjp(good_fwd, lambda residuals, ct: returned(ct))
    with refused(
        TypeError,
        "product: the rule <lambda> must return a tuple with one cotangent for each differentiable "
        f"argument, of which there are 2, got {came}.",
        fix="return a tuple, None in it for an argument whose cotangent is zero.",
    ):
        ad.grad(lambda x: function(x, PARAMS).sum())(X)  # here


def test_a_backward_rule_with_a_cotangent_of_another_structure():
    function = with_vjp(good_fwd, lambda residuals, ct: (ct, {"v": ct}))
    with refused(
        TypeError,
        "product: ct_params returned by the rule <lambda> must have the structure of the argument "
        "params, None where it is zero, got a dict with keys ['v'] where a dict with keys ['w'] "
        "was expected at ct_params.",
        fix="return one array for each leaf of the argument params.",
    ):
        ad.grad(lambda x: function(x, PARAMS).sum())(X)  # here


def test_a_backward_rule_with_one_cotangent_for_a_whole_tree():
    function = with_vjp(good_fwd, lambda residuals, ct: (ct, ct.sum()))
    with refused(
        TypeError,
        "product: ct_params returned by the rule <lambda> must have the structure of the argument "
        "params, None where it is zero, got a leaf where a dict with keys ['w'] was expected at "
        "ct_params.",
        fix="return one array for each leaf of the argument params.",
    ):
        ad.grad(lambda x: function(x, PARAMS).sum())(X)  # here


def test_a_backward_rule_with_a_cotangent_of_another_shape_or_dtype():
    function = with_vjp(good_fwd, lambda residuals, ct: (ct, {"w": ct}))
    with refused(
        TypeError,
        "product: ct_params['w'] returned by the rule <lambda> must be of type float64, "
        "got float64[2].",
        fix=ARRAY_FIX,
    ):
        ad.grad(lambda x: function(x, PARAMS).sum())(X)  # here
    function = with_vjp(good_fwd, lambda residuals, ct: (ct * 1j, None))
    with refused(
        TypeError,
        "product: ct_x returned by the rule <lambda> must be of type float64[2], "
        "got complex128[2].",
        fix=ARRAY_FIX,
    ):
        ad.grad(lambda x: function(x, PARAMS).sum())(X)  # here


def test_a_function_without_rules_says_so_when_it_is_differentiated():
    def bare(x):
        return x * 1.0

    function = ad.custom_vjp(bare)
    assert ad.jit(function)(2.0) == 2.0
    with refused(
        ad.MissingRuleError,
        "bare: a derivative is asked for, but the function has no rule.",
        fix="define one: bare.defjvp(rule), or bare.defvjp(fwd, bwd).",
    ):
        ad.grad(lambda x: function(x))(2.0)  # here


def test_forward_mode_through_a_backward_rule_that_is_not_linear():
    def identity(x):
        return x

    function = ad.custom_vjp(identity)
    requirement = (
        "identity: forward mode through a function that has a backward rule alone transposes the "
        "rule, which is not linear in its cotangent."
    )
    fix = "define the rule of forward mode too (defjvp), or use reverse mode (grad, vjp, jacrev)."
    for bwd in (
        lambda residuals, ct: (np.clip(ct, -1.0, 1.0),),
        lambda residuals, ct: (ct * ct,),
        lambda residuals, ct: (np.sign(ct),),
        lambda residuals, ct: (ct / np.sqrt(1.0 + ct * ct),),
    ):
        function.defvjp(lambda x: (x, None), bwd)
        with refused(ad.MissingRuleError, requirement, fix=fix):
            ad.jvp(lambda x: function(x), (2.0,), (1.0,))  # here
        out, pushed = ad.linearize(function, 2.0)
        assert out == 2.0
        with refused(ad.MissingRuleError, requirement, fix=fix, at=False):
            pushed(1.0)
        assert np.isfinite(ad.grad(function)(2.0))


@pytest.mark.parametrize("kind", ["jvp", "vjp"])
@pytest.mark.parametrize("where", ["function", "rule"])
def test_a_value_with_a_derivative_must_not_be_closed_over(kind, where):
    def scaled(scale, x):
        def g(x):
            return scale * x if where == "function" else x

        function = ad.custom_jvp(g)
        if kind == "jvp":
            function.defjvp(lambda primals, tangents: (g(*primals), scale * tangents[0]))
        else:
            function.defvjp(lambda x: (g(x), None), lambda residuals, ct: (scale * ct,))
        return function(x)  # here

    assert ad.grad(scaled, 1)(2.0, 3.0) == 2.0
    with refused(
        ad.MissingRuleError,
        "g: a traced value that a function with rules of its own closes over, or takes as a "
        "nondiff_argnums argument, cannot be differentiated, got a float64 that is.",
        fix="make it an argument that the rules give a derivative, or a constant (stop_gradient).",
    ):
        ad.grad(scaled, (0, 1))(np.array(2.0), np.array(3.0))
    stopped = ad.grad(lambda s, x: scaled(ad.stop_gradient(s), x), (0, 1))(2.0, 3.0)
    assert [float(x) for x in stopped] == [0.0, 2.0]


def test_an_argument_declared_without_derivative_must_not_be_differentiated():
    @partial(ad.custom_jvp, nondiff_argnums=(0,))
    def g(n, x):
        return n * x

    g.defjvp(lambda n, primals, tangents: (g(n, *primals), n * tangents[0]))
    assert ad.grad(g, 1)(2.0, 3.0) == 2.0
    with refused(
        ad.MissingRuleError,
        "g: a traced value that a function with rules of its own closes over, or takes as a "
        "nondiff_argnums argument, cannot be differentiated, got a float64* that is.",
        fix="make it an argument that the rules give a derivative, or a constant (stop_gradient).",
    ):
        ad.grad(lambda n, x: g(n, x), (0, 1))(2.0, 3.0)  # here


@pytest.mark.parametrize("given", [(2,), 5, (0, 2)])
def test_positions_that_are_not_there(given):
    with refused(
        ValueError,
        "custom_vjp: nondiff_argnums must name positional arguments of g, of which there are 2, "
        f"got nondiff_argnums={given!r}.",
        fix="count positions from 0.",
    ):

        def g(x, y):
            return x

        ad.custom_vjp(g, nondiff_argnums=given)  # here


@pytest.mark.parametrize("given", [(-1,), "x", (0.5,)])
def test_positions_that_are_no_positions(given):
    with refused(
        ValueError,
        "custom_jvp: nondiff_argnums must be positions, counted from 0, "
        f"got nondiff_argnums={given!r}.",
        fix="give the argument's position, not its name.",
    ):
        ad.custom_jvp(f, nondiff_argnums=given)  # here


def test_positions_of_arguments_a_call_leaves_out():
    def g(*args):
        return args[0]

    function = ad.custom_jvp(g, nondiff_argnums=(1,))
    with refused(
        ValueError,
        "custom_jvp: nondiff_argnums must name positional arguments of g, of which there are 1, "
        "got nondiff_argnums=(1,).",
        fix="count positions from 0.",
    ):
        function(2.0)  # here


def test_arguments_that_are_no_arrays():
    def g(x, mode):
        return x

    function = ad.custom_jvp(g)
    with refused(
        TypeError,
        "g: every leaf of an argument must be an array or a number, got mode='fast' of type str.",
        fix="put the argument's position into nondiff_argnums, or bind it with functools.partial.",
    ):
        ad.grad(lambda x: function(x, "fast"))(2.0)  # here


def test_keyword_arguments_that_have_no_position():
    def g(x, *, mode):
        return x

    function = ad.custom_jvp(g)
    with refused(
        TypeError,
        "g: a function with rules of its own takes positional arguments, which rules can be "
        "given, got keyword arguments mode.",
        fix="make them positional parameters, or bind them (functools.partial) before the rules "
        "are given.",
    ):
        function(2.0, mode="fast")  # here


def test_rules_that_are_no_functions():
    function: Any = ad.custom_jvp(f)
    for method, define in (
        ("defjvp", lambda: function.defjvp(3)),
        ("defjvps", lambda: function.defjvps(3)),
        ("defvjp", lambda: function.defvjp(f, 3)),
    ):
        with pytest.raises(TypeError, match=f"^{method}: a rule must be a function, got 3 of type"):
            define()


def test_defjvps_with_another_number_of_rules():
    def g(x, y):
        return x * y

    function = ad.custom_jvp(g)
    function.defjvps(lambda t, out, x, y: t * y)
    with refused(
        TypeError,
        "g: defjvps takes one rule for each differentiable argument, of which there are 2, "
        "got 1 rules.",
        fix="pass None for an argument whose derivative is zero.",
    ):
        ad.grad(lambda x: function(x, 2.0))(3.0)  # here


def test_a_failing_rule_leaves_no_trace_open():
    leaked = []
    function = ad.custom_jvp(lambda x: x)

    def rule(primals, tangents):
        leaked.append(primals[0])
        raise KeyError("mine")

    function.defjvp(rule)
    with pytest.raises(KeyError, match="mine"):
        ad.grad(function)(2.0)
    with pytest.raises(ad.LeakedTracerError):
        _ = leaked[0] + 1.0
    function.defjvp(lambda primals, tangents: (primals[0], 3.0 * tangents[0]))
    assert ad.grad(function)(2.0) == 3.0


# custom_batching, closure_convert, custom_gradient ------------------------------------------------


def total(x):
    return x.sum()


@pytest.mark.parametrize(
    ("returned", "requirement"),
    [
        (
            lambda x: x.sum(1),
            "total: the rule rule must return a pair (out, out_batched), got a Tracer.",
        ),
        (
            lambda x: ([x.sum(1)], True),
            "total: the output returned by the rule rule must have the structure of the "
            "function's, got a list of length 1 where a leaf was expected at out.",
        ),
        (
            lambda x: (x, True),
            "total: out returned by the rule rule must be of type float64[3], the mapped axis "
            "first, got float64[3,2].",
        ),
        (
            lambda x: (x.sum(1), False),
            "total: out returned by the rule rule must be of type float64, got float64[3].",
        ),
        (
            lambda x: (x.sum(1), 0),
            "total: out_batched returned by the rule rule must hold True or False, got 0.",
        ),
    ],
)
def test_a_batching_rule_that_returns_something_else(returned, requirement):
    function = ad.custom_batching(total)

    @function.defbatch
    def rule(size, in_batched, x):
        return returned(x)

    with pytest.raises(TypeError) as caught:
        ad.vmap(function)(np.ones((3, 2)))
    assert str(caught.value).startswith(requirement)


def test_mapping_without_a_batching_rule():
    with refused(
        ad.MissingRuleError,
        "total: it is mapped, but has no batching rule.",
        fix="define one: total.defbatch(rule).",
    ):
        ad.vmap(lambda x: ad.custom_batching(total)(x))(np.ones((3, 2)))  # here


def test_a_mapped_value_closed_over_by_a_function_with_a_batching_rule():
    def outer(scale):
        function = ad.custom_batching(lambda x: scale * x)
        function.defbatch(lambda size, in_batched, x: (x, in_batched))
        return function(scale)  # here

    with refused(
        ad.MissingRuleError,
        "<lambda>: a traced value that a function with a batching rule closes over cannot be "
        "mapped.",
        fix="make it an argument.",
    ):
        ad.vmap(outer)(X)


def test_a_converted_function_called_with_other_arguments():
    converted, _ = ad.closure_convert(total, X)
    fix = "give closure_convert example arguments like those of the call."
    with refused(
        TypeError,
        "closure_convert: the converted total must be called with float64[2] for x, got "
        "array([1.]).",
        fix=fix,
    ):
        converted(X[:1])  # here
    with refused(
        TypeError,
        "closure_convert: the converted total must be called with the structure of the example "
        "arguments, then consts, got a list of length 1 where a leaf was expected at args[0].",
        fix=fix,
    ):
        converted([X])  # here


def test_a_custom_gradient_without_a_vjp_function():
    function = ad.custom_gradient(total)
    with refused(
        TypeError,
        "total: the rule total must return a pair (out, vjp_function), got a float64.",
        fix="return (out, vjp_function).",
    ):
        function(X)  # here


# primitive ----------------------------------------------------------------------------------------


@pytest.fixture
def declared():
    """Return what declares an operation for one test."""
    names = []

    def declare(function, **fields):
        names.append("user_error")
        fields = {"doc": "A case.", "not_differentiable": "a test", **fields}
        return ad.primitive("user_error", function, **fields)

    yield declare
    for name in names:
        primitives.pop(name, None)


def test_a_host_function_that_returns_another_type_than_declared(declared):
    function = declared(lambda x: x[:1], type_rule=lambda x: x)
    with pytest.raises(
        TypeError,
        match=re.escape(
            "user_error: the function must return what type_rule says, float64[2], got float64[1]."
        ),
    ):
        ad.jit(function)(X)


def test_a_type_rule_that_returns_no_type(declared):
    function = declared(lambda x: x, type_rule=lambda x: "float")
    with refused(
        TypeError,
        "user_error: type_rule must return 1 types, each with shape and dtype, got 'float'.",
        fix="return a pair (shape, dtype), or one of the types it is given.",
    ):
        function(X)  # here


def test_a_derivative_of_another_type(declared):
    function = declared(
        lambda x: x,
        type_rule=lambda x: x,
        not_differentiable=None,
        jvp=lambda t, out, x: t.sum(),
    )
    with pytest.raises(
        TypeError,
        match=re.escape("user_error: its jvp rule must return float64[2], got float64."),
    ):
        ad.grad(lambda x: function(x).sum())(X)


def test_operands_and_keywords_a_host_function_does_not_take(declared):
    function = declared(lambda x, *, k=1: x, type_rule=lambda x, k=1: x, dtypes="f")
    with refused(
        TypeError,
        "user_error: it takes 1 operands, got 2.",
        fix="pass one array for each.",
    ):
        function(X, X)  # here
    with refused(
        TypeError,
        "user_error: keyword arguments must be hashable, got k=[1].",
        fix="pass a tuple in place of a list, and arrays as operands.",
    ):
        function(X, k=[1])  # here
    with refused(
        TypeError,
        "user_error: the operands must be of types it is declared for, got operand 0 of type "
        "int64[1] where dtypes='f'.",
        fix="convert it with .astype first.",
    ):
        function(np.array([1]))  # here
