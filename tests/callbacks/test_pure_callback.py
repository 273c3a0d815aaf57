"""pure_callback is what its function is, under every transformation that it allows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import jv

import autodiff as ad

METHODS = ("sequential", "expand_dims", "broadcast_all")
WAYS = {
    "evaluated": {"compile_after": 1_000},
    "compiled": {"compile_after": 0},
    "reference": {"reference": True},
    "checked": {"check": frozenset({"nans"})},
}


@pytest.fixture(params=WAYS)
def way(request):
    """Let graphs run in one of the ways there are."""
    with ad.override(**WAYS[request.param]):
        yield


def bessel(x: Any) -> Any:
    return ad.pure_callback(lambda x: jv(2, x), x, x)


X = np.array([0.5, 1.0, 3.0])


def test_it_is_the_function_untraced_and_in_programs(way):
    np.testing.assert_array_equal(bessel(X), jv(2, X), strict=True)
    for _ in range(2):
        np.testing.assert_array_equal(ad.jit(bessel)(X), jv(2, X), strict=True)
        np.testing.assert_array_equal(ad.jit(lambda x: 2 * bessel(x))(1.0), 2 * jv(2, 1.0))


def test_arguments_and_results_are_trees_in_which_other_things_than_numbers_are_handed_on(way):
    def host(pair, name, *, scale):
        assert name == "text"
        assert type(scale) is np.ndarray
        assert scale.shape == ()
        return {"sum": pair[0] + pair[1]["b"], "count": (3, np.float32(scale))}

    types = {"sum": np.zeros(2), "count": (np.int64(0), np.zeros((), np.float32))}

    @ad.jit
    def f(x, y):
        return ad.pure_callback(host, types, (x, {"b": y}), "text", scale=2.5)

    found = f(np.array([1.0, 2.0]), np.array([10.0, 20.0]))
    np.testing.assert_array_equal(found["sum"], np.array([11.0, 22.0]), strict=True)
    np.testing.assert_array_equal(found["count"][0], np.array(3), strict=True)
    np.testing.assert_array_equal(found["count"][1], np.array(2.5, np.float32), strict=True)


def test_types_may_come_from_eval_shape():
    types = ad.eval_shape(lambda x: (x @ x.T, x > 0), np.zeros((2, 3), np.float32))
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    square, positive = ad.jit(lambda x: ad.pure_callback(lambda x: (x @ x.T, x > 0), types, x))(x)
    np.testing.assert_array_equal(square, x @ x.T, strict=True)
    np.testing.assert_array_equal(positive, x > 0, strict=True)


@pytest.mark.parametrize("method", METHODS)
def test_mapped_it_is_the_loop_over_examples(way, method):
    def host(x, y):
        return np.sum(x, axis=-1) * y, x * y[..., None]

    def f(x, y):
        types = (np.zeros(()), np.zeros(2))
        return ad.pure_callback(host, types, x, y, vmap_method=method)

    x = np.arange(8.0).reshape(4, 2)
    y = np.array([1.0, -1.0, 2.0, 3.0])
    by_loop = [host(a, b) for a, b in zip(x, y, strict=True)]
    for mapped in (ad.vmap(f), ad.jit(ad.vmap(f)), ad.vmap(ad.jit(f))):
        for found, parts in zip(mapped(x, y), zip(*by_loop, strict=True), strict=True):
            np.testing.assert_array_equal(found, np.stack(parts), strict=True)
    shared = ad.vmap(f, in_axes=(0, None))(x, 5.0)
    np.testing.assert_array_equal(shared[1], 5.0 * x, strict=True)
    twice = ad.vmap(lambda b: ad.vmap(lambda a: f(a, b))(x))(y)[1]
    np.testing.assert_array_equal(twice, x[None] * y[:, None, None], strict=True)


def test_the_methods_differ_in_what_the_function_is_given():
    def shapes(method):
        seen = []

        def host(x, y):
            seen.append((x.shape, y.shape))
            return x * y

        def f(x, y):
            return ad.pure_callback(host, x, x, y, vmap_method=method)

        np.testing.assert_array_equal(
            ad.vmap(f, in_axes=(0, None))(np.ones(3), 2.0), 2 * np.ones(3)
        )
        np.testing.assert_array_equal(
            ad.vmap(lambda a: ad.vmap(lambda b: f(a * b, b))(np.ones(2)))(np.ones(3)),
            np.ones((3, 2)),
        )
        return seen

    assert shapes("sequential") == [((), ())] * 9
    assert shapes("expand_dims") == [((3,), (1,)), ((3, 2), (1, 2))]
    assert shapes("broadcast_all") == [((3,), (3,)), ((3, 2), (3, 2))]


def test_no_examples_are_no_calls_and_an_empty_result():
    def refuse(x):
        raise AssertionError("called")

    f = ad.vmap(lambda x: ad.pure_callback(refuse, np.zeros(2, np.float32), x))
    np.testing.assert_array_equal(f(np.zeros(0)), np.zeros((0, 2), np.float32), strict=True)


def test_it_has_no_derivative_and_needs_none_where_no_tangent_reaches_it(way):
    def f(x, y):
        return x * ad.numpy.sum(bessel(y)) + x * bessel(ad.stop_gradient(x))

    value = jv(2, X).sum() + jv(2, 0.7)
    np.testing.assert_allclose(ad.grad(f)(0.7, X), value, rtol=1e-15)
    np.testing.assert_allclose(ad.jvp(lambda x: f(x, X), (0.7,), (2.0,))[1], 2 * value, rtol=1e-15)
    np.testing.assert_allclose(ad.jit(ad.grad(f))(0.7, X), value, rtol=1e-15)


def test_integer_results_have_no_tangent_to_miss():
    def f(x):
        return x[ad.pure_callback(lambda x: np.argmax(x), np.int64(0), x)] ** 2

    np.testing.assert_array_equal(ad.grad(f)(X), [0.0, 0.0, 6.0])


def test_it_is_not_called_where_nothing_uses_it_and_once_for_two_equal_calls():
    calls = []

    def host(x):
        calls.append(x)
        return x + 1.0

    @ad.jit
    def f(x):
        ad.pure_callback(host, x, 3.0 * x)
        return ad.pure_callback(host, x, x) * ad.pure_callback(host, x, x)

    with ad.override(reference=False):
        assert f(1.0) == 4.0
    assert len(calls) == 1


def test_python_may_ask_for_its_value_outside_of_jit():
    def f(x):
        return x * float(ad.pure_callback(lambda x: x + 1.0, x, ad.stop_gradient(x)))

    assert ad.grad(f)(2.0) == 3.0


def test_neither_side_sees_what_the_other_writes_later(way):
    kept = []

    def host(x):
        x *= 2.0
        kept.append(x)
        return x

    f = ad.jit(lambda x: ad.pure_callback(host, x, x))
    x = np.ones(2)
    y = f(x)
    kept[0][:] = 7.0
    np.testing.assert_array_equal(x, np.ones(2))
    np.testing.assert_array_equal(y, 2 * np.ones(2))
    np.testing.assert_array_equal(ad.jit(lambda x: ad.pure_callback(lambda x: X, X, x))(1.0), X)
    assert not np.shares_memory(ad.pure_callback(lambda: X, X), X)


def test_in_loops_and_branches_it_runs_each_time(way):
    def step(carry, x):
        carry = ad.pure_callback(lambda c, x: c * 2.0 + x, carry, carry, x)
        return carry, carry

    carry, rows = ad.jit(lambda x: ad.scan(step, 1.0, x))(np.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(carry, 19.0)
    np.testing.assert_array_equal(rows, [3.0, 8.0, 19.0])
    choose = ad.jit(lambda x: ad.cond(x > 0.0, bessel, lambda x: x, x))
    assert choose(1.0) == jv(2, 1.0)
    assert choose(-1.0) == -1.0


def test_mapped_in_a_loop_it_keeps_its_method():
    seen = []

    def host(c, x):
        seen.append((c.shape, x.shape))
        return c + x

    def f(x):
        def step(carry, _):
            return ad.pure_callback(host, carry, carry, x, vmap_method="expand_dims"), None

        return ad.scan(step, 0.0, length=2)[0]

    np.testing.assert_array_equal(ad.vmap(f)(X), 2 * X)
    assert seen == [((3,), (3,))] * 2


def test_graphs_of_the_same_function_are_equal():
    def host(x):
        return x

    def f(x):
        return ad.pure_callback(host, x, x)

    assert ad.make_graph(f)(X) == ad.make_graph(f)(X)
    assert "pure_callback[call=host types=(float64[3],)" in str(ad.make_graph(f)(X))
