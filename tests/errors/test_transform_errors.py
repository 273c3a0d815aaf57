"""What grad, jvp, vjp, linearize and linear_transpose say, and that the next call works."""

from __future__ import annotations

import numpy as np
import pytest

import autodiff as ad
from tests.errors.expectation import refused

X = np.array([1.0, 2.0])


def total(x, y=None):
    return np.sum(x**2)


def works():
    """Check that nothing is left behind: the same transformations give right results."""
    np.testing.assert_array_equal(ad.grad(total)(X), 2 * X)
    np.testing.assert_array_equal(ad.jvp(total, (X,), (X,))[1], 10.0)
    np.testing.assert_array_equal(ad.vjp(total, X)[1](1.0)[0], 2 * X)
    np.testing.assert_array_equal(ad.jit(ad.grad(total))(X), 2 * X)


@pytest.fixture(autouse=True)
def _next_call_works():
    yield
    works()


@pytest.mark.parametrize("name", ["grad", "value_and_grad", "jacfwd", "jacrev"])
def test_argnums_beyond_the_positional_arguments(name):
    transformation = getattr(ad, name)
    for argnums in (2, -3, (0, 5)):
        with refused(
            ValueError,
            f"{name}: argnums must name positional arguments of the call, of which there are 2, "
            f"got argnums={argnums!r}.",
            fix="pass the argument by position, not by keyword.",
        ):
            transformation(total, argnums)(X, X)  # here
    with refused(
        ValueError,
        f"{name}: argnums must name positional arguments of the call, of which there are 0, "
        "got argnums=0.",
        fix="pass the argument by position, not by keyword.",
    ):
        transformation(total)(x=X)  # here


def test_argnums_twice_the_same():
    with refused(
        ValueError,
        "grad: argnums must name each argument once, got argnums=(0, -2).",
        fix="leave out the repeated position.",
    ):
        ad.grad(total, (0, -2))(X, X)  # here


@pytest.mark.parametrize("name", ["grad", "value_and_grad", "jit", "vmap"])
def test_a_result_in_place_of_a_function(name):
    with refused(
        TypeError,
        f"{name}: the first argument must be a function, got fun=np.float64(5.0).",
        fix=f"write {name}(f)(x), not {name}(f(x)).",
    ):
        getattr(ad, name)(total(X))  # here


@pytest.mark.parametrize("name", ["jacfwd", "jacrev"])
def test_a_result_in_place_of_a_function_of_which_the_jacobian_is_wanted(name):
    with refused(
        TypeError,
        f"{name}: the first argument must be a function, got fun=np.float64(5.0).",
        fix=f"write {name}(f)(x), not {name}(f(x)).",
    ):
        getattr(ad, name)(total(X))(X)  # here


@pytest.mark.parametrize("name", ["vjp", "linearize", "linear_transpose"])
def test_a_result_in_place_of_a_function_that_is_called_with_primals(name):
    with refused(
        TypeError,
        f"{name}: the first argument must be a function, got fun=np.float64(5.0).",
        fix=f"write {name}(f, x), not {name}(f(x), x).",
    ):
        getattr(ad, name)(total(X), X)  # here


def test_a_result_in_place_of_a_function_in_jvp():
    with refused(
        TypeError,
        "jvp: the first argument must be a function, got fun=np.float64(5.0).",
        fix="write jvp(f, (x,), (t,)), not jvp(f(x), (x,), (t,)).",
    ):
        ad.jvp(total(X), (X,), (X,))  # here


def test_integer_inputs_name_the_argument():
    def f(x, params):
        return np.sum(x * params["w"][0])

    params = {"w": [np.array([1, 2])], "b": X}
    fix = "convert the argument with .astype(float), or pass allow_int=True to get zeros for it."
    with refused(
        TypeError,
        "grad: the inputs must be of a real or complex floating type, "
        "got params['w'][0] of type int64.",
        fix=fix,
    ):
        ad.grad(f, 1)(X, params)  # here
    with refused(
        TypeError,
        "value_and_grad: the inputs must be of a real or complex floating type, "
        "got x of type int64.",
        fix=fix,
    ):
        ad.value_and_grad(f)(3, params)  # here
    gradient = ad.grad(f, 1, allow_int=True)(X, params)
    np.testing.assert_array_equal(gradient["w"][0], [0, 0])


def test_real_inputs_to_a_holomorphic_gradient_name_the_argument():
    with refused(
        TypeError,
        "grad: with holomorphic=True the inputs must be complex, got z[0] of type float64.",
        fix="leave holomorphic=True out, or convert the input with .astype(complex).",
    ):
        ad.grad(lambda y, z: np.sum(z[0] * 1j), 1, holomorphic=True)(X, [X])  # here


def test_an_output_that_is_a_tree():
    def pair(x):
        return {"a": x, "b": [x, 1.0]}

    with refused(
        TypeError,
        "grad: the output of pair must be one scalar, got output=TreeDef({'a': *, 'b': [*, *]}).",
        fix="return a scalar; with has_aux=True return (scalar, aux).",
    ):
        ad.grad(pair)(X)  # here


