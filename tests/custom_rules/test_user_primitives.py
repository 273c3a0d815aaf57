"""primitive: declared operations under every transformation, and declarations that fail."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special

import autodiff as ad
import autodiff.numpy as anp
from autodiff.ir.primitive import array_functions, primitives
from tests.composition.transformations import TRANSFORMED, check_composition

X = np.array([0.3, -0.7, 1.1])


def close(found, expected, rtol=1e-12):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-14)


@pytest.fixture(autouse=True)
def _registry():
    """Leave the registry as it was."""
    kept = dict(primitives), dict(array_functions)
    yield
    for table, before in zip((primitives, array_functions), kept, strict=True):
        table.clear()
        table.update(before)


def softsign():
    return ad.primitive(
        "user_softsign",
        lambda x: x / (1.0 + np.abs(x)),
        doc="x / (1 + |x|).",
        jvp=lambda t, out, x: t / (1.0 + np.abs(x)) ** 2,
        replace=True,
    )


def host_dot(batch="sequential", calls=None):
    """Return a bilinear host function: the product of a matrix and a vector, times a factor."""

    def dot(a, b, *, factor=1.0):
        if calls is not None:
            calls.append(a.shape)
        return factor * np.einsum("...ij,...j->...i", a, b)

    return ad.primitive(
        "user_dot",
        dot,
        doc="A matrix times a vector.",
        type_rule=lambda a, b, factor=1.0: (a.shape[:-1], a.dtype),
        jvp=(
            lambda t, out, a, b, factor=1.0: factor * (t * b[..., None, :]).sum(-1),
            lambda t, out, a, b, factor=1.0: factor * (a * t[..., None, :]).sum(-1),
        ),
        transpose=(
            lambda ct, a, b, factor=1.0: factor * ct[..., None] * b[..., None, :],
            lambda ct, a, b, factor=1.0: factor * (a * ct[..., None]).sum(-2),
        ),
        batch=batch,
        replace=True,
    )


MATRIX = np.arange(6.0).reshape(2, 3) / 7.0


# Elementwise --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRANSFORMED)
def test_an_elementwise_expression_composes(name):
    check_composition((name,), softsign(), X)
    check_composition(("jit", "vmap", name), softsign(), X)


def test_an_elementwise_expression_has_derivatives_of_every_order():
    f = softsign()
    close(f(X), X / (1 + abs(X)))
    close([ad.grad(f)(0.5), ad.grad(ad.grad(f))(0.5)], [1 / 1.5**2, -2 / 1.5**3])
    close(ad.jacfwd(ad.jacfwd(ad.jacfwd(f)))(0.5), 6 / 1.5**4)


def test_operands_broadcast_and_are_promoted_inside_a_trace_as_outside():
    f = ad.primitive(
        "user_hypotenuse",
        lambda x, y: np.sqrt(x * x + y * y),
        doc="The length of a pair.",
        jvp=(lambda t, out, x, y: t * x / out, lambda t, out, x, y: t * y / out),
        dtypes="fc",
    )
    for x, y in [
        (3, 4),
        (np.float32(3), 4.0),
        (np.ones((2, 1), np.float32), np.ones(3, np.float32)),
        (np.ones((2, 1), np.int32), np.ones(3, np.float16)),
        ([3.0, 1.0], X[:2]),
    ]:
        plain, traced = f(x, y), ad.jit(f)(x, y)
        assert type(plain) is np.ndarray
        assert (plain.shape, plain.dtype) == (traced.shape, traced.dtype)
        close(plain, traced, rtol=1e-3)
    close(ad.jacrev(f, (0, 1))(3.0, 4.0), (0.6, 0.8))
    grads = ad.grad(lambda x, y: f(x, y).sum(), (0, 1))(np.ones((2, 1)), np.ones(3))
    close(grads[0], np.full((2, 1), 3 / np.sqrt(2)))
    close(grads[1], np.full(3, 2 / np.sqrt(2)))


def test_types_it_is_not_declared_for_are_refused():
    f = softsign()
    with pytest.raises(TypeError, match="user_softsign"):
        ad.jit(f)(1j)
    with pytest.raises(TypeError, match="user_softsign"):
        f(1j)


def test_a_ufunc_can_afterwards_be_called_on_traced_values_itself():
    ufunc = scipy.special.ndtri_exp
    assert ufunc not in array_functions
    ad.primitive(
        "user_ndtri_exp",
        ufunc,
        doc="The inverse of log_ndtr.",
        jvp=lambda t, out, y: t * np.exp(y + 0.5 * out * out) * np.sqrt(2 * np.pi),
    )
    at = -1.3
    eps = 1e-6
    slope = (ufunc(at + eps) - ufunc(at - eps)) / (2 * eps)
    close(ad.grad(ufunc)(at), slope, rtol=1e-8)
    close(ad.vmap(ufunc)(-np.exp(X)), ufunc(-np.exp(X)))


def test_a_ufunc_of_the_library_keeps_its_own_operation():
    before = array_functions[np.sin]
    f = ad.primitive("user_sin", np.sin, doc="Sine.", jvp=lambda t, out, x: 5.0 * t)
    assert array_functions[np.sin] is before
    close(ad.grad(f)(0.3), 5.0)
    close(ad.grad(np.sin)(0.3), np.cos(0.3))


# Host functions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", ["sequential", "vectorized"])
@pytest.mark.parametrize("pair", [(a, b) for a in TRANSFORMED for b in ("vmap", "jit", "vjp")])
def test_a_host_function_composes(pair, batch):
    f = host_dot(batch)
    check_composition(pair, lambda x: f(anp.outer(x[:2], x), np.sin(x), factor=2.0), X[:2])


@pytest.mark.parametrize("batch", ["sequential", "vectorized"])
def test_a_host_function_has_derivatives_of_every_order(batch):
    f = host_dot(batch)
    close(f(MATRIX, X), MATRIX @ X)
    close(ad.jacrev(f, 1)(MATRIX, X, factor=3.0), 3 * MATRIX)
    close(ad.jacfwd(f, 1)(MATRIX, X), MATRIX)
    cross = ad.jacfwd(ad.jacrev(f, 0), 1)(MATRIX, X)
    close(cross, np.einsum("ia,bc->iabc", np.eye(2), np.eye(3)))
    close(ad.linear_transpose(lambda b: f(MATRIX, b), X)(np.ones(2))[0], MATRIX.sum(0))


@pytest.mark.parametrize("batch", ["sequential", "vectorized"])
def test_mapped_derivatives_and_derivatives_of_mapped_functions(batch):
    f = host_dot(batch)
    stack = np.stack([MATRIX, 2 * MATRIX, -MATRIX])
    close(ad.vmap(f, in_axes=(0, None))(stack, X), stack @ X)
    total = ad.grad(lambda b: ad.vmap(f, in_axes=(0, None))(stack, b).sum())
    close(total(X), stack.sum((0, 1)))
    close(ad.jit(total)(X), stack.sum((0, 1)))
    each = ad.vmap(ad.grad(lambda a, b: f(a, b).sum(), (0, 1)), in_axes=(0, None))(stack, X)
    close(each[0], np.broadcast_to(X, (3, 2, 3)))
    close(each[1], stack.sum(1))
    twice = ad.vmap(ad.vmap(f, in_axes=(None, 0)), in_axes=(0, None))
    vectors = np.stack([X, X + 1])
    close(twice(stack, vectors), np.einsum("nij,mj->nmi", stack, vectors))
    weights = np.arange(12.0).reshape(3, 2, 2)
    grads = ad.grad(lambda a, b: (weights * twice(a, b)).sum(), (0, 1))(stack, vectors)
    close(grads[0], np.einsum("nmi,mj->nij", weights, vectors))
    close(grads[1], np.einsum("nmi,nij->mj", weights, stack))
    pushed = ad.jvp(lambda a: twice(a, vectors), (stack,), (stack,))[1]
    close(pushed, np.einsum("nij,mj->nmi", stack, vectors))
    close(ad.vmap(f)(stack[:0], np.ones((0, 3))), np.ones((0, 2)))


def test_how_often_the_function_is_called():
    calls = []
    stack = np.stack([MATRIX] * 4)
    ad.vmap(host_dot("sequential", calls), in_axes=(0, None))(stack, X)
    assert calls == [(2, 3)] * 4
    calls.clear()
    ad.vmap(host_dot("vectorized", calls), in_axes=(0, None))(stack, X)
    assert calls == [(4, 2, 3)]


def test_a_batching_rule_of_one_s_own():
    f = ad.primitive(
        "user_total",
        lambda x: np.float64(x.sum()),
        doc="The sum.",
        type_rule=lambda x: ((), x.dtype),
        not_differentiable="an example",
        batch=lambda size, in_batched, x: (x.sum(axis=1), True),
    )
    close(ad.vmap(f)(MATRIX), MATRIX.sum(1))
    with pytest.raises(ad.MissingRuleError, match="user_total: it has no derivative: an example"):
        ad.grad(f)(X)


def test_several_outputs():
    f = ad.primitive(
        "user_sincos",
        lambda x: (np.sin(x), np.cos(x)),
        doc="Sine and cosine.",
        type_rule=lambda x: (x, x),
        outputs=2,
        jvp=lambda t, out, x: (t * out[1], -t * out[0]),
    )
    close(f(X), (np.sin(X), np.cos(X)))
    for names in (("vjp",), ("jvp",), ("vmap", "grad"), ("grad", "vmap"), ("jvp", "jvp")):
        check_composition(names, f, X)


def test_the_function_gets_arrays_it_cannot_write_into_and_its_result_is_fresh():
    def keeps(x):
        with pytest.raises(ValueError, match="read-only"):
            x[0] = 1.0
        return x

    f = ad.primitive(
        "user_keeps", keeps, doc="The same.", type_rule=lambda x: x, jvp=lambda t, out, x: t
    )
    for g in (f, ad.jit(f)):
        result = g(X)
        assert not np.shares_memory(result, X) and result.flags.writeable
    assert ad.grad(lambda x: f(x).sum())(X.astype(np.float32)).dtype == np.float32


# Declarations -------------------------------------------------------------------------------------


def _jvp(t, out, x):
    return t


GOOD = {"function": lambda x: x * 1.0, "doc": "Nothing.", "jvp": _jvp}
FAILING = {
    "no derivative": {"jvp": None},
    "two answers": {"not_differentiable": "why"},
    "too many rules": {"jvp": (_jvp, _jvp)},
    "a rule that is none": {"jvp": "x"},
    "too many transposes": {"transpose": (_jvp, _jvp)},
    "no sentence": {"doc": " "},
    "no function": {"function": 3},
    "no operands": {"function": lambda: 1.0},
    "any number of operands": {"function": lambda *xs: xs[0]},
    "not elementwise": {"function": lambda x: x.sum()},
    "an expression that fails": {"function": lambda x: x.no_such_thing},
    "unknown types": {"dtypes": "fq"},
    "a generalized ufunc": {"function": np.matmul, "jvp": (_jvp, _jvp)},
    "a type rule that is none": {"type_rule": 3},
    "no outputs": {"type_rule": lambda x: x, "outputs": 0},
    "unknown batching": {"type_rule": lambda x: x, "batch": "parallel"},
}


@pytest.mark.parametrize("case", FAILING)
def test_a_failing_declaration_leaves_nothing_behind_and_the_name_free(case):
    before = dict(primitives), dict(array_functions)
    fields = {**GOOD, **FAILING[case]}
    with pytest.raises((TypeError, AttributeError)):
        ad.primitive("user_case", fields.pop("function"), **fields)
    assert (dict(primitives), dict(array_functions)) == before
    fields = dict(GOOD)
    close(ad.grad(ad.primitive("user_case", fields.pop("function"), **fields))(2.0), 1.0)


def test_a_failing_replacement_keeps_what_there_was():
    ufunc = scipy.special.ndtri_exp
    f = ad.primitive("user_again", ufunc, doc="One.", jvp=lambda t, out, y: 3.0 * t)
    with pytest.raises(TypeError, match="needs jvp"):
        ad.primitive("user_again", lambda x: x, doc="Two.", replace=True)
    close([ad.grad(f)(-1.0), ad.grad(ufunc)(-1.0)], [3.0, 3.0])


def test_one_s_own_operation_can_be_replaced():
    ufunc = scipy.special.ndtri_exp
    ad.primitive("user_again", ufunc, doc="One.", jvp=lambda t, out, y: 3.0 * t)
    with pytest.raises(ValueError, match="replace=True"):
        ad.primitive("user_again", ufunc, doc="Two.", jvp=lambda t, out, y: 4.0 * t)
    f = ad.primitive("user_again", ufunc, doc="Two.", jvp=lambda t, out, y: 4.0 * t, replace=True)
    close([ad.grad(f)(-1.0), ad.grad(ufunc)(-1.0)], [4.0, 4.0])
    ad.primitive("user_again", lambda x: x, doc="Three.", jvp=_jvp, replace=True)
    assert ufunc not in array_functions


@pytest.mark.parametrize("name", ["sin", "two words", "", "lambda", "2x", "naïve", 3])
def test_names_that_are_in_use_or_no_identifiers_are_refused(name):
    before = dict(primitives)
    with pytest.raises(ValueError, match="the name must be"):
        ad.primitive(name, lambda x: x, doc="One.", jvp=_jvp, replace=True)
    assert dict(primitives) == before