def test_an_output_that_is_an_array():
    def doubled(x):
        return 2 * x

    with refused(
        TypeError,
        "grad: the output of doubled must be a scalar, got shape=(2,).",
        fix="reduce it (for instance with .sum()), or use jacrev, or vjp with a cotangent.",
    ):
        ad.grad(doubled)(X)  # here


def test_a_complex_output_without_the_flag():
    with refused(
        TypeError,
        "grad: the output of <lambda> must be real, got dtype=complex128.",
        fix="pass holomorphic=True if the function is holomorphic, or return its real part or "
        "modulus.",
    ):
        ad.grad(lambda z: z * z)(1j)  # here


def test_a_real_output_with_the_holomorphic_flag():
    with refused(
        TypeError,
        "grad: with holomorphic=True the output of absolute must be complex, got dtype=float64.",
        fix="leave holomorphic=True out.",
    ):
        ad.grad(np.absolute, holomorphic=True)(1j)  # here


def test_an_integer_output():
    with refused(
        TypeError,
        "grad: the output of argmax must be of a floating type, got dtype=int64.",
        fix="convert it with .astype(float); note that integer steps have no derivative.",
    ):
        ad.grad(np.argmax)(X)  # here


@pytest.mark.parametrize("name", ["grad", "vjp", "linearize", "jacrev", "jit", "make_graph"])
def test_an_argument_that_is_no_array_is_named_by_its_path(name):
    def f(x, params):
        return np.sum(x)

    call = {
        "grad": ad.grad(f, (0, 1)),
        "vjp": lambda *args: ad.vjp(f, *args),  # here
        "linearize": lambda *args: ad.linearize(f, *args),  # here
        "jacrev": ad.jacrev(f, (0, 1)),
        "jit": ad.jit(f),
        "make_graph": ad.make_graph(f),
    }[name]
    with refused(
        TypeError,
        f"{name}: every leaf of a traced argument must be an array or a number, "
        "got params['w'][1]='seven' of type str.",
        fix="make the argument static (static_argnums of jit), or bind it with functools.partial.",
    ):
        call(X, {"w": [X, "seven"]})  # here


def test_a_bad_leaf_of_the_second_argument_alone_is_named_by_its_own_argument():
    with refused(
        TypeError,
        "grad: every leaf of a traced argument must be an array or a number, "
        "got y[0]='seven' of type str.",
        fix="make the argument static (static_argnums of jit), or bind it with functools.partial.",
    ):
        ad.grad(lambda x, y: np.sum(x), 1)(X, ["seven"])  # here


@pytest.mark.parametrize("dtype", ["S3", "U3", object, "datetime64[s]"])
def test_an_array_of_an_element_type_that_graphs_cannot_hold(dtype):
    x = np.zeros(2, dtype)
    expected = (
        f"array: the element type must be one of bool, int8, int16, int32, int64, uint8, uint16, "
        f"uint32, uint64, float16, bfloat16, float32, float64, complex64, complex128, "
        f"got dtype={x.dtype}."
    )
    for call in (ad.grad(np.sum), ad.jit(np.sum), lambda x: ad.vjp(np.sum, x)):
        with refused(
            TypeError,
            expected,
            at=False,
            fix="convert it with .astype before the traced function.",
        ):
            call(x)


def test_an_array_of_foreign_byte_order():
    x = X.astype(X.dtype.newbyteorder())
    with refused(
        TypeError,
        f"array: the byte order must be this machine's, got dtype={x.dtype.str!r}.",
        at=False,
        fix="convert it with x.astype(x.dtype.newbyteorder('=')).",
    ):
        ad.grad(np.sum)(x)


def test_a_tangent_of_another_structure():
    with refused(
        TypeError,
        "jvp: tangents must have the structure of primals, got a dict with keys ['a'] where a dict "
        "with keys ['a', 'b'] was expected at tangents[0].",
        fix="give it the same containers, keys and lengths, with None where there is None.",
    ):
        ad.jvp(lambda p: p["a"], ({"a": X, "b": X},), ({"a": X},))  # here
    _, push = ad.linearize(total, X)
    with refused(
        TypeError,
        "linearize: tangents must have the structure of primals, got a tuple of length 2 where a "
        "tuple of length 1 was expected at tangents.",
        fix="give it the same containers, keys and lengths, with None where there is None.",
    ):
        push(X, X)  # here
    np.testing.assert_array_equal(push(X), 10.0)


def test_a_tangent_of_another_shape_or_type_is_named_by_its_path():
    params = {"w": [X, X]}
    fix = "convert it with .astype, or reshape it."
    with refused(
        TypeError,
        "jvp: tangents must have the shapes and dtypes of primals, "
        "got tangents[0]['w'][1]=float64[3] where float64[2] is expected.",
        fix=fix,
    ):
        ad.jvp(lambda p: p["w"][0], (params,), ({"w": [X, np.ones(3)]},))  # here
    with refused(
        TypeError,
        "jvp: tangents must have the shapes and dtypes of primals, "
        "got tangents[0]['w'][0]=float32[2] where float64[2] is expected.",
        fix=fix,
    ):
        ad.jvp(lambda p: p["w"][0], (params,), ({"w": [X.astype(np.float32), X]},))  # here
    _, push = ad.linearize(lambda p: p["w"][0], params)
    with refused(
        TypeError,
        "linearize: tangents must have the shapes and dtypes of primals, "
        "got tangents[0]['w'][1]=complex128[2] where float64[2] is expected.",
        fix=fix,
    ):
        push({"w": [X, X * 1j]})  # here


def test_primals_or_tangents_that_are_no_tuples():
    with refused(
        TypeError,
        "jvp: primals must be a tuple or list with one entry per argument, "
        "got primals of type ndarray.",
        fix="write primals=(x,).",
    ):
        ad.jvp(total, X, (X,))  # here
    with refused(
        TypeError,
        "jvp: tangents must be a tuple or list with one entry per argument, "
        "got tangents of type ndarray.",
        fix="write tangents=(x,).",
    ):
        ad.jvp(total, (X,), X)  # here


def test_a_cotangent_that_differs_from_the_output():
    _, pull = ad.vjp(lambda x: {"y": x, "z": [x * 2]}, X)
    with refused(
        TypeError,
        "vjp: ct must have the structure of the output, got a leaf where a list of length 1 was "
        "expected at ct['z'].",
        fix="give it the same containers, keys and lengths, with None where there is None.",
    ):
        pull({"y": X, "z": X})  # here
    with refused(
        TypeError,
        "vjp: ct must have the shapes and dtypes of the output, "
        "got ct['z'][0]=float64 where float64[2] is expected.",
        fix="convert it with .astype, or reshape it.",
    ):
        pull({"y": X, "z": [np.array(1.0)]})  # here
    np.testing.assert_array_equal(pull({"y": X, "z": [X]})[0], 3 * X)


def test_a_cotangent_of_a_transposed_function_that_differs():
    transposed = ad.linear_transpose(lambda x: 2.0 * x, X)
    with refused(
        TypeError,
        "linear_transpose: ct must have the shapes and dtypes of the output, "
        "got ct=float64[3] where float64[2] is expected.",
        fix="convert it with .astype, or reshape it.",
    ):
        transposed(np.ones(3))  # here
    np.testing.assert_array_equal(transposed(X)[0], 2 * X)


def test_the_transpose_of_a_function_that_is_not_linear():
    def f(x):
        return np.sin(x)  # here

    with refused(
        ad.MissingRuleError,
        "sin: it is not linear in an operand that must enter linearly.",
        fix="use vjp, which linearizes first, in place of linear_transpose.",
    ):
        ad.linear_transpose(f, X)(X)


@pytest.mark.parametrize("name", ["grad", "value_and_grad", "jvp", "vjp", "linearize", "jacrev"])
def test_aux_without_a_pair(name):
    call = {
        "grad": lambda: ad.grad(total, has_aux=True)(X),  # here
        "value_and_grad": lambda: ad.value_and_grad(total, has_aux=True)(X),  # here
        "jvp": lambda: ad.jvp(total, (X,), (X,), has_aux=True),  # here
        "vjp": lambda: ad.vjp(total, X, has_aux=True),  # here
        "linearize": lambda: ad.linearize(total, X, has_aux=True),  # here
        "jacrev": lambda: ad.jacrev(total, has_aux=True)(X),  # here
    }[name]
    with refused(
        TypeError,
        f"{name}: with has_aux=True the function must return a pair (output, aux), "
        "got output of type Tracer.",
        fix="return (output, aux), or leave has_aux out.",
    ):
        call()


@pytest.mark.parametrize("name", ["grad", "jvp", "vjp", "jit", "vmap", "eval_shape", "jacfwd"])
def test_an_output_that_is_no_array_is_named_by_its_path(name):
    def f(x):
        return {"loss": [x, "text"]}

    call = {
        "grad": lambda: ad.grad(f)(X),  # here
        "jvp": lambda: ad.jvp(f, (X,), (X,)),  # here
        "vjp": lambda: ad.vjp(f, X),  # here
        "jit": lambda: ad.jit(f)(X),  # here
        "vmap": lambda: ad.vmap(f)(X),  # here
        "eval_shape": lambda: ad.eval_shape(f, X),  # here
        "jacfwd": lambda: ad.jacfwd(f)(X),  # here
    }[name]
    with refused(
        TypeError,
        f"{name}: every leaf of the output of f must be an array or a number, "
        "got output['loss'][1]='text' of type str.",
        fix="return arrays only; with has_aux=True other values may go into aux.",
    ):
        call()


def test_the_users_own_errors_pass_unchanged():
    def f(x):
        raise RuntimeError("mine")

    for transform in (ad.grad, ad.jit, ad.vmap, ad.jacfwd, ad.hessian):
        with pytest.raises(RuntimeError, match=r"^mine$"):
            transform(f)(X)
